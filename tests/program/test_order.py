"""The dry run of loops and indices: what is read before it is assigned, assigned twice, out of range."""

import itertools
import time

import numpy as np
import pytest
import sympy

from tensorprog.errors import ProgramError
from tensorprog.index.affine import Affine
from tensorprog.index.ranges import Range
from tensorprog.language import syntax
from tensorprog.language.parser import parse_text
from tensorprog.program import order
from tensorprog.program.build import build
from tensorprog.program.ir import Parameter
from tensorprog.program.order import check_order
from tensorprog.program.scope import Scope
from tensorprog.resources import bundled_programs

PROGRAMS = {name: path.read_text() for name, path in sorted(bundled_programs().items())}

HEADER = """program p(T, H = 3)
input x[t = 1..T] : R(d)
weight W[i = 1..T, j = 1..i] : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
"""
FIRST = HEADER.count("\n") + 1  # the line of the body's first statement


def check(text, ranges=None, **sizes):
    tree = parse_text(text)
    defaults = {
        p.name: int(p.default.text)
        for p in tree.parameters
        if isinstance(p.default, syntax.Number) and p.default.text.isdigit()
    }
    sizes = {**defaults, **sizes}
    parameters = {p.name: Parameter(p.name, "integer", sizes.get(p.name)) for p in tree.parameters}
    scope = Scope(parameters=parameters, widths={"n": sympy.Integer(1)}, ranges=ranges or {})
    check_order(tree.statements, scope, sizes)


def body(text, T=3, **sizes):
    check(HEADER + text, T=T, **sizes)


def mistake(text, T=3, **sizes):
    """The error of a body, with its line (from 1 in the body) and column."""
    with pytest.raises(ProgramError) as caught:
        body(text, T=T, **sizes)
    error = caught.value
    return error.message, error.line - FIRST + 1, error.column


SIZES = {
    "batchnorm": [{"B": 4, "depth": 3}],
    "batchnorm_phi": [{"B": 4, "depth": 3}],
    "cnn_max": [{"P": 5}, {"P": 2, "pool": 1}],
    "squeeze": [{"P": 1}, {"P": 4}],
    "cnn_flat": [{"H": 3, "W": 4, "depth": 2}, {"H": 1, "W": 1, "depth": 3}],
    "cnn_pool": [{"H": 3, "W": 4, "depth": 2}],
    "myrtle": [{"H": 4, "W": 5}, {"H": 9, "W": 7, "depth": 10}],
    "wide_resnet": [{"H": 4, "W": 5, "blocks": 2}, {"H": 1, "W": 3, "blocks": 1}],
    "gcn": [{"P": 5}, {"P": 1, "depth": 4}],
    "mlp": [{"depth": 1}, {"depth": 2}, {"depth": 5}],
    "semicircle": [{"K": 4}, {"K": 0}],
    "tied_autoencoder": [{}],
    "transformer": [{"T": 1}, {"T": 5, "depth": 3}],
}
BUILT = ("cnn_circular", "embedding")  # `mod` is written out, and positions are typed, before the order is checked
ALL = [(name, sizes) for name in PROGRAMS if name not in BUILT for sizes in SIZES.get(name, [{"T": 1}, {"T": 6}])]


@pytest.mark.parametrize(("name", "sizes"), ALL)
def test_bundled_programs_pass(name, sizes):
    check(PROGRAMS[name], **sizes)


