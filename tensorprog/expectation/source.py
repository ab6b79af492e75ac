"""Runtime modules as one stretch of source."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from importlib import resources


def runtime_source(names: Iterable[str], package: str = "tensorprog.expectation.runtime") -> str:
    """The source of the runtime modules and of those they import, each once, imported ones first, without imports.

    The module that takes it up begins with HEADER. Raises FileNotFoundError for an unknown name.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        imported, text = _module(name, package)
        for other in imported:
            add(other)
        done[name] = text

    for name in names:
        add(name)
    return "\n\n".join(done.values())


@cache
def _module(name: str, package: str) -> tuple[tuple[str, ...], str]:
    """The runtime modules that one imports, and its source without imports, under its title."""
    text = resources.files(package).joinpath(f"{name}.py").read_text(encoding="utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    own = [n.module for n in imports if isinstance(n, ast.ImportFrom) and n.level == 1 and n.module]
    title = (ast.get_docstring(tree) or name).splitlines()[0]
    left_out = {n for node in (*imports, tree.body[0]) for n in range(node.lineno, (node.end_lineno or 0) + 1)}
    body = "\n".join(line for n, line in enumerate(lines, 1) if n not in left_out).strip("\n")
    return tuple(own), f"# {name}: {title}\n\n{body}\n"


HEADER = """\
import functools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
"""
