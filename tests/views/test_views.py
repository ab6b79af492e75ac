"""How recursions are printed, and that what is printed is the kernel."""

import json
import re
import shutil
import subprocess
from textwrap import dedent

import numpy as np
import pytest
import sympy

import tensorprog as tp
from tensorprog import recursion as ir
from tensorprog.errors import ProgramError
from tensorprog.program.build import build
from tensorprog.recursion import print_recursion
from tensorprog.resources import bundled_programs
from tensorprog.theorem.derive import derive
from tensorprog.theorem.tangent import tangents
from tensorprog.views import as_json, equations, latex, latex_document, render, text
from tensorprog.views.equations import BatchnormIntegral, GaussianExpectation, SampledExpectation, Slope
from tensorprog.views.latex import WIDTH, glyphs
from tensorprog.views.layout import broken, mark

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
    "sampled": """
        program sampled(T, m = 1/2)
        def gate(u, slope = 2) := sigmoid(slope * u)
        input x[t = 1..T] : R(d)
        input w[t = 1..T] : C
        weight U : A(n, d) ~ N(0, 1) / sqrt(d)
        weight W : A(n, n) ~ N(0, 1) / sqrt(n)
        vector b : G(n) ~ N(m, 1/4)
        vector v : G(n) ~ N(0, 1)
        h[0] := 0
        for t = 1..T:
            g[t] := W @ h[t-1] + U @ x[t] + b
            c[t] := <g[t], g[t]> / n
            k[t] := gate(g[t], slope = 3) * h[t-1] + w[t] * tanh(g[t] / sqrt(1 + c[t]))
            h[t] := k[t] + mean[s = 1..t](D(gate)(g[s]))
        output y := mean[t = 1..T](v.T @ h[t]) / sqrt(n)
        """,
    "sampled_limits": """
        program sampled_limits(T)
        input x[t = 1..T] : R(d)
        weight U : A(n, d) ~ N(0, 1) / sqrt(d)
        weight W : A(n, n) ~ N(0, 1) / sqrt(n)
        h[0] := 0
        for t = 1..T:
            g[t] := W @ h[t-1] + U @ x[t]
            h[t] := sigmoid(g[t]) * h[t-1] + tanh(g[t])
        m := max[t = 1..T](h[t])
        output o := <m, m> / n
        output o2[t = 1..T] := <h[t] * m, g[t]> / n
        """,
    "batches": """
        program batches(B, eps = 1/10)
        input x[s = 1..B] : R(d)
        weight U, Q : A(n, d) ~ N(0, 1) / sqrt(d)
        vector v : G(n) ~ N(0, 1)
        h[s = 1..B] := U @ x[s]
        e[s = 1..B] := Q @ x[s]
        p[s = 1..B] := relu(batchnorm[s](h[s], eps = eps))
        r[s = 1..B] := leaky_relu(batchnorm[s](e[s]))
        z[s = 1..B] := p[s] + r[s]
        output y[s = 1..B] := v.T @ z[s] / sqrt(n)
        """,
}


def recursion_of(name, **settings):
    """The recursion of an own or a bundled program."""
    source = dedent(OWN[name]).lstrip() if name in OWN else bundled_programs()[name].read_text(encoding="utf-8")
    return derive(build(source, settings, f"{name}.netsor"))


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