MUTATIONS = [
    ("rnn", "s[0] := 0\n", "", "s[0] is out of range: s has t = 1..3 (at t = 1)"),
    ("rnn", "s[0] := 0\n", "s[1] := 0\n", "s[0] is out of range: s has index = 1..3 (at t = 1)"),
    ("rnn", "s[0] := 0\n", "s[-1] := 0\n", "s[0] is read at t = 1 before it is defined"),
    ("rnn", "s[0] := 0\n", "s[0] := 0\ns[0] := 0\n", "s[0] is assigned twice"),
    ("rnn", "x[t] + b", "x[t+1] + b", "x[4] is out of range: x has t = 1..3 (at t = 3)"),
    ("rnn", "W @ s[t-1]", "W @ s[t]", "s[1] is read at t = 1 before it is defined"),
    ("rnn", "for t = 1..T:", "for t = T..1 by -1:", "s[2] is read at t = 3 before it is defined"),
    ("rnn", "for t = 1..T:", "for t = 0..T:", "s[-1] is out of range: s has index = 0..3 (at t = 0)"),
    ("lstm", "h[0] := 0\n", "", "h[0] is out of range: h has t = 1..3 (at t = 1)"),
    ("lstm", "c[0] := 0\n", "c[T] := 0\n", "c[0] is out of range: c has T = 1..3 (at t = 1)"),
    ("mlp", "for l = 2..depth:", "for l = 1..depth:", "W[1] is out of range: W has l = 2..3 (at l = 1)"),
    ("mlp", "for l = 2..depth:", "for l = 3..depth:", "h[2] is read at l = 3 before it is defined"),
    ("mlp", "phi(h[depth])", "phi(h[depth+1])", "h[4] is out of range: h has index = 1..3"),
    ("cnn_flat", "b = -1..1](K[l", "b = -2..1](K[l", "K[2, -1, -2] is out of range"),
    ("cnn_flat", "(x[i+a, j+b] else 0)", "x[i+a, j+b]", "x[0, 0] is out of range: x has i = 1..3, j = 1..3"),
    ("cnn_flat", "(phi(h[l-1, i+a", "(phi(h[l, i+a", "h[2, 1, 1] is read at l = 2, i = 1, j = 1, a = 0, b = 0 before"),
    ("transformer", "sum[j = 1..i]", "sum[j = 1..T]", "a[1, 1, 2] is read at l = 1, i = 1, j = 2 before it is defined"),
    ("transformer", "<k[l, i], k[l, j]>", "<k[l, i], k[l, j+1]>", "k[1, 4] is out of range"),
    ("gcn", "if l == 1", "if l == 2", "W[1] is out of range: W has l = 2..2 (at l = 1, p = 1)"),
]


@pytest.mark.parametrize(("name", "old", "new", "message"), MUTATIONS)
def test_mutations_of_bundled_programs(name, old, new, message):
    text = PROGRAMS[name]
    assert text.count(old) == 1
    with pytest.raises(ProgramError) as caught:
        check(text.replace(old, new), T=3, H=3, W=3, P=3, B=3)
    assert message in caught.value.message


def test_places_and_hints():
    text = "s[0] := 0\nfor t = 1..T:\n    s[t] := tanh(s[t-1]) + s[t+1]\n"
    message, line, column = mistake(text)
    assert (message, line, column) == ("s[2] is read at t = 1 before it is defined", 3, 28)
    with pytest.raises(ProgramError) as caught:
        body(text)
    assert caught.value.hint == f"line {FIRST + 2} assigns it later"
    with pytest.raises(ProgramError) as caught:
        body("s[1] := v\ns[1] := v\n")
    assert caught.value.hint == f"it is assigned in line {FIRST} already"
    with pytest.raises(ProgramError) as caught:
        body("y := x[0]\n")
    assert caught.value.hint == "write ( … else 0 ), which is 0 outside"
    assert mistake("a := v + b\nb := v\n") == ("b is read before it is defined", 1, 10)
    assert mistake("a := tanh(a)\n") == ("a is read before it is defined", 1, 11)


def test_first_mistake_in_order_of_execution():
    # s[9] in the second line is reached at t = 1, x[4] in the first at t = 3 only.
    text = "for t = 1..T:\n    g[t] := (x[t+1])\n    k[t] := g[t+1]\n"
    assert mistake(text)[0] == "g[2] is read at t = 1 before it is defined"
    assert mistake("for t = 1..T:\n    g[t] := x[t+1]\n    g[1] := v\n") == ("g[1] is assigned twice", 3, 5)
    assert mistake("g[2] := v\ng[1] := x[0]\ng[1] := x[4]\n")[0].startswith("x[0] is out of range")


def test_twice_across_loops():
    assert mistake("for t = 1..T:\n    h[2] := v\n") == ("h[2] is assigned twice", 2, 5)
    assert mistake("for t = 1..T:\n    h[t] := v\nh[2] := v\n") == ("h[2] is assigned twice", 3, 1)
    assert mistake("for i = 1..T, j = 1..T:\n    h[i+j] := v\n")[0] == "h[3] is assigned twice"
    # The later statement runs first at t = 1: the second assignment of h[2] is that of the first line at t = 2.
    assert mistake("for t = 1..T:\n    h[t] := v\n    h[t+1] := v\n") == ("h[2] is assigned twice", 2, 5)
    body("for t = 1..T:\n    h[2*t] := v\n    h[2*t+1] := v\n")


def test_index_of_a_target_loops_innermost():
    body("h[1] := v\nh[i = 2..H] := h[i-1]\n")
    body("h[T] := v\nh[i = T-1..1 by -1] := h[i+1]\n")
    assert mistake("h[1] := v\nh[i = H..2 by -1] := h[i-1]\n")[0] == "h[2] is read at i = 3 before it is defined"
    body("h[i = 1..T, j = 1..i] := W[i, j] @ v\n")
    assert mistake("h[i = 1..T, j = 1..T] := W[i, j] @ v\n")[0] == (
        "W[1, 2] is out of range: W has i = 1..3, j = 1..1 (at i = 1, j = 2)"
    )


