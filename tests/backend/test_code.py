"""Trees of code and their printer: Python reads the print back as the same tree."""

import ast
import random

import numpy as np
import pytest
import sympy

from tensorprog.backend.code import tree as t
from tensorprog.backend.code.arrays import aligned, chosen, product_of, sum_of, summed, transposed
from tensorprog.backend.code.integers import bound, integer
from tensorprog.backend.code.printer import expression, lines
from tensorprog.backend.code.reading import Holes, formula, parsed
from tensorprog.index.affine import Affine, quotient, remainder
from tensorprog.index.bounds import maximum

# ---------------------------------------------------------------- the printer


class Trees:
    """Random trees, each with the tree of Python's own `ast` that stands for it, made from the same draws."""

    def __init__(self, seed: int):
        self.draw = random.Random(seed)

    def leaf(self) -> tuple[t.Expr, ast.expr]:
        name, number = self.draw.choice("abxyz"), self.draw.choice((0, 7, 2.5, 1e-7, "text", None, True))
        if self.draw.random() < 0.6:
            return t.Name(name), ast.Name(name)
        return t.Literal(number), ast.Constant(number)

    def tree(self, depth: int) -> tuple[t.Expr, ast.expr]:
        if depth == 0:
            return self.leaf()
        one, two, three = (self.tree(depth - 1 - self.draw.randrange(depth)) for _ in range(3))
        (a, x), (b, y), (c, z) = one, two, three
        kind = self.draw.randrange(17)
        arithmetic = {"+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div, "//": ast.FloorDiv, "%": ast.Mod,
                      "**": ast.Pow, "&": ast.BitAnd, "|": ast.BitOr}  # fmt: skip
        op = self.draw.choice(list(arithmetic))
        match kind:
            case 0:
                return t.Call(a, (b, c), (("key", a),)), ast.Call(x, [y, z], [ast.keyword("key", x)])
            case 1:
                return t.Index(a, (b, t.Slice(None, c))), ast.Subscript(x, ast.Tuple([y, ast.Slice(None, z)]))
            case 2:
                return t.Unary("-", a), ast.UnaryOp(ast.USub(), x)
            case 3:
                return t.Unary("not", a), ast.UnaryOp(ast.Not(), x)
            case 4:
                return t.Compare(a, (("<", b), (">=", c))), ast.Compare(x, [ast.Lt(), ast.GtE()], [y, z])
            case 5:
                # Operands that are of the same kind would be one with their parent to Python, and not to us.
                return t.Logic("and", (a, b, c)), ast.BoolOp(ast.And(), [x, y, z])
            case 6:
                return t.Logic("or", (a, b)), ast.BoolOp(ast.Or(), [x, y])
            case 7:
                return t.Conditional(a, b, c), ast.IfExp(y, x, z)
            case 8:
                return t.Lambda(("a", "b"), c), ast.Lambda(arguments("a", "b"), z)
            case 9:
                loop = ast.comprehension(ast.Name("i"), y, [z], 0)
                return t.Comprehension(a, (t.Each("i", b),), c), ast.ListComp(x, [loop])
            case 10:
                loop = ast.comprehension(ast.Name("i"), y, [], 0)
                body = t.Comprehension(a, (t.Each("i", b),), lazy=True)
                return t.Call(c, (body,)), ast.Call(z, [ast.GeneratorExp(x, [loop])], [])
            case 11:
                return t.TupleOf((a,)), ast.Tuple([x])
            case 12:
                return t.ListOf((a, t.Star(b))), ast.List([x, ast.Starred(y)])
            case 13:
                return t.DictOf(((a, b),)), ast.Dict([x], [y])
            case 14:
                return t.Array(t.Attribute(t.Call(a, ()), "shape"), ("n",)), ast.Attribute(ast.Call(x, [], []), "shape")
        return t.Binary(op, a, b), ast.BinOp(x, arithmetic[op](), y)


def arguments(*names: str) -> ast.arguments:
    return ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])


@pytest.mark.parametrize("seed", range(400))
def test_python_reads_the_tree_that_was_printed(seed):
    own, wanted = Trees(seed).tree(5)
    # Of the two operands of a Binary, Python's reader is asked, not ours: nothing but `ast` has a say here.
    found = ast.parse(expression(own), mode="eval").body
    assert ast.dump(found, indent=1) == ast.dump(loaded(wanted), indent=1)


def loaded(e: ast.expr) -> ast.expr:
    """With the contexts that Python's reader fills in."""
    for node in ast.walk(e):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript | ast.Starred | ast.List | ast.Tuple):
            node.ctx = ast.Load()
        if isinstance(node, ast.comprehension):
            node.target.ctx = ast.Store()
    for node in ast.walk(e):
        if isinstance(node, ast.comprehension):
            node.target = ast.Name(node.target.id, ast.Store())
    return e


@pytest.mark.parametrize("seed", range(50))
def test_text_becomes_a_tree_and_text_again(seed):
    _, wanted = Trees(seed).tree(4)
    text = ast.unparse(loaded(wanted))
    assert ast.dump(ast.parse(expression(parsed(text)))) == ast.dump(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "a - (b - c)", "a * (b + c)", "-a**2", "(-a)**2", "(a if b else c) + 1", "f(x for x in y)", "x[:, None, 1:n]",
        "lambda x: x + 1", "(1).real", "(1,)", "not a == b", "(a == b) & (c == d)", "a if b else c if d else e",
        "[x for x in (a if b else c) if d]", "2**-x", "(a, *b)", "x[::-1]",
    ],
)  # fmt: skip
def test_no_parentheses_but_those_that_are_needed(text):
    assert expression(parsed(text)) == text


