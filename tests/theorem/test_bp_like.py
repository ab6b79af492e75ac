"""Whether a program is BP-like, by which vectors, and what is said where it is not."""

from textwrap import dedent

import pytest
import sympy

from tensorprog.functions import lookup
from tensorprog.language.printer import print_program
from tensorprog.program.build import build
from tensorprog.resources import bundled_programs
from tensorprog.theorem.bp_like import analyse
from tensorprog.theorem.bp_like.parity import EVEN, INDEPENDENT, NEITHER, ODD, ZERO, Parity, join, parity, times


def of(text, **settings):
    return analyse(build(dedent(text).lstrip("\n"), settings, "p.netsor"))


# ---------------------------------------------------------------- bundled programs

NETSOR = [
    *("mlp", "resnet", "rnn", "rnn_avgpool", "gru", "lstm"),
    *("batchnorm", "cnn_flat", "cnn_pool", "gcn", "transformer"),
    *("attention", "batchnorm_phi", "cnn_max", "mgu", "squeeze", "transformer_heads"),
    *("myrtle", "wide_resnet", "cnn_circular", "embedding"),
]


def bundled(name):
    return of(bundled_programs()[name].read_text(encoding="utf-8"))


def test_all_bundled_programs_are_here():
    assert set(bundled_programs()) == {*NETSOR, "tied_autoencoder", "semicircle"}


@pytest.mark.parametrize("name", NETSOR)
def test_programs_without_transposes(name):
    found = bundled(name)
    assert found.holds and not found.transposes and found.witnesses == ()
    assert found.orientation and all(w == named for w, named in found.orientation.items())
    assert "no transpose" in found.reasons[0]
    assert found.simple_gia and "v is drawn independently" in found.simple_gia_reason


def test_the_tied_autoencoder():
    found = bundled("tied_autoencoder")
    assert not found.holds and found.transposes and found.witnesses == () and not found.orientation
    assert found.reasons[0] == "W.T @ z on line 11: z is not odd in v: it does not depend on v"
    assert "independent matrix in place of W.T" in found.reasons[-1]
    assert not found.simple_gia
    assert "v passes" in found.simple_gia_reason
    assert "W @ e on line 10 and W.T @ z on line 11" in found.simple_gia_reason


def test_the_semicircle():
    found = bundled("semicircle")
    assert not found.holds and found.transposes
    assert found.reasons[0] == "W @ x[k-1] on line 9: x[k-1] depends on x0"
    assert not found.simple_gia and "no output is a readout" in found.simple_gia_reason


# ---------------------------------------------------------------- backward passes

MLP = """
    program mlp_backward(depth = 3, phi = relu)
    input  x : R(d)
    weight W1 : A(n, d) ~ N(0, 1) / sqrt(d)
    weight W[l = 2..depth] : A(n, n) ~ N(0, 1) / sqrt(n)
    vector b[l = 1..depth] : G(n) ~ N(0, 1)
    vector v : G(n) ~ N(0, 1)
    h[1] := W1 @ x + b[1]
    for l = 2..depth:
        h[l] := W[l] @ phi(h[l-1]) + b[l]
    dh[depth] := v * D(phi)(h[depth])
    for l = depth-1..1 by -1:
        dh[l] := (W[l+1].T @ dh[l+1]) * D(phi)(h[l])
    output m[l = 1..depth] := <dh[l], dh[l]> / n
    """

RNN = """
    program rnn_backward(T, phi = erf)
    input  x[t = 1..T] : R(d)
    weight U : A(n, d) ~ N(0, 1) / sqrt(d)
    weight W : A(n, n) ~ N(0, 1) / sqrt(n)
    vector b : G(n) ~ N(0, 1)
    vector v : G(n) ~ N(0, 1)
    s[0] := 0
    for t = 1..T:
        h[t] := W @ s[t-1] + U @ x[t] + b
        s[t] := phi(h[t])
    dh[T+1] := 0
    for t = T..1 by -1:
        ds[t] := v / T + W.T @ dh[t+1]
        dh[t] := ds[t] * D(phi)(h[t])
    output m := mean[t = 1..T](<dh[t], dh[t]> / n)
    """


@pytest.mark.parametrize("phi", ["relu", "erf", "tanh", "gelu", "abs", "sigmoid"])
def test_the_backward_pass_of_a_perceptron(phi):
    found = of(MLP, phi=phi)
    assert found.holds and found.transposes
    assert found.witnesses == ("v",)
    assert found.orientation == {"W1": "W1", "W": "W"}
    (reason,) = found.reasons
    assert reason == (
        "W[l+1].T @ dh[l+1] on line 12: dh[l+1] is odd in v; "
        "W[l] @ phi(h[l-1]) on line 9: phi(h[l-1]) does not depend on v"
    )
    assert not found.simple_gia  # that is a check of the forward pass