def test_guards():
    body("g[t = 1..T] := (x[t+1] else 0)\n")
    body("g[t = 1..T] := sum[a = -1..1](x[t+a] else 0)\n")
    # An index inside a sum inside the guard drops the whole sum, with it the undefined g[t-1] as well.
    body("for t = 1..T:\n    h[t] := v\ng[2] := (sum[a = 0..5](h[2+a]) + x[1] else x[1])\n")
    # In range, yet not defined.
    assert mistake("for t = 1..T:\n    g[t] := (g[t+1] else v)\n")[0] == "g[2] is read at t = 1 before it is defined"
    # What follows else is looked up just where it is needed, and is outside the guard.
    assert mistake("g[t = 1..T] := (x[t+1] else x[t+1])\n")[0].startswith("x[4] is out of range")
    body("g[t = 1..T] := (x[t+1] else x[t])\n")
    body("g[t = 1..T] := (x[t+1] else (x[t+2] else 0))\n")
    # The inner guard takes its own; the outer one sees the inner otherwise.
    body("g[t = 1..T] := ((x[t+1] else x[t+1]) else 0)\n")
    assert mistake("for t = 1..T:\n    g[t] := ((x[t+1] else 0) + g[t+1] else 0)\n")[0].startswith("g[2] is read")
    # Nothing is looked up where the guard is out of range.
    body("for t = 1..T:\n    g[t] := (x[t+3] + u[1] else v)\nu[1] := v\n")
    assert mistake("for t = 1..T:\n    g[t] := (x[t+2] + u[1] else v)\nu[1] := v\n")[0].startswith(
        "u[1] is read at t = 1"
    )


def test_conditions():
    body("for t = 1..T:\n    s[t] := v if t == 1 else tanh(s[t-1])\n")
    body("for t = 1..T:\n    s[t] := tanh(s[t-1]) if not (t <= 1 or t < 0) and T == 3 else v\n")
    body("s := x[9] if T > 8 else v\n")
    assert mistake("s := x[9] if T > 2 else v\n")[0].startswith("x[9] is out of range")
    assert mistake("for t = 1..T:\n    s[t] := v if t != 2 else x[t+2]\n")[0].endswith("(at t = 2)")
    body("g[t = 1..T] := x[t+1] if t < T else x[t-1] if t >= T else x[99]\n", T=2)


def test_reductions():
    body("y := sum[t = 5..4](x[t])\n")
    body("y := prod[t = 1..0](x[t])\n")
    assert mistake("y := mean[t = 1..T](x[t])\n", T=0) == ("the mean of nothing", 1, 6)
    message = mistake("for t = 1..T:\n    y[t] := v + max[i = t..2](x[i])\n")
    assert message == ("the max of nothing at t = 3", 2, 17)
    assert mistake("y := min[i = 1..T, j = 1..i-1](x[i])\n", T=1)[0] == "the min of nothing"
    body("y := min[i = 1..T, j = 1..i-1](x[i])\n", T=2)
    body("y[t = 1..T] := v if t == 1 else mean[i = 1..t-1](x[i])\n")
    body("g[t = 1..T] := tanh(x[t])\ny[t = 1..T] := softmax[j = 1..T](g[j])\n")
    # The index of the sum hides the loop's.
    body("for t = 1..T:\n    g[t] := sum[t = 1..2](x[t])\n")
    assert mistake("for t = 1..2:\n    g[t] := sum[t = t+2..4](x[t])\n")[0].endswith("(at t = 4)")


def test_maps_without_a_range_go_over_the_range_of_the_index():
    body("h[b = 1..T] := x[b]\nz[b = 1..T] := batchnorm[b](h[b])\n")
    assert mistake("for b = 1..T:\n    h[b] := x[b]\n    z[b] := batchnorm[b](h[b])\n") == (
        "h[2] is read at b = 2 before it is defined",
        3,
        26,
    )
    text = "for i = 1..T:\n    s[i, j = 1..i] := v\n    a[i, j = 1..i] := softmax[j](s[i, j])\n"
    body(text)
    assert mistake(text.replace("(s[i, j])", "(s[i, j+1])"))[0].startswith("s[1, 2] is")
    # A condition on the index itself leaves some members out, whichever comes first.
    assert mistake(text.replace("(s[i, j])", "(x[j+1]) if j > 1 else v"))[0].endswith("(at i = 3, j = 3)")
    body(text.replace("softmax[j](s[i, j])", "softmax[j](s[i, j]) if j > 1 else v"))
    body("for l = 1..T, j = 1..l:\n    a[l, j] := sum[q = 1..T](softmax[j](x[j]))\n")


