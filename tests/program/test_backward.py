"""The backward pass as a program: its text, and its vectors against automatic differentiation of finite networks."""

import random
from textwrap import dedent

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tensorprog.errors import ProgramError
from tensorprog.language.printer import print_program
from tensorprog.language.syntax import Assignment, Binary, For, Transpose
from tensorprog.program.build import build
from tensorprog.program.passes.backward import backward
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Process, Vector
from tensorprog.resources import bundled_programs

from .interpreter import draw, indices, run

PROGRAMS = {name: path.read_text() for name, path in sorted(bundled_programs().items())}
WIDTH = 6


def gradients(program, n, sizes, draws):
    """sqrt(n)·∂output/∂h for all members of all vectors, by bumps that are added to them."""
    (output,) = (f for f in program.outputs if isinstance(f.type, Process))
    all_sizes = {**program.integers, **sizes}
    members = indices(output.ranges, all_sizes)
    values = run(program, n, sizes, draws)
    bumps = {
        (name, i): jnp.zeros_like(value)
        for (name, i), value in values.items()
        if isinstance(program.families[name].type, Vector)
    }

    def outputs(bumps):
        values = run(program, n, sizes, draws, bumps)
        return jnp.stack([values[output.name, o] for o in members])

    return members, jax.jacrev(outputs)(bumps)


def check(text, n=WIDTH, seed=0, **sizes):
    """Every d_h of a program agrees with automatic differentiation, and whatever has a gradient has a d_h."""
    program = build(text)
    both = backward(program)
    readout = next(f for f in program.outputs if isinstance(f.type, Process))
    draws = draw(program, n, sizes, seed)
    values = run(both, n, sizes, draws)
    members, gradient = gradients(program, n, sizes, draws)
    width = next(w for name, w in widths(program, n).items() if name == readout_width(program, readout))
    compared = 0
    for (name, i), g in gradient.items():
        for k, o in enumerate(members):
            key = f"d_{name}", (*o, *i)
            if key not in values:
                assert not np.any(g[k]) or zero(program, name, i, draws, n, sizes), key
                continue
            np.testing.assert_allclose(values[key], np.sqrt(width) * g[k], rtol=1e-10, atol=1e-10, err_msg=str(key))
            compared += 1
    assert compared
    return both


def zero(program, name, i, draws, n, sizes):
    """Whether a vector is a literal zero, which needs no derivative."""
    return not np.any(run(program, n, sizes, draws)[name, i])


def widths(program, n):
    return {name: int(ratio * n) for name, ratio in program.widths.items()}


def readout_width(program, readout):
    for e in subexpressions(readout.clauses[0].value):
        if isinstance(e, Binary) and e.op == "@" and isinstance(e.left, Transpose):
            return program.families[e.left.operand.name].type.width
    raise AssertionError


def body(program):
    """The statements behind the outputs, as text."""
    return print_program(program.text).split("\n\n")[-1]


SIZES = {
    "mlp": {},
    "rnn": {"T": 3},
    "rnn_avgpool": {"T": 3},
    "cnn_flat": {"H": 3, "W": 2},
    "cnn_pool": {"H": 2, "W": 3},
    "gcn": {"P": 3},
    "resnet": {},
    "lstm": {"T": 3},
    "gru": {"T": 3},
    "transformer": {"T": 3},
    "tied_autoencoder": {},
}


@pytest.mark.parametrize("name", SIZES)
def test_bundled_programs_agree_with_automatic_differentiation(name):
    text = PROGRAMS[name].replace("depth = 21", "depth = 3")
    check(text, n=4 if name.startswith("cnn") else WIDTH, **SIZES[name])


@pytest.mark.parametrize("name", SIZES)
def test_what_is_printed_parses_back(name):
    both = backward(build(PROGRAMS[name]))
    text = print_program(both.text)
    again = build(text)
    assert {f.name: f.type for f in again.families.values()} == {f.name: f.type for f in both.families.values()}


