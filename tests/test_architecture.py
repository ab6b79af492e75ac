"""The house: imports run down, no room is crammed, and nothing imports what stands above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

import tensorprog

PACKAGE = Path(tensorprog.__file__).parent

# From the ground up: a module imports from its own room and from those before it, inside of functions too.
ROOMS = (
    "errors", "resources", "finiteness", "memory", "data", "functions", "language", "index", "naming", "expectation",
    "program", "recursion", "theorem", "views", "settings", "arguments", "output", "plots", "storage", "ragged",
    "backend", "sampling", "lowering", "finite", "report", "api", "", "cli",
)  # fmt: skip

LONGEST_MODULE, LONGEST_CLASS = 600, 300
# What is crammed still, to be split; nothing else may come in.
CROWDED_MODULES = {"expectation.joint", "program.desugar", "program.order"}
CROWDED_CLASSES = {"Kernel", "_Task", "Scope", "_DryRun", "Desugarer", "Reads", "CaseReader"}


def modules() -> dict[str, Path]:
    """Every module by its name within the package; the package itself is ""."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The package's modules that a module imports, within functions too; what is for the type checker alone is not."""
    tree = ast.parse(MODULES[name].read_text())
    checked = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    typing = {inner for n in checked for inner in ast.walk(n)}
    for node in ast.walk(tree):
        if node in typing or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Import):
            targets = [a.name for a in node.names]
        else:
            base = node.module or ""
            if node.level:
                here = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
                above = here[: len(here) - node.level + 1]
                base = ".".join(("tensorprog", *above, *([node.module] if node.module else [])))
            targets = [f"{base}.{a.name}" if _inside(f"{base}.{a.name}") else base for a in node.names]
        yield from {_within(t) for t in targets if _inside(t)}


def _within(target: str) -> str:
    return target.removeprefix("tensorprog").removeprefix(".")


def _inside(target: str) -> bool:
    return target.split(".")[0] == "tensorprog" and _within(target) in MODULES


def room(name: str) -> str:
    return name.split(".")[0]


def test_every_module_stands_in_a_room():
    assert {room(name) for name in MODULES} <= set(ROOMS)


def test_imports_run_down():
    height = {r: k for k, r in enumerate(ROOMS)}
    upwards = [
        f"{name or 'tensorprog'} imports {target}"
        for name in MODULES
        for target in imports(name)
        if height[room(target)] > height[room(name)]
    ]
    assert not upwards


def test_no_circles():
    graph = nx.DiGraph((name, target) for name in MODULES for target in imports(name) if name != target)
    assert [sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1] == []


def test_an_import_upwards_would_be_found():
    """The test's own eyes: these arrows are there, the one within a function as well."""
    assert "recursion.nodes" in set(imports("theorem.derive")) | set(imports("recursion"))
    assert "report" in set(imports("api"))
    assert "program.build" in set(imports("api"))


@pytest.mark.parametrize("kind", ["modules", "classes"])
def test_no_room_is_crammed(kind):
    long = set()
    for name, path in MODULES.items():
        text = path.read_text()
        if kind == "modules":
            long |= {name} if len(text.splitlines()) > LONGEST_MODULE else set()
        else:
            classes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ClassDef)]
            long |= {c.name for c in classes if (c.end_lineno or 0) - c.lineno >= LONGEST_CLASS}
    assert long <= (CROWDED_MODULES if kind == "modules" else CROWDED_CLASSES)
