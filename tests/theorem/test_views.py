"""How recursions are printed, and that what is printed is the kernel."""

import json
import re
import shutil
import subprocess
from textwrap import dedent

import numpy as np
import pytest
import sympy

from tensorprog.errors import ProgramError
from tensorprog.program.build import build
from tensorprog.resources import bundled_programs
from tensorprog.theorem.derive import derive
from tensorprog.theorem.tangent import tangents
from tensorprog.theorem.views import as_json, equations, latex, latex_document, render, text
from tensorprog.theorem.views.equations import GaussianExpectation
from tensorprog.theorem.views.formula import broken, mark
from tensorprog.theorem.views.latex import WIDTH, glyphs

OWN = {
    "means": """
        program means(depth = 2, m = 1/2)
        input x : R(d)
        weight U : A(n, d) ~ N(0, 1) / sqrt(d)
        weight W[l = 2..depth] : A(n, n) ~ N(0, 2) / sqrt(n)
        vector b[l = 1..depth] : G(n) ~ N(m, 1/4)
        vector v : G(n) ~ N(0, 1)
        h[1] := U @ x + b[1]
        for l = 2..depth:
            h[l] := W[l] @ erf(h[l-1]) + b[l]
        output y := v.T @ tanh(h[depth]) / sqrt(n)
        """,
    "gated": """
        program gated(T, var_b = 1/10)
        input x[t = 1..T] : R(d)
        input w[t = 1..T] : C
        weight U1 : A(n, d) ~ N(0, 1) / sqrt(d)
        weight W1 : A(n, n) ~ N(0, 1) / sqrt(n)
        fixed vector b : G(n) ~ N(0, var_b)
        vector v : G(n) ~ N(0, 1)
        a[t = 1..T] := U1 @ x[t] + b
        r[t = 1..T] := U1 @ x[t]
        s[t = 1..T] := sigmoid(a[t]) * r[t] + w[t] * a[t]
        h[t = 1..T] := W1 @ s[t]
        c := mean[t = 1..T](<h[t], h[t]> / n)
        e[t = 1..T] := gelu(h[t] / sqrt(c))
        output y[t = 1..T] := v.T @ e[t] / sqrt(n)
        """,
    "residual": """
        program residual(depth = 3, slope_x = 1/10)
        input x : R(d)
        weight W1 : A(n, d) ~ N(0, 1) / sqrt(d)
        weight W[l = 2..depth] : A(n, n) ~ N(0, 1) / sqrt(n)
        vector v : G(n) ~ N(0, 1)
        g[1] := W1 @ x
        z[1] := elu(g[1])
        for l = 2..depth:
            g[l] := W[l] @ z[l-1]
            z[l] := z[l-1] + leaky_relu(g[l], slope = slope_x)
        output y := v.T @ z[depth] / sqrt(n)
        """,
    "shifted": """
        program shifted(T)
        input x[t = 1..T] : R(d)
        weight U, V : A(n, d) ~ N(0, 1) / sqrt(d)
        weight W : A(n, n) ~ N(0, 1) / sqrt(n)
        vector v : G(n) ~ N(0, 1)
        h[t = 1..T] := U @ x[t]
        g[t = 1..T] := V @ x[t] + W @ gelu(h[t]) + (h[t-1] else 0)
        k[t = 1..T] := cos(g[t]) * exp(h[t])
        output y := mean[t = 1..T](v.T @ k[t]) / sqrt(n)
        """,
    "limits": """
        program limits(K = 3)
        input x : R(d)
        input alpha : C
        weight W1 : A(n, d) ~ N(0, 1) / sqrt(d)
        g := W1 @ x
        h := tanh(g)
        m := <h, h> / n
        output o := exp(m) * alpha + <sin(g) * g> / n
        output o2[k = 1..K] := m * k
        """,
}


