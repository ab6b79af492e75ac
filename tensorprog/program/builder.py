"""Programs put together in Python, for those who have no text: front ends, loops over a list of layers, notebooks.

    b = ProgramBuilder("rnn")
    T, phi = b.parameter("T"), b.parameter("phi", "erf")
    x = b.input("x", "d", {"t": (1, T)})
    U = b.weight("U", "n", "d", scale=1 / call("sqrt", "d"))
    W = b.weight("W", scale=1 / call("sqrt", "n"))
    v = b.vector("v")
    s = b.assign("s", [0], 0)
    with b.loop(t=(1, T)) as t:
        h = b.assign("h", [t], W @ s[t - 1] + U @ x[t])
        b.assign("s", [t], phi(h[t]))
    b.output("y", over("mean", v.T @ s["t"], {"t": (1, T)}) / call("sqrt", "n"))
    program = b.build(T=5)

What is built is what the text `str(b)` gives, in the same way: the tree of the one is the tree of the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tensorprog.language import syntax
from tensorprog.language.placed import placed
from tensorprog.language.terms import Ends, Term, binders, checked_name, expression, name
from tensorprog.program.build import build_tree
from tensorprog.program.ir import Program
from tensorprog.program.parameters import Setting

Axes = Mapping[str, Ends] | None
Indices = Mapping[str, Ends] | Sequence[Any]
"""Of what is assigned: terms and numbers, and {"i": (1, H)} for an index that the assignment runs over itself."""


class ProgramBuilder:
    """A program that grows by one declaration or assignment at a time.

    Each of them gives the term by which the rest of the program names it. `str()` gives the program's text, `tree()`
    its syntax, `build()` the typed program.
    """

    def __init__(self, name: str = "net", comment: str = ""):
        """comment: lines above the program, without `//`. Raises ValueError where the name is none."""
        self.name, self.comment = checked_name(name), comment
        self._parameters: list[syntax.Parameter] = []
        self._blocks: list[list[syntax.Statement]] = [[]]

    # ------------------------------------------------------------ declarations

    def parameter(self, name: str, default: Any = None) -> Term:
        """A parameter of the header: a number, the name of a function, or None where it is left open."""
        self._parameters.append(syntax.Parameter(checked_name(name), None if default is None else expression(default)))
        return _named(name)

    def width(self, name: str, value: Any) -> Term:
        """`width m = 2 * n`."""
        return self._add(name, syntax.Width(checked_name(name), expression(value)))

    def define(self, name: str, function: Callable[..., Any]) -> Term:
        """`def f(x, a = 1) := …`, from a Python function of terms with the arguments and defaults of its signature."""
        signature = inspect.signature(function).parameters.values()
        parameters = tuple(
            syntax.Parameter(checked_name(p.name), None if p.default is p.empty else expression(p.default))
            for p in signature
        )
        body = function(*(_named(p.name) for p in signature))
        return self._add(name, syntax.Definition(checked_name(name), parameters, expression(body)))

    def input(self, name: str, features: Any = "d", axes: Axes = None, *, positions: Any = None) -> Term:
        """`input x[t = 1..T] : R(d)`, or of numbers, C, where features is None.

        positions: the data hold indices from 1 to that, `index(V)`.
        """
        type_ = _type("C") if features is None else _type("R", features)
        type_ = type_ if positions is None else _type("index", positions)
        return self._add(name, syntax.Input((_variable(name, axes),), type_))

    def weight(
        self, name: str, rows: Any = "n", columns: Any = "n", axes: Axes = None, *, fixed: bool = False, **law: Any
    ) -> Term:
        """`weight W[l = 1..L] : A(n, n) ~ N(mean, variance) * scale`; law: mean = 0, variance = 1, scale = None."""
        return self._random("weight", name, _type("A", rows, columns), axes, fixed, **law)

    def vector(self, name: str, width: Any = "n", axes: Axes = None, *, fixed: bool = False, **law: Any) -> Term:
        """`vector b : G(n) ~ N(mean, variance) * scale`; the law as for `weight`."""
        return self._random("vector", name, _type("G", width), axes, fixed, **law)

    def scalar(self, name: str, axes: Axes = None, *, fixed: bool = False, **law: Any) -> Term:
        """`scalar c ~ N(mean, variance) * scale`; the law as for `weight`."""
        return self._random("scalar", name, _type("C"), axes, fixed, **law)

    def _random(
        self,
        kind: str,
        name: str,
        type_: syntax.TypeName,
        axes: Axes,
        fixed: bool,
        mean: Any = 0,
        variance: Any = 1,
        scale: Any = None,
    ) -> Term:
        factor = None if scale is None else expression(scale)
        divides = isinstance(factor, syntax.Binary) and factor.op == "/" and factor.left == syntax.Number("1")
        if divides:
            assert isinstance(factor, syntax.Binary)
            factor = factor.right
        law = syntax.Law(expression(mean), expression(variance), factor, divides)
        return self._add(name, syntax.Random(kind, fixed, (_variable(name, axes),), type_, law))

    # ------------------------------------------------------------ the body

    def assign(self, name: str, indices: Indices, value: Any, type_: tuple[Any, ...] | None = None) -> Term:
        """`name[indices] := value`, with no indices `[]`; type_: an annotation, ("G", "n")."""
        return self._assign(name, indices, value, type_, False)

    def output(self, name: str, value: Any, indices: Indices = (), type_: tuple[Any, ...] | None = None) -> Term:
        """`output name[indices] := value`."""
        return self._assign(name, indices, value, type_, True)

    def _assign(self, name: str, indices: Indices, value: Any, type_: tuple[Any, ...] | None, output: bool) -> Term:
        entries: list[syntax.Expr | syntax.Binder] = []
        for i in [indices] if isinstance(indices, Mapping) else indices:
            entries += binders(i) if isinstance(i, Mapping) else [expression(i)]
        annotation = None if type_ is None else _type(*type_)
        statement = syntax.Assignment(checked_name(name), tuple(entries), expression(value), annotation, output)
        return self._add(name, statement)

    @contextmanager
    def loop(self, **ranges: Ends) -> Iterator[Any]:
        """`for t = 1..T:` with what is assigned inside; gives the term of the index, or a tuple of several."""
        block: list[syntax.Statement] = []
        self._blocks.append(block)
        try:
            terms = tuple(map(_named, ranges))
            yield terms[0] if len(terms) == 1 else terms
        finally:
            self._blocks.pop()
        self._blocks[-1].append(syntax.For(binders(ranges), tuple(block)))

    def _add(self, name: str, statement: syntax.Statement) -> Term:
        self._blocks[-1].append(statement)
        return _named(name)

    # ------------------------------------------------------------ the program

    def tree(self) -> syntax.ProgramText:
        """The program's syntax."""
        if len(self._blocks) > 1:
            raise ValueError("a loop is still open: build the program behind its `with`")
        return syntax.ProgramText(self.name, tuple(self._parameters), tuple(self._blocks[0]), self.comment)

    def __str__(self) -> str:
        return placed(self.tree())[0]

    def __repr__(self) -> str:
        return f"<ProgramBuilder {self.name}>"

    def build(self, filename: str = "<built program>", /, **settings: Setting) -> Program:
        """The typed program, with parameters set, as `tensorprog.program.build.build` gives it for the text.

        Raises ProgramError, placed in the text that the program prints as, for whatever is wrong with it.
        """
        text, tree = placed(self.tree())
        return build_tree(tree, settings, text, filename)


def _named(text: str) -> Term:
    return name(text)


def _variable(name: str, axes: Axes) -> syntax.Variable:
    return syntax.Variable(checked_name(name), binders(axes or {}))


def _type(kind: str, *arguments: Any) -> syntax.TypeName:
    return syntax.TypeName(kind, tuple(map(expression, arguments)))
