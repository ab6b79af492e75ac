"""The NTK's recursion: which tables move, by which rules, and what has no NTK."""

from textwrap import dedent

import pytest
import sympy

from tensorprog import recursion as ir
from tensorprog.errors import ProgramError
from tensorprog.program.build import build
from tensorprog.recursion import Key
from tensorprog.theorem.derive import derive
from tensorprog.theorem.tangent import is_tangent, primal_key, tangent_key, tangents

MLP = """
    program mlp()
    input x : R(d)
    weight U : A(n, d) ~ {u}
    weight W : A(n, n) ~ {w}
    {b}
    vector v : G(n) ~ N(0, 1)
    h := U @ x + b
    g := W @ {phi}(h)
    output y := v.T @ g / sqrt(n)
    """


def made(phi="erf", u="N(0, 1) / sqrt(d)", w="N(0, 2) / sqrt(n)", b="vector b : G(n) ~ N(0, 0)"):
    recursion = derive(build(dedent(MLP.format(phi=phi, u=u, w=w, b=b)).lstrip(), {}, "mlp.netsor"))
    return recursion, tangents(recursion)


def clause(tables, kind, *families):
    (found,) = [t for k, t in tables.items() if primal_key(k).kind == kind and k.families == families]
    return found.clauses[0].value


def test_keys():
    key = Key(ir.MOMENT, "cross", ("s", "s"))
    assert is_tangent(tangent_key(key)) and not is_tangent(key)
    assert primal_key(tangent_key(key)) == key == primal_key(key)


def test_only_cross_tables_move():
    recursion, made_ = made()
    assert made_.output in made_.tables
    assert all(k.stream == "cross" and k.kind != tangent_key(Key(ir.GRAM, "cross", ())).kind for k in made_.tables)
    for key, table in made_.tables.items():
        assert table.axes == recursion.tables[primal_key(key)].axes
        for node in (n for c in table.clauses for n in ir.reads(c.value)):
            assert node.key in made_.tables or node.key in recursion.tables


def test_a_law_gives_its_tangent():
    """A bias that starts at zero has an NTK part, and W ~ N(0, 2) / sqrt(n) gives 1·E + 2·Θ."""
    _, made_ = made()
    h = clause(made_.tables, ir.COVARIANCE, "h", "h")
    assert isinstance(h, ir.Add) and ir.ONE in h.terms
    g = clause(made_.tables, ir.OUTPUT, "y")
    reads = {r.key.kind for r in ir.reads(g)}
    assert any(k.startswith("tangent-") for k in reads) and any(not k.startswith("tangent-") for k in reads)


def test_prices_theorem():
    _, made_ = made("relu")
    nodes = [n for t in made_.tables.values() for c in t.clauses for n in ir.walk(c.value)]
    (pair,) = {n for n in nodes if isinstance(n, ir.PairExpectation)}
    f, g = made_.primitives[pair.f, pair.g]
    assert pair.f == f.diff(pair.z) and pair.g == g.diff(pair.w)
    assert sympy.sympify(f).has(pair.z)


def test_fixed_parameters_do_not_move():
    _, made_ = made(b="fixed vector b : G(n) ~ N(0, 1)")
    assert isinstance(clause(made_.tables, ir.COVARIANCE, "h", "h"), ir.Read)


def test_a_constant_slope_is_a_number():
    def_ = "program p()\ninput x : R(d)\nweight U : A(n, d) ~ N(0, 1) / sqrt(d)\nvector v : G(n) ~ N(0, 1)\n"
    recursion = derive(build(def_ + "h := U @ x\ns := 3 * h\noutput y := v.T @ s / sqrt(n)\n", {}, "p.netsor"))
    nodes = [n for t in tangents(recursion).tables.values() for c in t.clauses for n in ir.walk(c.value)]
    assert not any(isinstance(n, ir.PairExpectation) for n in nodes)


@pytest.mark.parametrize("phi", ["step", "sign"])
def test_jumps_have_no_ntk(phi):
    with pytest.raises(ProgramError, match=rf"{phi}\(z\) jumps"):
        made(phi)


def test_standard_parametrization_has_no_ntk():
    with pytest.raises(ProgramError, match="'W' in the NTK grows like n, the width") as raised:
        made(w="N(0, 2 / n)")
    assert raised.value.line == 4 and raised.value.hint is not None


def test_outputs_that_are_scalars_have_no_ntk():
    source = "program p()\nvector b : G(n) ~ N(0, 1)\noutput m := <b, b> / n\n"
    with pytest.raises(ProgramError, match="no kernel"):
        tangents(derive(build(source, {}, "p.netsor")))


def test_joint_expectations_differentiate_in_every_pair():
    """E[(U x)² erf(V x)²-like products]: one term for each covariance across the runs that moves."""
    source = dedent("""
        program p()
        input x : R(d)
        weight U, V : A(n, d) ~ N(0, 1) / sqrt(d)
        vector v : G(n) ~ N(0, 1)
        a := U @ x
        b := V @ x
        s := tanh(a) * sigmoid(b)
        output y := v.T @ s / sqrt(n)
        """).lstrip()
    recursion = derive(build(source, {}, "p.netsor"))
    tables = tangents(recursion).tables
    value = clause(tables, ir.MOMENT, "s", "s")
    assert isinstance(value, ir.Add) and len(value.terms) == 2
    slopes = {n.f for n in ir.walk(value) if isinstance(n, ir.JointExpectation)}
    a, b = (sympy.Symbol(s, real=True) for s in "ab")
    (joint,) = {
        n
        for c in recursion.tables[Key(ir.MOMENT, "cross", ("s", "s"))].clauses
        for n in ir.walk(c.value)
        if isinstance(n, ir.JointExpectation)
    }
    assert slopes == {joint.f.diff(a), joint.f.diff(b)}
