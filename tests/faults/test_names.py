"""Names of a program never meet those of the generated source, of Python, or of JAX: renaming changes no kernel."""

import ast
import builtins
import io
import keyword
import re
import tokenize
from pathlib import Path

import jax
import numpy as np
import pytest

import tensorprog as tp
from tensorprog import functions
from tensorprog.index.bounds import bound_symbols, evaluate_bound
from tensorprog.lowering import compiled
from tensorprog.program.types import Position

BUNDLED = sorted(p.stem for p in (Path(__file__).parents[2] / "programs").glob("*.netsor"))
BESIDE = sorted(p.stem for p in (Path(__file__).parent / "programs").glob("*.netsor"))
FEW = ("mlp", "rnn_avgpool")

LANGUAGE = re.findall(
    r"\w+",
    """program input weight vector fixed width def for by output if else and or not scalar index mod n pi A G H C R N U
    D MatMul LinComb Nonlin Moment Trsp sum mean prod max min softmax batchnorm layernorm""",
)
WORDS = re.findall(
    r"\w+",
    """jnp np lax jax lambda N1 N2 run pair kernel params inputs range N x1 x2 left right same move dtype class None
    True import return while float int len zip dict tuple list print self carry take placed math functools partial
    sizes trained path network laws_of members Stack Path i0 z1 a1 z w x y f f1 f2 feature n1 n2 eps jit grad vmap array
    where shape match async await erf_dual PARAMETERS TRAINED INPUTS normals key step_1 carry_1 history_1""",
)
WORDS += [n for n in dir(builtins) if n.islower()] + keyword.kwlist


def own_names(text: str) -> list[str]:
    """What a text declares: parameters, sizes, families, functions and their arguments, indices."""
    program = tp.parse(text).ir
    found = dict.fromkeys(p.name for p in program.parameters)
    found |= dict.fromkeys(program.features)
    found |= dict.fromkeys(w for w in program.widths if w != "n")
    found |= dict.fromkeys(f for f in program.families if re.search(rf"\b{f}\b", text))
    for name, arguments in re.findall(r"def (\w+)\(([^)]*)\)", text):
        found |= dict.fromkeys([name, *(a.split("=")[0].strip() for a in arguments.split(","))])
    found |= dict.fromkeys(re.findall(r"(\w+)\s*=[^=.\]\n]*\.\.", text))
    return [n for n in found if n and not n.isdigit()]


def renamed(text: str, names: dict[str, str]) -> str:
    """The text with other names; a type `H(n)` and a law `N(0, 1)` are not what it declares."""
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"(batchnorm\[.*, )eps(?= = )", r"\1@", text)  # the function's own argument
    changed = re.sub(r"(?<![^.]\.)\b[A-Za-z_]\w*(?!\((?<=[AGHCRN]\())", lambda m: names.get(m[0], m[0]), text)
    return changed.replace("@ = ", "eps = ")


def words_of(source: str) -> list[str]:
    """Every name and short string in generated source, those of its own functions first."""
    tree = ast.parse(source)
    last = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in ("run", "pair", "network", "laws_of")]
    found: dict[str, None] = {}
    for node in (x for part in (*last, tree) for x in ast.walk(part)):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.Attribute(attr=name):
                found[name] = None
            case ast.Constant(value=str() as name) if name.isidentifier():
                found[name] = None
    return list(found)


def chosen(names: list[str], pool: list[str], keep: set[str]) -> dict[str, str]:
    """Another name for each that is not kept, from a pool and as far as it goes, none twice."""
    free = [p for p in dict.fromkeys(pool) if p not in LANGUAGE and p not in functions.names() and p not in names]
    return {n: w for n, w in zip((n for n in names if n not in keep), free, strict=False) if w.isascii()}


ATTRIBUTE = -1


