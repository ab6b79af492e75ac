"""Kinds of networks that a compiler is easily slow on, each as a user would write it, against neural-tangents.

Filters with strides, by conditions on indices, around an image's edge; layers written one by one; layer norms;
functions with closed forms of their own.
"""

from __future__ import annotations

from side_by_side import Case, show_cases

FUNCTION = """program one()
input x : R(d)
weight W : A(n, d) ~ N(0, 2) / sqrt(d)
vector v : G(n) ~ N(0, 1)
h := W @ x
output y := v.T @ (FUNCTION) / sqrt(n)
""".replace("N(0, 2) / sqrt(d)", "N(0, 1) * sqrt(2 / d)")

ROW = """program row(P)
input x[p = 1..P] : R(d)
weight U[a = -1..1] : A(n, d) ~ N(0, 1) * sqrt(2 / (3 * d))
weight V[a = -1..1], W[a = -1..1] : A(n, n) ~ N(0, 1) * sqrt(2 / (3 * n))
vector v : G(n) ~ N(0, 1)
BODY
"""
TRANSPOSED = ROW.replace(
    "BODY",
    """h[p = 1..P] := sum[a = -1..1](U[a] @ (x[p+a] else 0))
g[p = 1..2*P] := sum[q = 1..P, a = -1..1](V[a] @ (relu(h[q]) if 2*q + a == p else 0))
output y := mean[p = 1..2*P](v.T @ relu(g[p])) / sqrt(n)""",
)
CIRCULAR_1D = ROW.replace(
    "BODY",
    """h[p = 1..P] := sum[a = -1..1](U[a] @ (x[p+a] else (x[p+a-P] else x[p+a+P])))
g[p = 1..P] := sum[a = -1..1](V[a] @ (relu(h[p+a]) else (relu(h[p+a-P]) else relu(h[p+a+P]))))
f[p = 1..P] := sum[a = -1..1](W[a] @ (relu(g[p+a]) else (relu(g[p+a-P]) else relu(g[p+a+P]))))
output y := mean[p = 1..P](v.T @ relu(f[p])) / sqrt(n)""",
)
STRIDED = ROW.replace(
    "BODY",
    """h[p = 1..P] := sum[a = -1..1](U[a] @ (x[p+a] else 0))
y1[p = 1..P] := relu(NORM(h[p]))
g[p = 1..P/2] := sum[a = -1..1](V[a] @ (y1[2*p+a] else 0))
y2[p = 1..P/2] := relu(NORM(g[p]))
f[p = 1..P/4] := sum[a = -1..1](W[a] @ (y2[2*p+a] else 0))
output y := mean[p = 1..P/4](v.T @ relu(NORM(f[p]))) / sqrt(n)""",
)


def _around(name: str, i: str, j: str) -> str:
    """name at (i, j), read around the edges of an H × W image, by nine cases."""
    shifts = [f"{name[:-1]}[{i}{r}, {j}{c}])" for c in ("", "-W", "+W") for r in ("", "-H", "+H")]
    read = shifts[-1]
    for s in reversed(shifts[:-1]):
        read = f"({s} else {read})"
    return read


CIRCULAR_2D = f"""program image(H, W)
input x[i = 1..H, j = 1..W] : R(d)
weight U[a = -1..1, b = -1..1] : A(n, d) ~ N(0, 1) * sqrt(2 / (9 * d))
weight V[a = -1..1, b = -1..1] : A(n, n) ~ N(0, 1) * sqrt(2 / (9 * n))
vector v : G(n) ~ N(0, 1)
h[i = 1..H, j = 1..W] := sum[a = -1..1, b = -1..1](U[a, b] @ x[1 + (i+a-1) mod H, 1 + (j+b-1) mod W])
g[i = 1..H, j = 1..W] := sum[a = -1..1, b = -1..1](V[a, b] @ {_around("relu(h)", "i+a", "j+b")})
output y := mean[i = 1..H, j = 1..W](v.T @ relu(g[i, j])) / sqrt(n)
"""


def _layers(number: int) -> str:
    lines = ["program layers()", "input x : R(d)", "weight W1 : A(n, d) ~ N(0, 1) * sqrt(2 / d)"]
    lines += [f"weight W{k} : A(n, n) ~ N(0, 1) * sqrt(2 / n)" for k in range(2, number + 1)]
    lines += ["vector v : G(n) ~ N(0, 1)", "h1 := W1 @ x"]
    lines += [f"h{k} := W{k} @ relu(h{k - 1})" for k in range(2, number + 1)]
    return "\n".join([*lines, f"output y := v.T @ relu(h{number}) / sqrt(n)", ""])


def _one(function: str) -> str:
    return FUNCTION.replace("FUNCTION", function)


CASES = (
    Case("transposed filter, stride 2, by `if 2*q + a == p`", "transposed", (64, 3), 2, 5, text=TRANSPOSED),
    Case("circular filters, 3 layers, by cases", "circular_1d", (64, 3), 4, 5, text=CIRCULAR_1D),
    Case("circular 3×3 filters, twice, by nine cases", "circular_2d", (4, 5, 3), 4, 5, text=CIRCULAR_2D),
    Case("filters of stride 2", "strided", (64, 3), 4, 5, text=STRIDED.replace("NORM", "")),
    Case("the same with layer norms", "strided_layernorm", (64, 3), 4, 5, text=STRIDED.replace("NORM", "layernorm")),
    Case("relu(layernorm(h))", "layernorm", (64,), 500, 5, text=_one("relu(layernorm(h))")),
    Case("relu(h)\\*\\*2", "relu_squared", (64,), 500, 5, text=_one("relu(h)**2")),
    Case("exp(-h\\*\\*2)", "gaussian", (64,), 500, 5, text=_one("exp(-h**2)")),
    Case("exp(-h\\*\\*2) \\* sin(h)", "gabor", (64,), 500, 5, text=_one("exp(-h**2) * sin(h)")),
    Case("60 dense layers as 60 statements", "mlp", (64,), 500, 3, {"depth": 60}, text=_layers(60)),
    Case("Myrtle-5, 32×32×3", "myrtle", (32, 32, 3), 1, 3, {"depth": 5}),
    Case("Myrtle-7, 32×32×3", "myrtle", (32, 32, 3), 1, 3, {"depth": 7}),
    Case("Myrtle-10, 32×32×3", "myrtle", (32, 32, 3), 1, 3, {"depth": 10}),
    Case("wide residual network (4, 1), 32×32×3", "wide_resnet", (32, 32, 3), 1, 3, {"blocks": 4}),
)


def show(quick: bool, only: tuple[str, ...] = ()) -> None:
    show_cases(CASES, quick, only)