def recursion_of(name, **settings):
    """The recursion of an own or a bundled program; None where no rule derives it yet."""
    source = dedent(OWN[name]).lstrip() if name in OWN else bundled_programs()[name].read_text(encoding="utf-8")
    try:
        return derive(build(source, settings, f"{name}.netsor"))
    except ProgramError as error:
        if "not derived yet" in str(error):
            return None
        raise


RNN = """\
NNGP of rnn (Master Theorem)

    parameters  T, phi = erf, var_u = 1, var_w = 1, var_b = 0, var_v = 1
    input       x[t = 1..T] : R(d)
    weight      U : A(n, d) ~ N(0, var_u) / sqrt(d)
                W : A(n, n) ~ N(0, var_w) / sqrt(n)
    vector      b : G(n) ~ N(0, var_b)
                v : G(n) ~ N(0, var_v)

Σ(u, v) = Cov(Z^u, Z^v), E(u, v) = E[Z^u Z^v].
Without a prime: the run on x; with a prime: the run on x'.
Variances follow the same equations with x' = x.

    Σ(h[t], h'[t']) = var_w · E(s[t-1], s'[t'-1]) + var_u · ⟨x[t], x'[t']⟩/d + var_b    t = 1..T, t' = 1..T'
    E(s[t], s'[t']) = 2/π · asin(2 Σ(h[t], h'[t'])/sqrt((1 + 2 Σ(h[t], h[t])) (1 + 2 Σ(h'[t'], h'[t']))))
                                                 t = 1..T, t' = 1..T'
    E(s[0], s'[t']) = 0                          t' = 0..T'
    E(s[t], s'[0])  = 0                          t = 1..T
    K(y[t], y'[t']) = var_v · E(s[t], s'[t'])    t = 1..T, t' = 1..T'
"""


def test_text_of_the_rnn():
    assert text(recursion_of("rnn")) == RNN


def test_ntk_text_of_the_rnn():
    """Θ with the derivative of the arcsine kernel; the biases' part is 1 in the parametrization N(0, var_b)."""
    shown = text(recursion_of("rnn"), "ntk")
    assert "Θ(h[t], h'[t']) " in shown
    assert "= var_w · Θ(s[t-1], s'[t'-1]) + E(s[t-1], s'[t'-1]) + ⟨x[t], x'[t']⟩/d + 1\n" in shown
    assert "4/(π sqrt((1 + 2 Σ(h[t], h[t])) (1 + 2 Σ(h'[t'], h'[t'])) - 4 Σ(h[t], h'[t'])²))" in shown
    assert "K_NTK(y[t], y'[t']) = var_v · Θ(s[t], s'[t']) + E(s[t], s'[t'])" in shown


def test_latex_of_the_rnn():
    assert latex(recursion_of("rnn")) == LATEX_RNN


LATEX_RNN = r"""\begin{align*}
  & \Sigma(h_{t}, h'_{t'}) = \sigma_{w}^{2} \, \mathbb{E}(s_{t-1}, s'_{t'-1}) + \sigma_{u}^{2} \, \tfrac{1}{d}\langle x_{t}, x'_{t'} \rangle + \sigma_{b}^{2} \\
  &\qquad t = 1, \dots, T, \quad t' = 1, \dots, T' \\[4pt]
  & \mathbb{E}(s_{t}, s'_{t'}) = \frac{2}{\pi} \arcsin{\left(\frac{2 \Sigma(h_{t}, h'_{t'})}{\sqrt{(1 + 2 \Sigma(h_{t}, h_{t})) (1 + 2 \Sigma(h'_{t'}, h'_{t'}))}} \right)} \\
  &\qquad t = 1, \dots, T, \quad t' = 1, \dots, T' \\[4pt]
  & \mathbb{E}(s_{0}, s'_{t'}) = 0\qquad t' = 0, \dots, T' \\[4pt]
  & \mathbb{E}(s_{t}, s'_{0}) = 0\qquad t = 1, \dots, T \\[4pt]
  & K(y_{t}, y'_{t'}) = \sigma_{v}^{2} \, \mathbb{E}(s_{t}, s'_{t'})\qquad t = 1, \dots, T, \quad t' = 1, \dots, T'
\end{align*}
"""  # noqa: E501


