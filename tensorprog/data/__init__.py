"""Data: the bundled digits and sentences, and reading what the command line names as data."""

from tensorprog.data.digits import digit_labels, digits
from tensorprog.data.sentences import sentences
from tensorprog.data.sources import Digits, Source, fit_digits, parse_source, read_array

__all__ = ["Digits", "Source", "digit_labels", "digits", "fit_digits", "parse_source", "read_array", "sentences"]
