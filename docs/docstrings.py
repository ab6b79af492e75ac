"""Docstrings are plain text with backticks: what Markdown would take for emphasis or for a link is escaped."""

import re

import griffe

_CODE = re.compile(r"(`[^`]*`|^ {4,}.*$)", re.MULTILINE)


class PlainDocstrings(griffe.Extension):
    """`(N, *axes, d)` keeps its asterisk, and [i][j] its brackets."""

    def on_object(self, *, obj, **kwargs) -> None:
        if obj.docstring is not None:
            parts = _CODE.split(obj.docstring.value)
            parts[::2] = [re.sub(r"([*_\[\]])", r"\\\1", part) for part in parts[::2]]
            obj.docstring.value = "".join(parts)
