"""Runtime modules as one stretch of source."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from importlib import resources


def runtime_source(names: Iterable[str]) -> str:
    """The source of the runtime modules and of those they import, each once, imported ones first, without imports.

    The module that takes it up begins with HEADER. Raises FileNotFoundError for an unknown name.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        text = resources.files("tensorprog.expectation.runtime").joinpath(f"{name}.py").read_text(encoding="utf-8")
        tree = ast.parse(text)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in imports:
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                add(node.module)
        lines = text.splitlines()
        for node in imports:
            lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)
        docstring = tree.body[0]
        title = ast.get_docstring(tree).splitlines()[0]
        lines[docstring.lineno - 1 : docstring.end_lineno] = [None] * (docstring.end_lineno - docstring.lineno + 1)
        body = "\n".join(line for line in lines if line is not None).strip("\n")
        done[name] = f"# {name}: {title}\n\n{body}\n"

    for name in names:
        add(name)
    return "\n\n".join(done.values())


HEADER = """\
import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
"""