def test_temporaries_are_shown_as_functions():
    shown = text(recursion_of("mlp", phi="tanh"))
    assert "phi_h" not in shown
    assert "E(tanh(h[l]), tanh(h'[l])) = E[tanh(z) · tanh(z')]" in shown
    assert "(z, z') ~ N(0," in shown


def test_small_scalars_of_the_compiler_are_put_in():
    """layernorm's standard deviation is a variance under a root, and its mean is zero."""
    shown = text(recursion_of("transformer"))
    assert "/sqrt(Σ(sum_k[l, i], sum_k[l, i]) Σ(sum_k'[l, i'], sum_k'[l, i']))" in shown
    assert "m_sum_k" not in shown


def test_statements_come_in_the_order_of_computation():
    shown = text(recursion_of("transformer"))
    places = [shown.index("\n    " + left) for left in ("Σ(k[1", "s[l, i, j]", "a[l", "Σ(sum_k", "E(y", "Σ(g", "K(o")]
    assert places == sorted(places)


def test_conditions_of_filters_are_bounds():
    assert "1 ≤ a+i ≤ min(H, H')" in text(recursion_of("cnn_flat"))


def test_means_and_gaussians_by_name():
    shown = text(recursion_of("means"))
    assert "μ(h[l])" in shown and "~ N((μ(h[l]), μ(h'[l]))," in shown
    shown = text(recursion_of("gated"))
    assert "E[r sigmoid(a) · r' sigmoid(a')]" in shown and "Cov(a, a') = Σ(a[t], a'[t'])" in shown


def test_a_letter_that_the_program_uses_is_not_used_again():
    """In `residual` z is a family."""
    shown = text(recursion_of("residual"))
    assert "E[elu(ζ) · elu(ζ')]" in shown and "elu(z)" not in shown


def test_limits_have_no_kernel():
    recursion = recursion_of("limits")
    shown = text(recursion)
    assert shown.startswith("Limits of limits") and "o2[k]   = k m    k = 1..K" in shown
    with pytest.raises(ProgramError, match="no kernel"):
        text(recursion, "ntk")


ALL = [*OWN, *bundled_programs()]


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize("name", ALL)
def test_every_program_prints(name, get):
    """In all formats, within the width, without leftovers of the layout, and every table that is read is defined."""
    recursion = recursion_of(name)
    if recursion is None:
        pytest.skip("not derived")
    if get == "ntk" and recursion.output is None:
        pytest.skip("no kernel")
    shown = text(recursion, get)
    body = shown.split("\n\n", 3)[3]
    assert not [line for line in body.split("\n") if len(line) > 130]
    assert not re.search("[\ue000-\uf8ff]|Dummy|#", shown + latex_document(recursion, get))
    data = json.loads(render(recursion, "json", get))
    expected = len(recursion.tables) + (len(tangents(recursion).tables) if get == "ntk" else 0)
    assert len(data["tables"]) == expected
    assert all(e["rule"] for t in data["tables"] for c in t["clauses"] for e in c["expectations"])
    assert all(isinstance(e, sympy.Eq) for e in equations(recursion, get))
    block = latex(recursion, get)
    assert block.count("{") - block.count(r"\{") == block.count("}") - block.count(r"\}")


def test_json_names_rules():
    data = as_json(recursion_of("rnn"))
    (table,) = [t for t in data["tables"] if t["key"] == {"kind": "moment", "stream": "cross", "families": ["s", "s"]}]
    (expectation,) = [e for c in table["clauses"] for e in c["expectations"]]
    assert expectation["rule"] == "arcsine kernel" and expectation["functions"][0] == "erf(h)"
    assert data["outputs"] == [{"kind": "output", "stream": "cross", "families": ["y"]}]


