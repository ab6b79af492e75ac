"""E f(z) g(w) by brute force at any variance: Gauss-Legendre panels that double in length away from every cut.

Shares no code with the package. `FUNCTIONS` lists what people write, with slopes and cuts.
"""

import numpy as np
from scipy.special import expit, ndtr

REACH = 8.6
NODES, WEIGHTS = np.polynomial.legendre.leggauss(10)


def density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def rule(cuts, depth):
    """Nodes and weights, with the density of N(0, 1), for each row of cuts (rows, cuts); panels to REACH/2^depth."""
    cuts = np.clip(cuts, -REACH, REACH)
    steps = 2 * REACH * np.concatenate([[0.0], 2.0 ** -np.arange(depth + 1.0)])
    around = [cuts + sign * step for step in steps for sign in (-1, 1)]
    edges = np.sort(np.clip(np.concatenate(around, axis=1), -REACH, REACH), axis=1)
    widths = np.diff(edges, axis=1)[..., None]
    x = edges[:, :-1, None] + widths * (NODES + 1) / 2
    weights = widths / 2 * WEIGHTS * density(x)
    return x.reshape(len(cuts), -1), weights.reshape(len(cuts), -1)


def pair(f, g, p, q, c, cuts):
    """E f(z) g(w), both of which have their cuts (and bends of width about 1) at `cuts`."""
    root, other = np.sqrt(p), np.sqrt(q)
    s = np.sqrt((1 - c) * (1 + c))
    depth = int(np.log2(REACH * max(root, other, 1 / max(s, 1e-8)))) + 7
    if abs(c) == 1:
        x, weights = rule(np.array([[*(t / root for t in cuts), *(c * t / other for t in cuts), 0.0]]), depth)
        return float(np.sum(weights * f(root * x) * g(c * other * x)))
    crossings = [t / (c * other) for t in cuts] if c else []
    x, weights = rule(np.array([[*{t / root for t in cuts}, *crossings, 0.0]]), depth)
    x, weights = x[0][weights[0] > 1e-300], weights[0][weights[0] > 1e-300]
    total = 0.0
    for start in range(0, x.size, 256):
        piece = x[start : start + 256]
        places = np.stack([*((t / other - c * piece) / s for t in cuts), 0 * piece], axis=1)
        y, inner = rule(places, depth)
        given = np.sum(inner * g(other * (c * piece[:, None] + s * y)), axis=1)
        total += np.sum(weights[start : start + 256] * f(root * piece) * given)
    return float(total)


def kernels(name, p, q, c, single):
    """NNGP and NTK of v.T @ f(W @ x) / sqrt(n), the change of the NNGP along x1 at x1, and the size of each."""
    f, slope, cuts = FUNCTIONS[name]
    nngp = pair(f, f, p, q, c, cuts)
    moved = c * np.sqrt(p * q) * pair(slope, slope, p, q, c, cuts)
    along = lambda z: z * slope(z)  # noqa: E731
    change = pair(along, f, p, q, c, cuts)
    square = lambda h, v: pair(h, h, v, v, 1.0, cuts)  # noqa: E731
    # against values that are much smaller than what they are the difference of
    norms = np.sqrt(square(f, p) * square(f, q)), np.sqrt(square(along, p) * square(f, q))
    # and in single precision rounding turns an input by a little, which a large slope in the correlation magnifies
    turn, least = (abs(moved), 1e-2) if single else (0, 1e-4)
    # rounding of slopes that are odd and narrow, which cancel to far less than their norms
    rounded = 1e-8 * abs(c) * np.sqrt(p * q * square(slope, p) * square(slope, q))
    sizes = [
        max(abs(nngp), least * norms[0]),
        max(abs(nngp) + abs(moved), least * norms[0], rounded),
        max(abs(change), least * norms[1], turn),
    ]
    return np.array([nngp, nngp + moved, change]), np.array(sizes)


def _sech2(z):
    return 4 * expit(2 * z) * expit(-2 * z)


def _negative(z):
    return np.exp(np.minimum(z, 0))