def test_all_kinds_of_expressions_are_read():
    for e in (
        "-u[1]", "2 * u[1]", "tanh(u[1])", "D(tanh)(u[1])", "D[2](tanh)(v, u[1])", "elu(v, alpha = u[1])", "<u[1]> / n",
        "<v, u[1]> / n", "W[1, 1].T @ u[1]", "u[1].T @ v / n", "MatMul(W[1, 1], u[1])", "LinComb(v + u[1])",
        "Nonlin(erf(u[1]))", "Moment(u[1])", "layernorm(u[1])", "layernorm(v, eps = u[1])", "sum[i = 1..2](u[i])",
        "batchnorm[i = 1..2](v, eps = u[1])", "(u[1] else 0)", "u[1] if T > 1 else 0", "Trsp(u[1])",
    ):  # fmt: skip
        assert mistake(f"y := {e}\nu[i = 1..2] := v\n")[0].startswith("u[1] is read"), e
    body("Wt[i = 1..T, j = 1..i] := Trsp(W[i, j])\ny := Wt[2, 1] @ v\noutput m := <y, v> / n\n")
    assert mistake("y := W[1, 2].T @ v\n")[0].startswith("W[1, 2] is out of range")


def test_sizes_that_cannot_be_run_are_refused():
    assert mistake("h[t = 1..1000000000] := v\n") == ("this assignment has 1000000000 members", 1, 1)
    assert mistake("for t = 1..T:\n    h[t] := v\n", T=10**9) == ("this loop runs 1000000000 times", 1, 5)
    assert mistake(
        "for t = 1..T:\n    for i = 1..T:\n        for j = 1..5:\n            h[t, i, j] := v\n", T=10**5
    ) == (
        "this loop runs 10000000000 times",
        2,
        9,
    )
    n = 20_000
    assert (
        mistake("for t = 1..T:\n    h[t, i = 1..t] := v\n", T=n)[0] == f"this assignment has {n * (n + 1) // 2} members"
    )
    assert mistake("h[i = 1..T, j = 1..T] := v\n", T=10**30)[0] == f"this assignment has {10**30} members"
    assert mistake("y := sum[i = 1..T, j = 1..T](v)\n", T=10**5) == ("this sum has 10000000000 terms", 1, 6)
    body("for t = 1..0:\n    h[t, j = 1..1000000000] := v\n")
    body("h[1] := v\nh[i = T..T-1] := v\n", T=10**30)
    assert "too large" in mistake("h[i = T..T] := v\n", T=10**30)[0]
    assert "too large" in mistake("h[i = 1..2] := x[T*i]\n", T=10**30)[0]
    with pytest.raises(ProgramError, match="out of range"):
        body("h := x[T+1]\n", T=10**30)


def test_scattered_members_need_no_array_over_the_whole_range():
    text = "h[i = 1..3, j = 1..3] := v\nfor i = 1..3:\n    g[100000*i, 100000*i] := h[i, i]\ny := g[200000, 200000]\n"
    low, high = Affine(100000), Affine(300000)
    hull = {"g": (Range("i", low, high), Range("i_", low, high))}
    check(HEADER + text, ranges=hull, T=3)
    with pytest.raises(ProgramError, match=r"g\[200000, 200001\] is read before it is defined"):
        check(HEADER + text.replace("200000]\n", "200001]\n"), ranges=hull, T=3)
    with pytest.raises(ProgramError, match=r"g\[200000, 200000\] is assigned twice"):
        check(HEADER + text + "g[200000, 200000] := v\n", ranges=hull, T=3)


def test_hull_of_the_scope():
    text = "h[1] := v\nfor l = 2..H:\n    h[l] := v\ny := h[H+1]\n"
    hull = {"h": (Range("l", Affine(1), Affine.symbol("H")),)}
    with pytest.raises(ProgramError, match=r"h\[4\] is out of range: h has l = 1\.\.3"):
        check(HEADER + text, ranges=hull, T=3, H=3)
    # The hull is right for sizes of at least 1; what is assigned beyond counts as well.
    check(HEADER + text, ranges=hull, T=3, H=0)
    hull = {"h": (Range("l", Affine(1), Affine.symbol("L")),)}
    with pytest.raises(ProgramError, match="the size 'L' has no value"):
        check(HEADER + text, ranges=hull, T=3)


