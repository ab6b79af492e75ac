"""How the names of a program stand in generated source, and never meet the names that the source has of its own.

While source is written, a name of the program is enclosed in marks, `ǁhǁ`, which no other identifier contains; what is
made from it keeps them, `cov_ǁhǁ_left`. When all is written, `settled` takes the marks off. Only then is it known which
names the source has of its own, and only a name that would meet one of them, or another program's name, is changed.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import symtable
from collections.abc import Iterator

from tensorprog.index.fresh import underscored

MARK = "ǁ"  # a letter to Python, and in no program
_MARKED = re.compile(rf"\w*{MARK}\w*")


def identifier(name: str) -> str:
    """The identifier, in marks, of a name of the program; a prime, which only derived names have, becomes a 2."""
    return MARK + re.sub(r"\W", "_", name.replace("'", "2")) + MARK


def plain(name: str) -> str:
    """A name without its marks: what people read, and what stands in strings."""
    return name.replace(MARK, "")


def settled(source: str) -> str:
    """The source without marks, each marked name an identifier of its own.

    It stays as it is where nothing else is called so: no other marked name, no keyword, no name that the module
    defines or takes from Python, and none inside a function in which marked names stand. Elsewhere underscores follow.
    """
    marked = dict.fromkeys(_MARKED.findall(source))
    taken = {*keyword.kwlist, *keyword.softkwlist, *_own_names(source)}
    result: dict[str, str] = {}
    # A name of the program itself before those that are made from names.
    for name in sorted(marked, key=lambda n: not (n[0] == n[-1] == MARK and n.count(MARK) == 2)):
        found = plain(name)
        if found[0].isdigit():
            found = f"_{found}"
        found = underscored(found, taken)
        taken.add(found)
        result[name] = found
    return _MARKED.sub(lambda match: result[match.group()], source)


def _own_names(source: str) -> Iterator[str]:
    """Names without marks that a marked one could hide, or be hidden by."""
    yield from dir(builtins)
    table = symtable.symtable(source, "<generated>", "exec")
    yield from table.get_identifiers()
    yield from _global_names(table)
    lines = source.split("\n")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.FunctionDef) and any(
            MARK in line for line in lines[statement.lineno - 1 : statement.end_lineno]
        ):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name):
                    yield node.id
                elif isinstance(node, ast.arg):
                    yield node.arg
                elif isinstance(node, ast.FunctionDef):
                    yield node.name


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    """What the functions of a module take from around them."""
    for child in table.get_children():
        yield from (s.get_name() for s in child.get_symbols() if s.is_global())
        yield from _global_names(child)
