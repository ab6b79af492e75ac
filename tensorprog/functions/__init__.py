"""Coordinatewise functions: what they are called, what they are, how they are written.

A function is a file in `library/` that registers itself; an application of it is a sympy expression in real Symbols.
"""

import importlib
import pkgutil

from tensorprog.functions import library as _library
from tensorprog.functions.analysis import Facts, definition, facts, numeric, real
from tensorprog.functions.jax_source import jax_code
from tensorprog.functions.latex_source import latex
from tensorprog.functions.places import polynomial
from tensorprog.functions.registry import Function, lookup, names
from tensorprog.functions.text_source import text

for _module in sorted(module.name for module in pkgutil.iter_modules(_library.__path__)):
    importlib.import_module(f"{_library.__name__}.{_module}")

__all__ = [
    "Facts",
    "Function",
    "definition",
    "facts",
    "jax_code",
    "latex",
    "lookup",
    "names",
    "numeric",
    "polynomial",
    "real",
    "text",
]