GRU = """\
NTK of gru (Master Theorem)

    parameters  T, phi = erf, var_u = 1, var_w = 1, var_b = 1
    def         gate(x) := (1 + erf(x)) / 2
    input       x[t = 1..T] : R(d)
    weight      Uz, Ur, Uh : A(n, d) ~ N(0, var_u) / sqrt(d)
                Wz, Wr, Wh : A(n, n) ~ N(0, var_w) / sqrt(n)
    vector      bz, br, bh : G(n) ~ N(0, var_b)
                v : G(n) ~ N(0, 1)

Σ(u, v) = Cov(Z^u, Z^v), E(u, v) = E[Z^u Z^v], Θ(u, v) their tangent.
Tangents: along the correlation of two copies of the trained parameters, over their variance.
Without a prime: the run on x; with a prime: the run on x'.
(sampled): no closed form; computed by randomised quasi-Monte Carlo, with a standard error,
from the joint Gaussian law of Z^z, Z^r, Z^c.
∂Z^u/∂Z^g: Z^u as a function of all these Gaussians (Price's theorem).

    Z^h[0]   = 0
    Z^h[t]   = Z^h[t-1] (1 - gate(Z^z[t])) + erf(Z^c[t]) gate(Z^z[t])    t = 1..T
    Z^f_h[t] = Z^h[t-1] gate(Z^r[t])                                     t = 1..T

NNGP

    Σ(z[t], z'[t'])     = var_w · E(h[t-1], h'[t'-1]) + var_u · ⟨x[t], x'[t']⟩/d + var_b    t = 1..T, t' = 1..T'
    Σ(r[t], r'[t'])     = var_w · E(h[t-1], h'[t'-1]) + var_u · ⟨x[t], x'[t']⟩/d + var_b    t = 1..T, t' = 1..T'
    E(f_h[t], f_h'[t']) = E[Z^f_h[t] · Z^f_h'[t']]  (sampled)    t = 1..T, t' = 1..T'
    Σ(c[t], c'[t'])     = var_w · E(f_h[t], f_h'[t']) + var_u · ⟨x[t], x'[t']⟩/d + var_b    t = 1..T, t' = 1..T'
    E(h[t], h'[t'])     = E[Z^h[t] · Z^h'[t']]  (sampled)        t = 1..T, t' = 1..T'
    E(h[0], h'[t'])     = 0                                      t' = 0..T'
    E(h[t], h'[0])      = 0                                      t = 1..T
    K(y[t], y'[t'])     = E(h[t], h'[t'])                        t = 1..T, t' = 1..T'

NTK

    Θ(z[t], z'[t'])     = var_w · Θ(h[t-1], h'[t'-1]) + E(h[t-1], h'[t'-1]) + ⟨x[t], x'[t']⟩/d + 1
"""


def test_what_is_sampled_is_shown_with_its_random_variables():
    shown = text(recursion_of("gru"), "ntk")
    assert shown.startswith(GRU)
    price = "= sum[g, g'](E[∂Z^h[t]/∂Z^g · ∂Z^h'[t']/∂Z^g'] · Θ(g, g'))  (sampled)    t = 1..T, t' = 1..T'\n"
    assert "    Θ(h[t], h'[t'])     " + price in shown
    assert "where g over all members of z, c, g' over all members of z', c'\n" in shown


def test_random_variables_of_every_kind():
    """H-vars that are sums, C's of Gaussians, inputs, reductions, means, functions with parameters and their D."""
    shown = text(recursion_of("sampled"), "ntk")
    for line in (
        "Z^f_g[t] = 2 sigmoid(-2 Z^g[t]) sigmoid(2 Z^g[t])",
        "c[t]     = E[Z^g[t]²]",
        "Z^k[t]   = Z^h[t-1] gate(Z^g[t], 3) + w[t] tanh(Z^g[t]/sqrt(1 + c[t]))",
        "Z^h[t]   = Z^k[t] + sum[s = 1..t](1/t · Z^f_g[s])",
        "Means in it are those of b.",
        "where γ over all members of g, γ' over all members of g'",  # g is a family here
    ):
        assert line in shown
    shown = text(recursion_of("sampled_limits"))
    assert "Z^m    = max[t = 1..T](Z^h[t])" in shown
    assert "o2[t]          = E[Z^g[t] Z^h[t] Z^m]  (sampled)" in shown


def test_latex_of_what_is_sampled():
    shown = latex(recursion_of("gru"), "ntk")
    assert r"& \operatorname{gate}(x) = \frac{1}{2} + \frac{1}{2} \operatorname{erf}(x)" in shown
    assert r"\mathbb{E}(h_{t}, h'_{t'}) = \mathbb{E}\bigl[Z^{h_{t}} \, Z^{h'_{t'}}\bigr] \quad\text{(sampled)}" in shown
    slope = r"\frac{\partial Z^{h_{t}}}{\partial Z^{g}} \, \frac{\partial Z^{h'_{t'}}}{\partial Z^{g'}}"
    assert rf"\sum_{{g, g'}} \mathbb{{E}}\Bigl[{slope}\Bigr] \, \Theta(g, g')" in shown


def test_equations_of_what_is_sampled():
    rules = {rule.lhs: rule.rhs for rule in equations(recursion_of("gru"), "ntk")}
    t, tp = sympy.symbols("t tp", integer=True)
    z, c, h = (sympy.Function(f"Z_{name}_1", real=True) for name in "zch")
    gate = (1 + sympy.erf(z(t))) / 2
    assert sympy.expand(rules[h(t)] - (1 - gate) * h(t - 1) - gate * sympy.erf(c(t))) == 0
    other = sympy.Function("Z_h_2", real=True)(tp)
    assert rules[sympy.Function("E_h_12", real=True)(t, tp)] == SampledExpectation(h(t) * other)
    total = rules[sympy.Function("ThetaE_h_12", real=True)(t, tp)]
    assert {part.args[0] for part in total.atoms(Slope)} == {h(t), other} and len(total.atoms(sympy.Sum)) == 2