@pytest.mark.parametrize("name", [name for name in SIZES if SIZES[name]])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_order_of_execution_holds_at_other_sizes(name, size):
    build(backward(build(PROGRAMS[name])).source, dict.fromkeys(SIZES[name], size))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_shallow_mlp(depth):
    check(PROGRAMS["mlp"].replace("depth = 3", f"depth = {depth}"))


def test_the_text_works_at_another_depth():
    program = build(PROGRAMS["mlp"].replace("phi = relu", "phi = tanh"))
    text = print_program(backward(program).text)
    for depth in (1, 5):
        shallow = build(PROGRAMS["mlp"].replace("phi = relu", "phi = tanh"), {"depth": depth})
        draws = draw(shallow, WIDTH, {}, 0)
        values = run(build(text, {"depth": depth}), WIDTH, {}, draws)
        _, gradient = gradients(shallow, WIDTH, {}, draws)
        np.testing.assert_allclose(values["d_h", (1,)], np.sqrt(WIDTH) * gradient["h", (1,)][0], atol=1e-12)


HEADER = """
program p(T, phi = tanh)
input x[t = 1..T] : R(d)
input a[t = 1..T, u = 1..T] : C
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W, W2 : A(n, n) ~ N(0, 1) / sqrt(n)
weight K[k = -1..1] : A(n, n) ~ N(0, 1) / sqrt(n)
vector b : G(n) ~ N(0, 1)
vector v : G(n) ~ N(0, 1)
"""

LAYER = "g[t = 1..T] := U @ x[t] + b\n"

CASES = {
    "filter": LAYER + "h[t = 1..T] := sum[k = -1..1](K[k] @ (phi(g[t+k]) else 0))",
    "windows": LAYER + "h[t = 1..T] := sum[k = -1..1](K[k] @ (g[t+k] else 0)) + (g[t-1] else 0)",
    "attention": LAYER
    + "c[t = 1..T, u = 1..t] := <g[t], g[u]> / n\nh[t = 1..T] := g[t] + sum[u = 1..t](c[t, u] * g[u])",
    "causal mean": LAYER + "h[t = 1..T] := mean[u = 1..t](phi(g[u]))",
    "graph": LAYER + "h[t = 1..T] := sum[u = 1..T](a[t, u] * g[u])",
    "double sum": LAYER + "h[t = 1..T] := sum[u = 1..T](sum[w = u..T](a[u, w] * g[w] / t))",
    "reversed": LAYER + "h[t = 1..T] := W @ phi(g[T - t + 1])",
    "constant": LAYER + "h[t = 1..T] := W @ g[1] * g[T] + phi(g[t])",
    "recursion": LAYER + "s[0] := b\nfor t = 1..T:\n    s[t] := phi(W @ s[t-1] + g[t])\nh[t = 1..T] := s[t] - s[t-1]",
    "back to front": LAYER
    + "s[T+1] := 0\nfor t = T..1 by -1:\n    s[t] := phi(W @ s[t+1] + g[t])\nh[t = 1..T] := s[t]",
    "two directions": LAYER + "s[0] := 0\nfor t = 1..T:\n    s[t] := phi(W @ s[t-1] + g[t])\n"
    "z[T+1] := 0\nfor t = T..1 by -1:\n    z[t] := phi(W.T @ z[t+1] + s[t])\nh[t = 1..T] := z[t] * s[t]",
    "linear recursion": LAYER + "s[1] := g[1]\ns[t = 2..T] := s[t-1] / 2 + g[t]\nh[t = 1..T] := phi(s[t])",
    "conditions": LAYER
    + "h[t = 1..T] := W @ g[t-1] if t > 1 and not t == 3 else (g[1] - g[t] * g[t] if t == 1 or t == 3 else b)",
    "condition inside": LAYER + "h[t = 1..T] := phi((g[t] if t > 1 else b) * g[1])",
    "convolution of indices": LAYER
    + "h[t = 1..T] := sum[u = 1..T, w = 1..T](g[u] * a[u, w] if u + w == t + 1 else 0) + sum[u = 1..t](g[t-u+1])",
    "strided": LAYER + "q[i = 1..2] := W @ g[2*i - 1]\nh[t = 1..T] := q[1] + phi(q[2]) * b",
    "strided windows": LAYER + "q[i = 1..2] := sum[k = 0..1](K[k] @ g[2*i - 1 + k])\nh[t = 1..T] := q[1] * q[2] + g[t]",
    "several functions": LAYER + "h[t = 1..T] := max(g[t], b, 0) / (1 + g[t]**2) - exp(-g[t]**2) * elu(b, alpha = 0.5)",
    "derivatives": LAYER + "h[t = 1..T] := D(phi)(g[t]) * g[t] + D[2](max)(b, g[t]) * b",
    "definitions": "def f(x, y, s = 2) := s * x * tanh(y)\n"
    + LAYER
    + "h[t = 1..T] := f(g[t], W @ g[t]) + f(b, g[1], s = 3)",
    "same name": LAYER + "for t = 1..T:\n    h[t] := sum[u = 1..t](W @ phi(g[u])) + sum[t = 1..2](g[t])",
    "transposes": "Wt := Trsp(W)\n" + LAYER + "h[t = 1..T] := Wt @ phi(W @ g[t]) + W2.T @ g[t]",
    "two recursions": LAYER + "s[0] := 0\nq[0] := b\nfor t = 1..T:\n    s[t] := phi(W @ q[t-1] + g[t])\n"
    "    q[t] := s[t] * q[t-1] + W2 @ s[t-1]\nh[t = 1..T] := q[t]",
    "triangle": LAYER + "for t = 1..T, u = 1..t:\n    q[t, u] := W @ g[u] + (q[t, u-1] if u > 1 else g[t])\n"
    "h[t = 1..T] := q[t, t] + q[T, t]",
    "unused": LAYER + "z[t = 1..T] := W2 @ g[t]\nh[t = 1..T] := g[t]",
}

