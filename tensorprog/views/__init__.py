"""A recursion for people: text, LaTeX, sympy equations and JSON."""

from __future__ import annotations

import json

from tensorprog.recursion import Recursion
from tensorprog.views import batches, duals, simulated  # noqa: F401  they register what they show
from tensorprog.views.as_json import as_json
from tensorprog.views.equations import equations
from tensorprog.views.latex import latex, latex_document
from tensorprog.views.text import text

__all__ = ["as_json", "equations", "latex", "latex_document", "render", "text"]

FORMATS = ("text", "latex", "json")


def render(recursion: Recursion, fmt: str = "text", get: str = "nngp") -> str:
    """The recursion of the NNGP or the NTK in one of FORMATS.

    Raises ValueError for another format or `get`, ProgramError where there is no NTK.
    """
    if fmt not in FORMATS:
        raise ValueError(f"the format is one of {', '.join(FORMATS)}, not {fmt!r}")
    if fmt == "json":
        return json.dumps(as_json(recursion, get), indent=2, ensure_ascii=False) + "\n"
    return (text if fmt == "text" else latex)(recursion, get)