def test_json_of_what_is_sampled():
    data = as_json(recursion_of("gru"))
    assert data["sampled"] and [v["text"] for v in data["random_variables"]][:1] == ["Z^h[0] = 0"]
    assert data["random_variables"][1]["where"] == ["gate(x) = 1/2 + erf(x)/2"]
    rules = [e["rule"] for t in data["tables"] for c in t["clauses"] for e in c["expectations"]]
    assert rules == ["randomised quasi-Monte Carlo"] * 2
    data = as_json(recursion_of("batchnorm"))
    assert not data["sampled"] and data["random_variables"] == []
    (found,) = {str(e) for t in data["tables"] for c in t["clauses"] for e in c["expectations"]}
    assert "relu(u)" in found and "two Laplace variables" in found


BATCHNORM = """\
    E(z[l, b], z'[l, b']) = sqrt(B B')/π · ∫∫ ds ds' (s s')^(-1/2) det(I + 2 √Δ Ω √Δ)^(-1/2) V
                                                                 l = 1..depth, b = 1..B, b' = 1..B'
                            where s, s' from 0 to ∞, Δ = s I on the first batch and s' I on the second
                                  Π = Ω - 2 Ω √Δ (I + 2 √Δ Ω √Δ)⁻¹ √Δ Ω, Ω = G [[p, k], [kᵀ, q]] G
                                  G = I - 1 1ᵀ/size on each batch, p[b1, b2] = Σ(h[l, b1], h[l, b2])
                                  k[b1, b3] = Σ(h[l, b1], h'[l, b3]), q[b3, b4] = Σ(h'[l, b3], h'[l, b4])
                                  V = E[relu(ζ) · relu(ζ')]
                                  (ζ, ζ') ~ N(0, [[Π[b, b], Π[b, b']], [Π[b', b], Π[b', b']]])
"""

BATCHNORM_NTK = """\
    Θ(z[l, b], z'[l, b']) = sum[b1 = 1..B, b3 = 1..B'](
                                ∂E(z[l, b], z'[l, b'])/∂Σ(h[l, b1], h'[l, b3]) · Θ(h[l, b1], h'[l, b3]))
"""


def test_batch_normalization_is_shown_as_its_integral():
    shown = text(recursion_of("batchnorm"), "ntk")
    assert BATCHNORM in shown and BATCHNORM_NTK in shown
    assert "(Yang et al., A mean field theory of batch normalization, 2019)" in shown
    assert "sampled" not in shown
    shown = latex(recursion_of("batchnorm"), "ntk")
    assert r"\frac{V}{\sqrt{s s' \det(I + 2 \sqrt{\Delta} \, \Omega \sqrt{\Delta})}} \, ds \, ds'" in shown
    assert (
        r"\frac{\partial \mathbb{E}(z_{l, b}, z'_{l, b'})}{\partial \Sigma(h_{l, {b_{1}}}, h'_{l, {b_{3}}})}" in shown
    )


def test_batch_normalization_with_an_epsilon_and_with_its_mean():
    """s is an index and p a family, so that the integral has other letters."""
    shown = text(recursion_of("batches"), "ntk")
    assert "μ(p[s])         = sqrt(B/π) · ∫ dλ λ^(-1/2) exp(-eps B λ) det(I + 2 λ Ω)^(-1/2) V" in shown
    assert "exp(-(eps B λ + eps B' λ'))" in shown and "σ[s1, s2] = ⟨x[s1], x[s2]⟩/d" in shown
    assert "V = E[101/200 · ζ + 99/200 · abs(ζ)]" in shown
    assert "∂E(p[s], p'[s'])/∂k[s1, s3] · ⟨x[s1], x'[s3]⟩/d" in shown


def test_equations_of_batch_normalization():
    rules = equations(recursion_of("batchnorm"), "ntk")
    (whole,) = {
        part for rule in rules if rule.lhs.func.__name__ == "E_z_12" for part in rule.rhs.atoms(BatchnormIntegral)
    }
    f, (u, w), (p, k, q), batches, eps, at = whole.args
    assert f.subs({u: 2, w: 3}) == 6 and f.subs({u: -2, w: 3}) == 0
    assert len(k.args[0]) == 2 and "Sigma_h_12" in str(k) and "Sigma_h_22" in str(q) and "Sigma_h_11" in str(p)
    assert len(batches) == 2 and eps == (0, 0) and [str(i) for i in at] == ["b", "bp"]


