"""Passes from programs to programs."""