def test_the_backward_pass_of_a_recurrent_network():
    found = of(RNN)
    assert found.holds and found.witnesses == ("v",) and found.orientation["W"] == "W"
    assert found.reasons[0].startswith("W.T @ dh[t+1] on line 13: dh[t+1] is odd in v")


def test_which_of_a_matrix_and_its_transpose_is_written_plain_does_not_matter():
    swapped = MLP.replace("W[l+1].T @", "W[l+1] @").replace("W[l] @", "W[l].T @")
    found = of(swapped)
    assert found.holds and found.witnesses == ("v",)
    assert found.orientation == {"W1": "W1", "W": "W.T"}
    assert found.reasons[0].startswith("W[l+1] @ dh[l+1] on line 12: dh[l+1] is odd in v; W[l].T @ phi(h[l-1])")


def test_every_matrix_has_its_own_orientation():
    found = body(
        """
        k := Q.T @ phi(g)
        dg := (Q @ (v * D(phi)(k))) * D(phi)(g)
        dh := W.T @ dg
        """
    )
    assert found.holds and found.orientation == {"U": "U", "W": "W", "Q": "Q.T"}
    assert len(found.reasons) == 2


def test_the_backward_pass_of_the_tied_autoencoder():
    found = of(
        """
        program tied(phi = relu)
        input  x : R(d)
        weight U : A(n, d) ~ N(0, 1) / sqrt(d)
        weight W : A(n, n) ~ N(0, 1) / sqrt(n)
        vector v : G(n) ~ N(0, 1)
        h := U @ x
        g := W @ phi(h)
        r := W.T @ phi(g)
        dr := v * D(phi)(r)
        dg := (W @ dr) * D(phi)(g)
        dh := (W.T @ dg) * D(phi)(h)
        output m := <dh, dh> / n
        """
    )
    assert not found.holds
    assert found.reasons[:2] == (
        "W.T @ phi(g) on line 8: phi(g) is not odd in v: it does not depend on v",
        "W @ dr on line 10: dr depends on v",
    )


def test_the_core_form_of_a_program_says_the_same():
    for text in (MLP, RNN):
        program = build(dedent(text).lstrip("\n"))
        again = of(print_program(program.text))
        assert again.holds and again.witnesses == ("v",)


# ---------------------------------------------------------------- uses of W.T, one by one

HEAD = """\
program p(s = 1, phi = erf)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W, Q : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
vector b : G(n) ~ N(0, s)
h := U @ x
g := W @ phi(h) + b
"""
OUTPUT = "output y := v.T @ phi(g) / sqrt(n)\n"


def body(text, head=HEAD):
    return of(head + dedent(text) + OUTPUT)


@pytest.mark.parametrize(
    "e",
    [
        "v * D(relu)(g)",
        "v",
        "v ** 3 - sin(v)",
        "v * abs(v)",
        "v * abs(g) + b * 0",
        "sign(v) * g",
        "v / (1 + v ** 2)",
        "relu(v) - relu(-v)",
        "leaky_relu(v) - leaky_relu(-v)",
        "(sigmoid(v) - 1 / 2) * h",
        "gelu(v) - gelu(-v)",
        "max(v, h) + min(v, -h)",
        "tanh(v * g) * cos(v)",
        "(<v, v> / n) * v",
        "(<v, g> / n) * g",
        "layernorm(v * g)",
        "prod[i = 1..3](cos(v)) * v",
        "v * v * v",
    ],
)
def test_what_is_odd(e):
    found = body(f"z := {e}\nr := W.T @ z\n")
    assert found.holds, found.reasons
    assert "v" in found.witnesses and "odd in v" in found.reasons[0]


@pytest.mark.parametrize(
    ("e", "why"),
    [
        ("v * v", "it is even"),
        ("abs(v)", "it is even"),
        ("cos(v) * g", "it is even"),
        ("relu(v)", "it is neither odd nor even"),
        ("relu(v) * v", "it is neither odd nor even"),
        ("v + phi(h)", "it is neither odd nor even"),
        ("sigmoid(v)", "it is neither odd nor even"),
        ("max(v, h)", "it is neither odd nor even"),
        ("prod[i = 1..3](i * v)", "it is neither odd nor even"),
        ("prod[i = 1..3](i * cos(v))", "it is even"),
        ("(<v, v> / n) * phi(g)", "it is even"),
    ],
)
def test_what_is_not_odd(e, why):
    found = body(f"z := {e}\nr := W.T @ z\n")
    assert not found.holds and not found.witnesses
    assert found.reasons[0] == f"W.T @ z on line 10: z is not odd in v: {why}"