def test_the_recursion_itself_prints():
    shown = print_recursion(recursion_of("gru"))
    assert (
        "    [t, t'] := sample(h[t] | h'[t']: (z, h, c) -> h*(1/2 - erf(z)/2) + (erf(z)/2 + 1/2)*erf(c); "
        "covariance[cross](z, z'), covariance[cross](c, c')) for t = 1..T, t' = 1..T'\n"
    ) in shown
    assert (
        "    [l, b, b'] := batchnorm([b], [b']: 1/2 u + 1/2 |u| | 1/2 u + 1/2 |u|; "
        "k[b1, b3] = covariance[cross](h, h')[l, b1, b3], p[b1, b2] = covariance[self](h, h')[l, b1, b2]@left, "
        "q[b3, b4] = covariance[self](h, h')[l, b3, b4]@right, eps = (0, 0); "
        "b1 = 1..B, b2 = 1..B, b3 = 1..B', b4 = 1..B'; same) for l = 1..depth, b = 1..B, b' = 1..B'\n"
    ) in print_recursion(recursion_of("batchnorm"))
    assert "batchnorm([s]: 1/2 u + 1/2 |u|; p[s1, s2] = law(U: 1) * gram[self](x, x')[s1, s2], eps = eps; " in (
        print_recursion(recursion_of("batches"))
    )


def test_what_is_sampled_is_one_line_for_all_steps():
    """Cases are split, t = 1, t = 2 and t >= 3, to write functions out; what is sampled needs none of that."""
    for name in ("gru", "lstm"):
        tables = recursion_of(name).tables.values()
        sampled = [sum(isinstance(c.value, ir.Sampled) for c in t.clauses) for t in tables]
        assert set(sampled) == {0, 1}


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
    if get == "ntk" and recursion.output is None:
        pytest.skip("no kernel")
    shown = text(recursion, get)
    body = shown.split("\n\n", 3)[3]
    # Lines are broken between terms and factors; what one sum runs over stays together.
    assert not [line for line in body.split("\n") if len(line) > 130 and "; " not in line and " mod " not in line]
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
@pytest.mark.parametrize("name", ["rnn", "cnn_pool", "transformer", "means", "gated", "gru", "sampled", "batchnorm"])
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


def test_indices_made_by_the_derivation_stay_apart_in_latex():
    shown = tp.load("semicircle").derive("nngp").latex()
    (line,) = (x for x in shown.splitlines() if x.strip().startswith(r"& \mathrm{d\_W\_T\_x\_W\_x}"))
    # d[k, k__] = sum[k___](d[k-1, k___] d[k___-1, k__])
    assert r"_{k, \bar{k}} = \sum_{\check{k}=1..2 K}" in line and r"_{k-1, \check{k}}" in line
    assert r"_{\check{k}-1, \bar{k}}" in line


def test_an_indicator_is_not_multiplied_by_one():
    recursion = tp.load("semicircle").derive("nngp")
    assert "d_W_T_x_W_T_x[k, k__] = 1[k = k__] + sum" in str(recursion)
    assert r"\mathbf{1}_{[k = \bar{k}]} + " in recursion.latex()


def test_a_case_that_is_a_matmul_is_one_of_the_gaussians_of_what_is_sampled():
    program = tp.parse(
        "program mixed(P = 2)\ninput x[p = 1..P] : R(d)\nweight V : A(n, d) ~ N(0, 1) / sqrt(d)\n"
        "weight B : A(n, n) ~ N(0, 1) / sqrt(n)\nvector v : G(n) ~ N(0, 1)\nh[p = 1..P] := V @ x[p]\n"
        "b[p = 1..P] := relu(batchnorm[p](h[p], eps = 0.1)) + tanh(h[p])\nfor p = 1..P, k = 1..P:\n"
        "    o[p, k] := B @ b[k] if k <= p else b[p]\n"
        "output y[k = 1..P, p = 1..P] := v.T @ o[k, p] / sqrt(n)\n"
    )
    text = str(program.derive("ntk"))
    assert "joint Gaussian law of Z^h, Z^o." in text
    assert [" ".join(line.split()) for line in text.splitlines() if line.strip().startswith("Z^o")] == [
        "Z^o[p, k] = Z^b[p] p = 1..P, k = 1..P, 1 ≤ k-p"
    ]
    assert "Z^{o" in program.derive("ntk").latex()
    program.derive("ntk").json()
