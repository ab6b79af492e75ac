"""Which function lowers which node. A new lowering is a file in `rules/` that registers itself:

@lowering(ir.Add)
def add(node: ir.Add, at: Context) -> Array: ...
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

Lowering = Callable[[Any, Any], Any]
"""From a node and where it stands to code."""
F = TypeVar("F", bound=Lowering)


class Lowerings:
    """Functions by the types of the nodes that they lower. The modules of `package` are there when one is asked for."""

    def __init__(self, package: str):
        self.package = package
        self.functions: dict[type, Lowering] = {}
        self._complete = False

    def __call__(self, kind: type) -> Callable[[F], F]:
        """Registers what lowers nodes of a type. Raises ValueError where that has a lowering already."""

        def register(function: F) -> F:
            if kind in self.functions:
                raise ValueError(f"{kind.__name__} has a lowering already")
            self.functions[kind] = function
            return function

        return register

    def of(self, kind: type) -> Lowering:
        """What lowers nodes of a type, or of one that it inherits from. Raises LookupError where nothing does."""
        if not self._complete:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._complete = True
        for base in kind.__mro__:
            if base in self.functions:
                return self.functions[base]
        raise LookupError(f"nothing lowers {kind.__name__}")


lowering = Lowerings("tensorprog.backend.lower.rules")