def alike(one: str, two: str) -> bool:
    """Whether two modules differ in names alone.

    Statement by statement, names must follow each other one to one, and what is Python's or JAX's must stay. A name of
    the module itself must follow one name everywhere.
    """
    first, second = (ast.parse(s).body for s in (one, two))
    if len(first) != len(second):
        return False
    defined = {n.name for n in first if isinstance(n, ast.FunctionDef)}
    defined |= {t.id for n in first if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    of_module: dict[str, str] = {}
    for a, b in zip(first, second, strict=True):
        there, back = {}, {}
        left, right = (list(tokens(s, node)) for s, node in ((one, a), (two, b)))
        if [kind for kind, _ in left] != [kind for kind, _ in right]:
            return False
        for (kind, u), (_, v) in zip(left, right, strict=True):
            if kind in (tokenize.OP, tokenize.NUMBER, ATTRIBUTE):
                if u != v:
                    return False
                continue
            if there.setdefault(u, v) != v or back.setdefault(v, u) != u:
                return False
            if u != v and (u in ("jnp", "jax", "lax", "np") or keyword.iskeyword(u) or u in dir(builtins)):
                return False
        for u, v in there.items():
            if u in defined and of_module.setdefault(u, v) != v:
                return False
    return True


def tokens(source: str, node: ast.AST):
    before = ""
    for t in tokenize.generate_tokens(io.StringIO(ast.get_source_segment(source, node)).readline):
        if t.type == tokenize.NAME:
            yield ATTRIBUTE if before == "." else t.type, t.string
        elif t.type in (tokenize.OP, tokenize.NUMBER) or (t.type == tokenize.STRING and len(t.string) < 40):
            yield t.type, t.string
        before = t.string


class Small:
    """A program with small sizes, and its kernels or limits on small data."""

    def __init__(self, text: str, sizes: dict[str, int]):
        settings = {p.name: sizes[p.name] for p in tp.parse(text).ir.parameters if p.name in sizes}
        self.program = tp.parse(text, **settings)

    @property
    def source(self) -> str:
        return compiled(self.program.recursion).module.source

    def numbers(self):
        """Kernels or limits in the order of their declaration, op by op: no renaming compiles anything again."""
        program, rng, data = self.program, np.random.default_rng(0), {}
        for f in program.ir.inputs:
            open_size = 4 if "batchnorm" in str(program) else 3
            ends = [
                evaluate_bound(b, dict.fromkeys(bound_symbols(b), open_size) | program.ir.integers)
                for r in f.ranges
                for b in (r.low, r.high)
            ]
            shape = [high - low + 1 for low, high in zip(ends[::2], ends[1::2], strict=True)]
            if isinstance(f.type, Position):
                data[f.name] = rng.integers(1, 1 + f.type.size.evaluate(program.ir.integers), size=(2, *shape))
            else:
                data[f.name] = rng.normal(size=(2, *shape, *([4] if hasattr(f.type, "size") else [])))
        with jax.disable_jit():
            if program.recursion.output is None:
                return tuple(program.limits(data if data else None).values())
            get = ("nngp", "ntk") if program.ntk_error is None else ("nngp",)
            return tuple(program.kernel(points=251, replicates=2)(data, None, get))


SIZES = {"depth": 2, "L": 2, "heads": 2, "steps": 2, "k": 2, "kmax": 2}


def check_renamings(text: str, ways: int = 4) -> None:
    names = own_names(text)
    open_sizes = {p.name for p in tp.parse(text).ir.parameters if p.kind == "size"}
    sizes = {n: SIZES[n] for n in names if n not in open_sizes and n in SIZES}
    first = Small(text, sizes)
    source, known = first.source, None
    derived = [w for w in words_of(source) if w not in names]
    evens = set(names[::2])
    others = [
        chosen(names, derived[::2] + WORDS, evens),  # those of its own source, such as T1 beside T
        chosen(names, WORDS, set()),  # Python's, JAX's and the runtime's
        chosen(names, derived[1::2] + WORDS, set(names) - evens),
        chosen(names, words_of(source)[::-1], set()),
    ]
    for way in others[:ways]:
        other = Small(renamed(text, way), {way.get(n, n): v for n, v in sizes.items()})
        if not alike(source, other.source):  # another order of operations, as names sort otherwise
            known = known or first.numbers()
            for a, b in zip(known, other.numbers(), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=str(way))


@pytest.mark.parametrize("name", FEW)
def test_names_of_a_bundled_program_do_not_matter(name):
    check_renamings(str(tp.load(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in BUNDLED if n not in FEW])
def test_names_of_other_bundled_programs_do_not_matter(name):
    check_renamings(str(tp.load(name)), ways=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", BESIDE)
def test_names_of_programs_beside_these_tests_do_not_matter(name, text):
    check_renamings(text(name), ways=2)


STRIDED = """program strided(P, Q)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight A : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[p = 1..P] := U @ x[p]
c[i = 1..Q] := A @ relu(h[2*i])
output y := mean[i = 1..Q](v.T @ relu(c[i])) / sqrt(n)
"""


@pytest.mark.parametrize("names", [{}, {"Q": "P1"}, {"Q": "P2"}, {"P": "H", "Q": "H2"}, {"Q": "P_1", "P": "N1"}])
def test_one_size_may_be_called_as_the_other_with_a_number(names):
    program = tp.parse(renamed(STRIDED, names), **{names.get("Q", "Q"): 2})
    assert float(program.kernel()(np.ones((1, 4, 1)), None, "nngp")[0, 0]) == pytest.approx(0.25, abs=1e-12)


def test_a_real_parameter_may_be_called_as_a_size_with_a_number():
    program = tp.parse(
        """program scaled(P, P2 = 3)
input x[p = 1..P] : R(d)
weight U : A(n, d) ~ N(0, 1) * sqrt(P2 / d)
vector v : G(n) ~ N(0, 1)
output y[p = 1..P] := v.T @ (U @ x[p]) / sqrt(n)
"""
    )
    k = program.kernel()
    np.testing.assert_allclose(k(np.ones((1, 2, 1)), None, "nngp")[0, 0], 3 * np.ones((2, 2)), rtol=1e-12)
    np.testing.assert_allclose(k(np.ones((1, 2, 1)), params={"P2": 2.0}).nngp[0, 0], 2 * np.ones((2, 2)), rtol=1e-12)