def test_a_vector_without_a_name_is_shown_as_it_is_written():
    found = body("r := phi(h) + W.T @ (v * v)\n")
    assert found.reasons[0] == "W.T @ (v * v) on line 9: v * v is not odd in v: it is even"
    found = body("r := phi(h) + W.T @ abs(v)\n")
    assert found.reasons[0] == "W.T @ abs(v) on line 9: abs(v) is not odd in v: it is even"


def test_the_matrix_must_not_multiply_what_depends_on_the_vector():
    found = body("z := W.T @ (v * g)\nr := W @ phi(z)\n")
    assert not found.holds
    assert found.reasons[0] == "W @ phi(z) on line 10: phi(z) depends on v"
    itself = body("z := W.T @ (v * g)\nr := W @ v\n")
    assert itself.reasons[0] == "W @ v on line 10: the matrix multiplies v itself"
    even = body("z := W.T @ (v * g)\nr := W @ (phi(h) * (<v, v> / n))\n")
    assert not even.holds and "depends on v" in even.reasons[0]


def test_a_vector_may_need_others():
    found = body("z := W.T @ ((v + u) * g)\n", HEAD + "vector u : G(n) ~ N(0, 1)\n")
    assert found.holds and found.witnesses == ("v", "u")
    apart = body("z := W.T @ (v * u * g)\n", HEAD + "vector u : G(n) ~ N(0, 1)\n")
    assert apart.holds and apart.witnesses == ("v",)  # in both together it is even


def test_a_bias_will_do():
    """The definition asks for vectors of mean zero that W never sees; b enters g alone here."""
    found = body("r := W.T @ b\n")
    assert found.holds and found.witnesses == ("b",)


def test_many_vectors():
    names = ", ".join(f"u{k}" for k in range(14))
    declared = HEAD + f"vector {names} : G(n) ~ N(0, 1)\n"
    needed = "u1 + u2 + u3"
    found = body(f"z := W.T @ (({needed}) * g)\n", declared)
    assert found.holds and {"u1", "u2", "u3"} <= set(found.witnesses)
    seen = body(f"z := W.T @ (({needed}) * g)\nr := W @ phi({' + '.join(f'u{k}' for k in range(4, 14))})\n", declared)
    assert seen.holds and not set(seen.witnesses) & {f"u{k}" for k in range(4, 14)}
    assert not body(f"z := W.T @ (({needed}) * g)\nr := W @ phi(u1)\n", declared).holds


def test_transposes_alone_are_no_transposes():
    found = of((HEAD + OUTPUT).replace("W @", "W.T @"))
    assert found.holds and found.transposes and not found.witnesses
    assert found.orientation == {"U": "U", "W": "W.T"}
    assert "W.T" in found.reasons[0]
    assert found.simple_gia


def test_a_transpose_of_zero_says_nothing():
    found = body("z := 0 * h\nr := W.T @ z\n")
    assert found.holds and found.transposes and found.orientation["W"] == "W"
    assert found.reasons == ("all that a transpose multiplies is zero",)


def test_a_name_for_a_transpose():
    found = body("V := Trsp(W)\nr := V @ (v * v)\n")
    assert found.reasons[0].startswith("V @ (v * v) on line 10: v * v is not odd in v")
    assert body("V := Trsp(W)\nr := Trsp(V) @ phi(g)\n").transposes is False


def test_a_loop_that_never_runs_breaks_nothing():
    text = dedent(MLP) + "for l = 4..depth:\n    k[l] := W[2].T @ abs(v)\n"
    assert of(text, depth=3).holds
    assert not of(text, depth=4).holds


def test_recursions_through_sums_without_a_first_member():
    """a[1] is a function of a sum over nothing."""
    head = HEAD + "for i = 1..4:\n    a[i] := {f}(sum[j = 1..i-1](a[j]) + W.T @ v)\n"
    assert body("r := W.T @ a[4]\n", head.format(f="tanh")).holds
    assert not body("r := W.T @ a[4]\n", head.format(f="cos")).holds
    alone = HEAD + "for i = 1..4:\n    a[i] := cos(sum[j = 1..i-1](a[j]) + 0 * h) - 1 / 2\n"
    found = body("r := W.T @ a[4]\n", alone)
    assert not found.holds and "does not depend on v" in found.reasons[0]