OUTPUTS = {
    "family": "output y[t = 1..T] := v.T @ phi(h[t]) / sqrt(n)",
    "mean": "output y := mean[t = 1..T](v.T @ h[t]) / sqrt(n)",
    "difference": "output y[o = 1..2] := 3 * (v.T @ h[o] - v.T @ (h[o+1] else 0) / 2) / sqrt(4 * n)",
}


# Every kind with all positions of the output apart, and with one of the other outputs in turn.
READS = [(case, output) for k, case in enumerate(CASES) for output in ("family", ("mean", "difference")[k % 2])]


@pytest.mark.parametrize(("case", "output"), READS)
def test_kinds_of_reads(case, output):
    both = check(f"{HEADER}{CASES[case]}\n{OUTPUTS[output]}\n", T=4)
    build(print_program(both.text))


@pytest.mark.parametrize("seed", range(25))
def test_random_programs(seed):
    text = random_program(random.Random(seed))
    check(text, n=4, seed=seed, T=3)


def random_program(rng):
    """A few layers over t = 1..T, each a random combination of what stands before it."""
    lines = ["h0[t = 1..T] := U @ x[t] + b"]
    known = ["h0"]
    for k in range(1, rng.randint(3, 5)):
        name = f"h{k}"

        def read(index=None, known=known):
            return f"{rng.choice(known)}[{index or rng.choice(['t', '1', 'T', 'T-t+1'])}]"

        def term():
            return rng.choice(
                [
                    lambda: f"{rng.choice(['W', 'W2', 'W.T'])} @ {read()}",
                    lambda: f"W @ phi({read()})",
                    lambda: f"{read()} * sigmoid({read()})",
                    lambda: f"sum[k = -1..1](K[k] @ ({read('t+k')} else 0))",
                    lambda: f"sum[u = 1..t](a[t, u] * {read('u')})",
                    lambda: f"mean[u = t..T]({read('u')}) / 3",
                    lambda: f"({read('t-1')} if t > 1 else {read('T')})",
                    lambda: f"({read('t+1')} - {read()} else 0)",
                    lambda: f"erf({read()} + 2 * {read()})",
                ]
            )()

        terms = " + ".join(term() for _ in range(rng.randint(1, 3)))
        if rng.random() < 0.4:
            lines += [f"{name}[0] := {rng.choice(['0', 'b'])}", "for t = 1..T:"]
            lines += [f"    {name}[t] := phi(W2 @ {name}[t-1]) + {terms}"]
        else:
            lines.append(f"{name}[t = 1..T] := {terms}")
        known.append(name)
    output = rng.choice(
        [
            f"output y := v.T @ {known[-1]}[T] / sqrt(n)",
            f"output y[t = 1..T] := v.T @ phi({known[-1]}[t]) / sqrt(n)",
            f"output y := sum[t = 1..T](v.T @ ({known[-1]}[t] * {rng.choice(known)}[1]) / t) / sqrt(n)",
        ]
    )
    return "\n".join([HEADER.strip(), *lines, output, ""])


