"""Runtime modules as one stretch of source."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from importlib import resources


def runtime_source(names: Iterable[str], package: str = "tensorprog.expectation.runtime") -> str:
    """The source of the runtime modules and of those they import, each once, imported ones first, without imports.

    The module that takes it up begins with HEADER. Raises FileNotFoundError for an unknown name.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        text = resources.files(package).joinpath(f"{name}.py").read_text(encoding="utf-8")
        tree, lines = ast.parse(text), text.splitlines()
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in imports:
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
                add(node.module)
        title = (ast.get_docstring(tree) or name).splitlines()[0]
        left_out = {n for node in (*imports, tree.body[0]) for n in range(node.lineno, (node.end_lineno or 0) + 1)}
        body = "\n".join(line for n, line in enumerate(lines, 1) if n not in left_out).strip("\n")
        done[name] = f"# {name}: {title}\n\n{body}\n"

    for name in names:
        add(name)
    return "\n\n".join(done.values())


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
