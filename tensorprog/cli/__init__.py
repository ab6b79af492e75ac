"""The command line, `tpc`: a module for each verb, and `main`, which turns errors into sentences and exit statuses."""

from tensorprog.cli.entry import main

__all__ = ["main"]