FUNCTIONS = {
    "erf(x)": (lambda z: 2 * ndtr(np.sqrt(2) * z) - 1, lambda z: 2 * np.exp(-z * z) / np.sqrt(np.pi), (0,)),
    "tanh(x)": (np.tanh, _sech2, (0,)),
    "arctan(x)": (np.arctan, lambda z: 1 / (1 + z * z), (0,)),
    "sigmoid(x)": (expit, lambda z: expit(z) * expit(-z), (0,)),
    "relu(x)": (lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0), (0,)),
    "leaky_relu(x)": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01), (0,)),
    "gelu(x)": (lambda z: z * ndtr(z), lambda z: ndtr(z) + z * density(z), (0,)),
    "silu(x)": (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z)), (0,)),
    "softplus(x)": (lambda z: np.logaddexp(0, z), expit, (0,)),
    "log(1 + exp(5 * x)) / 5": (lambda z: np.logaddexp(0, 5 * z) / 5, lambda z: expit(5 * z), (0,)),
    "elu(x)": (
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, 1, _negative(z)),
        (0,),
    ),
    "x * tanh(x)": (lambda z: z * np.tanh(z), lambda z: np.tanh(z) + z * _sech2(z), (0,)),
    "x / (1 + abs(x))": (lambda z: z / (1 + abs(z)), lambda z: (1 + abs(z)) ** -2.0, (0,)),
    "exp(-x**2)": (lambda z: np.exp(-z * z), lambda z: -2 * z * np.exp(-z * z), (0,)),
    "max(min(x, 1), -1)": (lambda z: np.clip(z, -1, 1), lambda z: 1.0 * (abs(z) < 1), (-1, 1)),
    "min(max(x, 0), 6)": (lambda z: np.clip(z, 0, 6), lambda z: 1.0 * ((z > 0) & (z < 6)), (0, 6)),
}
VARIANCES = (1e-12, 1e-6, 1e-3, 1.0, 10.0, 100.0, 1e4, 1e8)
UNEQUAL = ((1e-6, 1.0), (1.0, 100.0), (1e-3, 1e4), (1e8, 1.0), (1e4, 1e8))
CORRELATIONS = (-1.0, -0.9999, -0.6, 0.3, 0.9, 0.99, 1 - 1e-4, 1 - 1e-8, 1.0)
SINGLE = (-1.0, -0.6, 0.3, 0.9, 0.99, 1.0)
"""In float32 nothing nearer to 1: rounding k alone moves 1 - c by a part of it."""
PROGRAM = """program one()
input x : R(d)
weight W : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
def f(x) := {function}
output y := v.T @ f(W @ x) / sqrt(n)
"""


def errors(name, kernel, dtype):
    """Relative errors of NNGP, NTK and gradient in the input: by pair of variances, (pairs, correlations, 3)."""
    import jax

    pairs = [*((p, p) for p in VARIANCES), *UNEQUAL]
    correlations = CORRELATIONS if dtype == np.float64 else SINGLE
    x1 = np.array([[np.sqrt(2 * p), 0] for p, _ in pairs], dtype)
    c = np.array(correlations)
    directions = np.sqrt(2) * np.stack([c, np.sqrt((1 - c) * (1 + c))], axis=1)
    x2 = np.concatenate([np.sqrt(q) * directions for _, q in pairs]).astype(dtype)
    found = [np.asarray(k) for k in kernel(x1, x2)]
    scaled = jax.jit(lambda t: kernel(x1 * (1 + t), x2, "nngp"))
    found.append(np.asarray(jax.jvp(scaled, (np.zeros((), dtype),), (np.ones((), dtype),))[1]))
    result = np.zeros((len(pairs), len(c), 3))
    for i in range(len(pairs)):
        for j in range(len(c)):
            a, b = (x.astype(float) for x in (x1[i], x2[i * len(c) + j]))
            p, q, k = (float(u @ v) / 2 for u, v in ((a, a), (b, b), (a, b)))
            single = dtype == np.float32
            right, size = kernels(name, p, q, k / np.sqrt(p * q) if single and abs(c[j]) < 1 else c[j], single)
            result[i, j] = [
                abs(float(f[i, i * len(c) + j]) - r) / s for f, r, s in zip(found, right, size, strict=True)
            ]
    return result