# ---------------------------------------------------------------- texts


def test_the_text_of_rnn():
    assert body(backward(build(PROGRAMS["rnn"]))) == dedent("""\
        for t = T..1 by -1:
            W_T_d_W_s[t_out = 1..T, t] := MatMul(W_T, d_W_s[t_out, t+1]) if t < T else LinComb(0)  : G(n)
            d_s[t_out = 1..T, t] := LinComb((v if t == t_out else 0) + (W_T_d_W_s[t_out, t] if t < T else 0))  : G(n)
            d_h[t_out = 1..T, t] := Nonlin(d_s[t_out, t] * D(phi)(h[t]))  : H(n)
            d_U_x[t_out = 1..T, t] := LinComb(d_h[t_out, t])              : H(n)
            d_W_s[t_out = 1..T, t] := LinComb(d_h[t_out, t])              : H(n)
        d_v[t_out = 1..T] := LinComb(s[t_out])                      : H(n)
        d_b[t_out = 1..T] := LinComb(sum[t = 1..T](d_h[t_out, t]))  : H(n)
        """)


def test_the_text_of_mlp():
    assert body(backward(build(PROGRAMS["mlp"]))) == dedent("""\
        for l = depth..2 by -1:
            d_phi_h[l] := LinComb(v) if l == depth else MatMul(W_T[l+1], d_W_phi_h[l+1])  : G(n)
            d_h[l] := Nonlin(d_phi_h[l] * D(phi)(h[l]))                                   : H(n)
            d_W_phi_h[l] := LinComb(d_h[l])                                               : H(n)
        d_phi_h[1] := LinComb(v) if depth == 1 else MatMul(W_T[2], d_W_phi_h[2])  : G(n)
        d_h[1] := Nonlin(d_phi_h[1] * D(phi)(h[1]))                               : H(n)
        d_W1_x[1] := LinComb(d_h[1])                                              : H(n)
        d_v := LinComb(phi_h[depth])                                              : H(n)
        d_b[l = 1..depth] := LinComb(d_h[l])                                      : H(n)
        """)


def test_the_text_of_a_filter_sums_over_the_filter():
    text = body(backward(build(PROGRAMS["cnn_flat"])))
    assert "sum[a = -1..1, b = -1..1](" in text and "v[i, j] / sqrt(H * W)" in text


def test_indices_of_the_output_come_first_and_keep_their_name():
    text = f"{HEADER}{LAYER}output y[o = 1..T] := v.T @ phi(g[o]) / sqrt(n)\n"
    assert "d_g[o = 1..T, t = 1..T] := Nonlin(d_phi_g[o, t] * D(phi)(g[t]))" in body(backward(build(text)))


