"""Limits by simulation: every program, coordinate by coordinate, with a standard error."""