def test_batches():
    text = """
        program p(B, phi = relu)
        input x[b = 1..B] : R(d)
        weight U : A(n, d) ~ N(0, 1) / sqrt(d)
        weight W : A(n, n) ~ N(0, 1) / sqrt(n)
        vector v : G(n) ~ N(0, 1)
        h[b = 1..B] := U @ x[b]
        g[b = 1..B] := W @ phi(batchnorm[b](h[b]))
        z[b = 1..B] := batchnorm[b]({e})
        r[b = 1..B] := W.T @ z[b]
        output y := mean[b = 1..B](v.T @ g[b]) / sqrt(n)
        """
    assert of(text.format(e="v * g[b]")).holds
    found = of(text.format(e="abs(v) * g[b]"))
    assert found.reasons[0] == "W.T @ z[b] on line 9: z[b] is not odd in v: it is even"


# ---------------------------------------------------------------- means


def test_a_readout_with_a_mean():
    head = HEAD.replace("v : G(n) ~ N(0, 1)", "v : G(n) ~ N(1, 1)")
    found = body("r := W.T @ (v * D(phi)(g))\n", head)
    assert not found.holds
    assert found.reasons[0].startswith("v on line 5 has mean 1")
    assert not found.simple_gia and "line 5 has mean 1" in found.simple_gia_reason
    open_mean = head.replace("N(1, 1)", "N(s, 1)")
    assert body("r := W.T @ (v * D(phi)(g))\n", open_mean).reasons[0].startswith("v on line 5 has mean s")


def test_no_vector_of_mean_zero():
    head = HEAD.replace("N(0, 1)\nvector", "N(1, 1)\nvector").replace("b : G(n) ~ N(0, s)", "b : G(n) ~ N(s, 1)")
    found = body("r := W.T @ abs(v)\n", head)
    assert found.reasons[0].startswith("no vector is declared with mean zero")
    assert [r.split()[0] for r in found.reasons[1:]] == ["v", "b"]
    none = of(
        """
        program p()
        input x : R(d)
        weight U : A(n, d) ~ N(0, 1) / sqrt(d)
        weight W : A(n, n) ~ N(0, 1) / sqrt(n)
        h := U @ x
        r := W.T @ (W @ h)
        output m := <r, h> / n
        """
    )
    assert not none.holds and len(none.reasons) == 1


# ---------------------------------------------------------------- the Simple GIA Check


def test_the_simple_gia_check():
    assert body("r := phi(g)\n").simple_gia
    used = body("r := phi(g) * v\n")
    assert used.holds and not used.simple_gia
    assert used.simple_gia_reason == "the readout v is used elsewhere too, on line 9"
    assert "line 9" in body("r := Q @ v\n").simple_gia_reason
    assert "line 9" in body("output m := <v, g> / n\n").simple_gia_reason
    assert not of(HEAD + "output y := v.T @ (v * g) / sqrt(n)\n").simple_gia
    both = body("k := Q @ phi(g)\nr := Q.T @ phi(k)\n")
    assert not both.simple_gia
    assert "uses Q together with Q.T: Q @ phi(g) on line 9 and Q.T @ phi(k) on line 10" in both.simple_gia_reason


# ---------------------------------------------------------------- the algebra

X, Y, A = sympy.symbols("x y a", real=True)


def test_sums_and_products_agree_with_the_functions():
    for p in Parity:
        for q in Parity:
            arguments = {X: p, Y: q}
            assert times(p, q) == times(q, p) and join(p, q) == join(q, p)
            assert parity(X * Y, arguments) in (times(p, q), ZERO)
            assert parity(X + Y, arguments) == join(p, q)


@pytest.mark.parametrize(
    ("e", "x", "expected"),
    [
        (X, ODD, ODD),
        (X**2, ODD, EVEN),
        (X**2, INDEPENDENT, INDEPENDENT),
        (X**2, NEITHER, NEITHER),
        (sympy.exp(X), EVEN, EVEN),
        (sympy.exp(X), ODD, NEITHER),
        (sympy.exp(X) - sympy.exp(-X), ODD, ODD),
        (sympy.sin(X), ZERO, ZERO),
        (sympy.cos(X), ZERO, INDEPENDENT),
        (1 / X, ZERO, None),
        (A * X, ODD, ODD),
        (A + X, ODD, NEITHER),
        (sympy.sqrt(X**2), ODD, EVEN),
        (X - X, ODD, ZERO),
    ],
)
def test_functions(e, x, expected):
    assert parity(sympy.sympify(e), {X: x}) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, ODD) for name in ("erf", "tanh", "sin", "sign")),
        *((name, EVEN) for name in ("abs", "cos", "square")),
        *((name, NEITHER) for name in ("relu", "gelu", "silu", "softplus", "elu", "leaky_relu")),
        *((name, NEITHER) for name in ("step", "exp", "sigmoid")),
    ],
)
def test_functions_of_the_language(name, expected):
    assert parity(lookup(name).symbolic(X), {X: ODD}) == expected
