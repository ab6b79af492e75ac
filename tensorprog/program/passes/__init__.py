"""Passes: functions Program → Program, or Program → report, one to a module."""
