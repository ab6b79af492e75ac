"""From the text of a neural network to its infinite-width kernels.

import tensorprog as tp

k = tp.load("rnn", var_w=1.5).kernel()
k(x1, x2, "ntk")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorprog.api import Program, build, load, parse
    from tensorprog.errors import ProgramError
    from tensorprog.finite.verify import Verification, verify
    from tensorprog.program.builder import ProgramBuilder

__version__ = "0.1.0"
__all__ = [
    "Program",
    "ProgramBuilder",
    "ProgramError",
    "Verification",
    "__version__",
    "build",
    "load",
    "parse",
    "verify",
]

# Importing the package is fast; the compiler behind these names is imported when one of them is first used.
_HOMES = {
    "Program": "tensorprog.api",
    "build": "tensorprog.api",
    "load": "tensorprog.api",
    "parse": "tensorprog.api",
    "ProgramBuilder": "tensorprog.program.builder",
    "ProgramError": "tensorprog.errors",
    "Verification": "tensorprog.finite.verify",
    "verify": "tensorprog.finite.verify",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