def test_integers_of_any_size_as_clock(monkeypatch):
    monkeypatch.setattr(order, "LARGEST", 2**12)
    test_first_mistake_in_order_of_execution()
    test_twice_across_loops()
    check(PROGRAMS["transformer"], T=5, depth=3)


def test_in_pieces(monkeypatch):
    monkeypatch.setattr(order, "_CHUNK", 7)
    for name, sizes in ALL:
        check(PROGRAMS[name], **sizes)
    for mutation in MUTATIONS:
        test_mutations_of_bundled_programs(*mutation)
    test_reductions()
    test_guards()


@pytest.mark.parametrize("dense", [0, 20, 10**6])
def test_hulls_of_a_built_program(dense, monkeypatch):
    monkeypatch.setattr(order, "_DENSE", dense)
    for text in PROGRAMS.values():
        build(text)
    with pytest.raises(ProgramError, match=r"s\[0\] is out of range: s has t = 1\.\.4 \(at t = 1\)"):
        build(PROGRAMS["rnn"].replace("s[0] := 0\n", ""), {"T": 4})
    with pytest.raises(ProgramError, match=r"h\[2\] is assigned twice"):
        build(PROGRAMS["mlp"].replace("h[1] :=", "h[2] := W1 @ x\nh[1] :="))
    with pytest.raises(ProgramError, match=r"s\[2\] is read at t = 3 before it is defined"):
        build(PROGRAMS["rnn"].replace("1..T:", "T..1 by -1:"), {"T": 3})


def test_reductions_too_large_to_follow_are_left_out(monkeypatch):
    monkeypatch.setattr(order, "_PATIENCE", 20)
    body("h[i = 1..T] := sum[j = 1..T](x[j+1])\n", T=5)
    body("h[i = 1..T] := (sum[j = 1..T](x[j+1]) + h[i] else 0)\n", T=5)
    assert mistake("h[i = 1..T] := sum[j = 1..T](x[j+1])\n", T=4)[0].startswith("x[5] is out of range")


def test_repeats():
    rng = np.random.default_rng(0)
    for passes in (rng.integers(0, 5, 40), np.zeros(3, int), np.array([0, 9, 0]), 4):
        count = 40 if isinstance(passes, int) else len(passes)
        pairs = [(k, i) for k in range(count) for i in range(passes if isinstance(passes, int) else passes[k])]
        found = [pair for p, o in order._repeats(passes, count) for pair in zip(p.tolist(), o.tolist(), strict=True)]
        assert found == pairs


class _Slow:
    """The same for sums, guards and one family, an index at a time."""

    def __init__(self, T, shift, step, guard):
        self.T, self.shift, self.step, self.guard = T, shift, step, guard

    def text(self):
        inner = f"(h[i+a, j{self.shift:+d}] else v)" if self.guard else f"h[i+a, j{self.shift:+d}]"
        loop = "1..T" if self.step == 1 else "T..1 by -1"
        return (
            "h[0, j = 0..T+1] := v\n"
            f"for i = 1..T:\n    for j = {loop}:\n        h[i, j] := sum[a = -1..0]({inner}) if j > i else v\n"
        )

    def first_mistake(self):
        T, done = self.T, {(0, j) for j in range(self.T + 2)}
        for i in range(1, T + 1):
            for j in range(1, T + 1)[:: self.step]:
                for a in (-1, 0):
                    at = (i + a, j + self.shift)
                    if j <= i or at in done:
                        continue
                    if 0 <= at[0] <= T and 0 <= at[1] <= T + 1:
                        return f"h[{at[0]}, {at[1]}] is read at i = {i}, j = {j}, a = {a} before it is defined"
                    if not self.guard:
                        place = f"h has index = 0..{T}, j = 0..{T + 1} (at i = {i}, j = {j}, a = {a})"
                        return f"h[{at[0]}, {at[1]}] is out of range: {place}"
                done.add((i, j))
        return None


@pytest.mark.parametrize("case", list(itertools.product((1, 2, 4), (-3, -1, 0, 1, 3), (1, -1), (False, True))))
def test_against_plain_loops(case):
    slow = _Slow(*case)
    expected = slow.first_mistake()
    if expected is None:
        body(slow.text(), T=slow.T)
    else:
        assert mistake(slow.text(), T=slow.T)[0] == expected


@pytest.mark.parametrize(
    ("name", "sizes", "seconds"),
    [("cnn_flat", {"H": 32, "W": 32, "depth": 21}, 5), ("rnn", {"T": 2048}, 2), ("transformer", {"T": 64}, 5)],
)
def test_takes_little_time(name, sizes, seconds):
    start = time.perf_counter()
    check(PROGRAMS[name], **sizes)
    assert time.perf_counter() - start < seconds