def test_statements():
    body = (
        t.Comment("of one step"),
        t.let(t.TupleOf((t.Name("a"),)), "carry"),
        t.If(t.compare("a", "<", -1), (t.Return(t.TupleOf(())),)),
        t.For("i", t.counting(t.Literal(0), t.Name("n")), (t.Do(t.call("pieces.append", "i")),)),
        t.Blank(),
        t.If(t.Name("b"), ()),
        t.let("table", t.TupleOf((t.Name("a"), t.Name("b")), tall=True)),
        t.let("empty", t.DictOf(((t.text("a"), t.Name("b")),), tall=True)),
        t.Return(t.tree(("a", 1))),
    )
    step = t.Def("step", ("carry", "t"), body, ("What one step does,", "in two lines."), (t.Name("cache"),))
    assert (
        "\n".join(lines([step]))
        == '''\
@cache
def step(carry, t):
    """What one step does,
    in two lines."""
    # of one step
    a, = carry
    if a < -1:
        return ()
    for i in range(0, n + 1):
        pieces.append(i)

    if b:
        pass
    table = (
        a,
        b,
    )
    empty = {
        'a': b,
    }
    return a, 1'''
    )


# ---------------------------------------------------------------- integers, text from elsewhere


def test_integers_have_the_values_of_their_forms():
    T, i = Affine.symbol("T"), Affine.symbol("i")
    forms = [
        T - 1, -i, i * -2 + 3, Affine(-4), T - i * 3 + 1, quotient(T - 1, 2) * 3 - i,
        remainder(i + 2, T) + 1, -quotient(T, 3),
    ]  # fmt: skip
    for form in forms:
        for values in ({"T": 7, "i": 3}, {"T": 4, "i": 9}):
            assert eval(expression(integer(form, t.Name)), dict(values)) == form.evaluate(values)
    assert expression(integer(T - 1, t.Name)) == "T - 1"
    assert expression(integer(-i + T, t.Name)) == "T - i"
    assert expression(bound(maximum(T, i), t.Name)) == "max(T, i)"


def test_formulas_hold_trees_where_symbols_were():
    z, a = sympy.symbols("z a", real=True)
    value = formula(z**2 * a - 1, {z: t.binary("+", "x", "y"), a: t.Unary("-", t.Name("b"))})
    assert eval(expression(value), {"x": 2.0, "y": 1.0, "b": 5.0}) == -46
    assert t.is_number(formula(sympy.Rational(-1, 2), {}).left) and not t.is_number(value)


def test_holes_are_one_for_equal_trees():
    holes = Holes()
    assert holes(t.Name("x")) == holes(t.Name("x")) != holes(t.Name("y"))
    assert expression(holes.filled(f"f({holes(t.Name('y'))}, x)")) == "f(y, x)"


def test_a_sum_takes_away_what_begins_with_a_minus():
    terms = [t.Unary("-", t.Name("a")), t.binary("*", t.Unary("-", t.Name("b")), "c"), t.binary("-", "d", "e")]
    assert expression(t.added(terms)) == "-a - b * c + d - e"


# ---------------------------------------------------------------- arrays


ORDER = ("n", "m", "s", "t")
SIZES = {"n": 2, "m": 3, "s": 4, "t": 5}


def made(dims: tuple[str, ...], name: str, have: dict) -> t.Array:
    have[name] = np.random.default_rng(len(have)).normal(size=[SIZES[d] for d in dims])
    return t.Array(t.Name(name), dims)


def entries(array: t.Array, have: dict, order=ORDER) -> np.ndarray:
    """The values at all dimensions: what an array is, however it lies."""
    value = eval(expression(aligned(array, order, order)), {"jnp": np, **have})
    return np.broadcast_to(value, [SIZES[d] for d in order])


@pytest.mark.parametrize("dims", [("n",), ("t",), ("s", "n"), ("t", "n", "m"), ("m", "s"), ("t", "s", "m", "n")])
def test_arrays_are_brought_to_dimensions(dims):
    have: dict = {}
    array = made(dims, "x", have)
    wanted = np.einsum(have["x"], [ORDER.index(d) for d in dims], sorted(ORDER.index(d) for d in dims))
    wanted = wanted.reshape([SIZES[d] if d in dims else 1 for d in ORDER])
    np.testing.assert_array_equal(entries(array, have), np.broadcast_to(wanted, [SIZES[d] for d in ORDER]))


def test_what_is_chosen_or_summed_is_brought_to_dimensions_in_its_pieces():
    for test in (True, False):
        have: dict = {"test": test}
        x, y = made(("t", "n"), "x", have), made(("s",), "y", have)
        either = chosen(x, t.Name("test"), t.Array(t.Literal(0)), ORDER)
        three = summed(either, [t.Each("i", t.call("range", 3))])
        both = sum_of([product_of([either, y], ORDER), three], ORDER)
        plain = entries(x, have) * test
        np.testing.assert_allclose(entries(both, have), plain * entries(y, have) + 3 * plain)


def test_other_orders_after_an_alignment():
    """An array that was brought to dimensions, and then to those of another order."""
    have: dict = {"test": True}
    x, y = made(("n", "t"), "x", have), made(("s",), "y", have)
    either = chosen(x, t.Name("test"), y, ORDER)
    other = ("t", "s", "m", "n")
    again = transposed(either, other)
    assert again.dims == ("t", "s", "n")
    np.testing.assert_array_equal(entries(again, have, other).transpose(3, 2, 1, 0), entries(either, have))