def test_names_that_are_taken():
    text = f"{HEADER}{LAYER}d_g[t = 1..T] := phi(g[t])\noutput y := v.T @ d_g[T] / sqrt(n)\n"
    assert {"d_g", "d_g_2", "d_d_g"} <= set(backward(build(text)).families)


def test_constants_and_what_the_output_does_not_reach_have_none():
    text = f"{HEADER}{LAYER}z := W @ b\nc := <g[1], g[1]> / n\noutput y := c * v.T @ g[T] / sqrt(n)\n"
    families = set(backward(build(text)).families)
    assert not {"d_z", "d_c", "d_x", "d_W"} & families and {"d_g", "d_b", "d_v"} <= families


def test_other_widths():
    text = dedent("""\
        program p()
        input x : R(d)
        width m = 4 * n
        weight U : A(m, d) ~ N(0, 1) / sqrt(d)
        weight W : A(n, m) ~ N(0, 1) / sqrt(m)
        vector b : G(m) ~ N(0, 1)
        vector v : G(n) ~ N(0, 1)
        vector u : G(m) ~ N(0, 1)
        h := tanh(U @ x + b)
        g := tanh(W @ h)
        """)
    check(text + "output y := v.T @ g / sqrt(n)\n")
    check(text + "q := W.T @ g\noutput y := u.T @ q / sqrt(m)\n")
    check(text + "q := W.T @ g\noutput y := u.T @ q / sqrt(n)\n")


def test_loops_are_reversed():
    both = backward(build(PROGRAMS["transformer"]))
    loops = [s for s in both.text.statements if isinstance(s, For)]
    assert [b.step is None for b in loops[0].binders] == [True]
    assert [b.step is None for b in loops[1].binders] == [False]
    first = [s for s in loops[1].body[0].body if isinstance(s, Assignment)]
    assert first[-1].name == "d_sum_k"


# ---------------------------------------------------------------- errors


def test_outputs_that_are_numbers_have_no_backward_pass():
    with pytest.raises(ProgramError, match="no output is a readout") as caught:
        backward(build(PROGRAMS["semicircle"], filename="semicircle.netsor"))
    assert str(caught.value).startswith("semicircle.netsor:")


REDUCTIONS = """program reductions(P = 3)
input x[p = 1..P] : R(d)
weight U, W : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
for p = 1..P:
    h[p] := U @ x[p]
    g[p] := W @ x[p]
"""


@pytest.mark.parametrize(
    "value",
    [
        "max[q = 1..P](h[q]) * g[p]",
        "tanh(min[q = 1..P](relu(h[q]) * g[p]))",
        "max[q = 1..P, r = p..P](h[q] + 2 * g[r])",
        "max[a = 0..1](tanh(h[p+a] else 0))",
        "prod[q = 1..P](relu(h[q])) + h[p]",
        "prod[q = 1..p](h[q] * g[p])",
        "softmax[p](h[p]) * h[p]",
        "sum[q = 1..P](softmax[q](h[q] * g[p]) * h[q])",
        "relu(batchnorm[p](h[p], eps = 1/10))",
        "tanh(batchnorm[p](h[p])) * g[p]",
    ],
)
def test_reductions_over_vectors(value):
    check(f"{REDUCTIONS}for p = 1..P:\n    z[p] := {value}\noutput y[p = 1..P] := v.T @ z[p] / sqrt(n)\n")


def test_reductions_without_a_derivative():
    value = "prod[q = 1..P, r = 1..P](h[q] + g[r])"
    with pytest.raises(ProgramError, match="the derivative of prod over several indices") as caught:
        backward(build(f"{REDUCTIONS}z := {value}\noutput y := v.T @ z / sqrt(n)\n"))
    assert caught.value.line == 8


def test_a_readout_without_its_root():
    text = f"{HEADER}{LAYER}output y := v.T @ g[T] / n\n"
    with pytest.raises(ProgramError, match="has no limit"):
        backward(build(text))