def test_unknown_formats():
    recursion = recursion_of("rnn")
    with pytest.raises(ValueError, match="format"):
        render(recursion, "html")
    with pytest.raises(ValueError, match="get"):
        text(recursion, "ntks")


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_equations_of_the_mlp_give_the_arc_cosine_kernel(get):
    """Against the recursion of Cho & Saul (2009) and Jacot et al. (2018), written with angles."""
    recursion = recursion_of("mlp", depth=2)
    rules = equations(recursion, get)
    x, y, d = np.array([0.3, -1.2, 0.7]), np.array([1.1, 0.4, -0.2]), 3
    var_w, var_b = 1.7, 0.3
    known = {"var_w": var_w, "var_b": var_b, "depth": 2}
    for suffix, (a, b) in {"11_var": (x, x), "22_var": (y, y), "12": (x, y)}.items():
        known[f"Gram_x_{suffix}"] = float(a @ b) / d
    assert float(_solve(rules, f"K_{get}_y", known)) == pytest.approx(_mlp(x, y, var_w, var_b)[get], rel=1e-12)


def _solve(rules, name, known):
    """The value of a symbol by the equations, recursively; entries are looked up by equation, with one index l."""
    symbols = {s for rule in rules for s in rule.free_symbols}
    values = {s: known[s.name] for s in symbols if s.name in known}

    def value(e):
        e = e.xreplace(values)
        for part in sorted(e.atoms(sympy.core.function.AppliedUndef), key=str):
            e = e.xreplace({part: entry(part)})
        return e.xreplace({s: entry(s) for s in e.free_symbols})

    def entry(e):
        for rule in rules:
            left = rule.lhs
            if left == e:
                return value(rule.rhs)
        for rule in rules:
            left = rule.lhs
            if left.func == e.func and left.args and left.args[0].is_Symbol:
                return value(rule.rhs.xreplace({left.args[0]: e.args[0]}))
        raise KeyError(e)

    return entry(sympy.Symbol(name, real=True))


def _mlp(x, y, var_w, var_b):
    """NNGP and NTK of a relu network with two hidden layers."""
    grams = np.array([[x @ x, x @ y], [x @ y, y @ y]]) / len(x)
    covariance = var_w * grams + var_b
    theta = covariance.copy()
    for layer in (1, 2):
        lengths = np.sqrt(np.diag(covariance))
        angle = np.arccos(np.clip(covariance / np.outer(lengths, lengths), -1, 1))
        moment = np.outer(lengths, lengths) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
        slope = (np.pi - angle) / (2 * np.pi)
        if layer == 1:
            covariance = var_w * moment + var_b
            theta = covariance + var_w * slope * theta
    return {"nngp": moment[0, 1], "ntk": (moment + slope * theta)[0, 1]}


def test_equations_keep_what_has_no_closed_form():
    (open_,) = {
        part
        for rule in equations(recursion_of("mlp", phi="tanh"))
        for part in rule.rhs.atoms(GaussianExpectation)
        if "12" in str(part)
    }
    f, variables, covariance, means = open_.args
    assert len(variables) == 2 and len(covariance) == 3 and set(means) == {0}
    assert f == sympy.tanh(variables[0]) * sympy.tanh(variables[1])


def test_lines_break_at_the_outermost_places():
    text_ = f"aaaa{mark(0)} + bbbb{mark(1)} · cccc{mark(0)} + dd"
    assert broken(text_, 14, len) == [("aaaa", 0), ("+ bbbb · cccc", 0), ("+ dd", 0)]
    assert broken(text_, 10, len) == [("aaaa", 0), ("+ bbbb", 0), ("· cccc", 1), ("+ dd", 0)]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn", "cnn_pool", "transformer", "means", "gated"])
def test_latex_compiles(name, tmp_path):
    (tmp_path / "a.tex").write_text(latex_document(recursion_of(name), "ntk"))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    wide = [float(x) for x in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert all(x < 60 for x in wide)


def test_latex_lines_are_short():
    lines = re.split(r"\\\\(?:\[4pt\])?\n", latex(recursion_of("transformer"), "ntk"))
    assert max(glyphs(line) for line in lines if "begin{align" not in line) <= WIDTH + 6
