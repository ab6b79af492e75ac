"""Closed forms: the expectation of a product of two atoms, and the plans made of them.

Sources: Williams 1997 (erf), Cho & Saul 2009 (abs, sign), Stein's lemma and Price's theorem for powers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sympy

from tensorprog import functions
from tensorprog.expectation.atoms import Atom, as_wave, atoms
from tensorprog.expectation.plan import MeanPlan, Plan, Request, Side
from tensorprog.expectation.runtime.wave import wave_moment
from tensorprog.functions.registry import head

MOST_POWER = 12
"""Highest power of a variable that is expanded."""

K, P, Q, MU, NU = (sympy.Dummy(name, real=True) for name in ("k", "p", "q", "mu", "nu"))


def _head(name):
    return sympy.Function(name, real=True)


_cdf, _pdf = (head(name) for name in ("normal_cdf", "normal_pdf"))
_pi, _sqrt = sympy.pi, sympy.sqrt


def _c(k, p, q):
    return k / _sqrt(p * q)


def _erf_dual(k, p, q):
    return 2 / _pi * sympy.asin(2 * k / _sqrt((1 + 2 * p) * (1 + 2 * q)))


def _xerf_dual(k, p, q):
    rest = p * q + k**2 - 2 * k**2 * (p / (1 + 2 * p) + q / (1 + 2 * q))
    return k * _erf_dual(k, p, q) + 4 / _pi * rest / _sqrt((1 + 2 * p) * (1 + 2 * q) - 4 * k**2)


def _abs_dual(k, p, q):
    c = _c(k, p, q)
    return 2 / _pi * _sqrt(p * q) * (_sqrt(1 - c**2) + c * sympy.asin(c))


def _relu_dual(k, p, q):
    c = _c(k, p, q)
    return _sqrt(p * q) / (2 * _pi) * (_sqrt(1 - c**2) + (_pi - sympy.acos(c)) * c)


def _rectified_dual(k, p, q, m, n):
    """E relu(z)**m relu(w)**n by the recursion of the runtime function of that name."""
    c, phi = _c(k, p, q), 1 / _sqrt(2 * _pi)

    def half(j):
        return sympy.Rational(2) ** (sympy.Rational(j, 2) - 1) * sympy.gamma(sympy.Rational(j + 1, 2)) / _sqrt(_pi)

    def dual(i, j):
        if i < j:
            i, j = j, i
        if i == 0:
            return (_pi - sympy.acos(c)) / (2 * _pi)
        if i == 1:
            return phi * half(j) * (1 - c**2) ** sympy.Rational(j, 2) + c * (j * dual(0, j - 1) if j else phi * half(0))
        if j == 0:
            return (i - 1) * dual(i - 2, 0) + c * phi * half(i - 1) * (1 - c**2) ** sympy.Rational(i - 1, 2)
        return (i - 1) * dual(i - 2, j) + j * c * dual(i - 1, j - 1)

    inner = sympy.collect(sympy.expand(dual(int(m), int(n))), sympy.acos(c), sympy.factor)
    return _sqrt(p) ** m * _sqrt(q) ** n * inner


def _wave_dual(k, p, q, mu, nu, m, n, a, b, s, t, x, y, odd):
    """The formula that the runtime function of that name computes."""
    spread = p * q - k**2
    grown = 1 + 2 * a * p + 2 * b * q + 4 * a * b * spread
    left, right, both = (p + 2 * b * spread) / grown, (q + 2 * a * spread) / grown, k / grown
    exponent = s * mu + t * nu - a * mu**2 - b * nu**2
    s, t = s - 2 * a * mu, t - 2 * b * nu
    moved, turned = (s * left + t * both, s * both + t * right), (x * left + y * both, x * both + y * right)
    exponent += (s * moved[0] + t * moved[1] - x * turned[0] - y * turned[1]) / 2
    centre = mu + moved[0], nu + moved[1]
    angle = x * centre[0] + y * centre[1] - (_pi / 2 if odd else 0)
    real, imaginary = wave_moment(int(m), int(n), centre, turned, left, right, both)
    inner = real * sympy.cos(angle) - imaginary * sympy.sin(angle)
    return sympy.factor_terms(inner) * sympy.exp(sympy.simplify(exponent)) / _sqrt(grown)


def _gabor_dual(k, p, q, a, b, x, y, odd):
    zero = sympy.Integer(0)
    both = [_wave_dual(k, p, q, zero, zero, 0, 0, a, b, zero, zero, x, s * y, 0) for s in (1, -1)]
    return (both[1] - both[0] if odd else both[0] + both[1]) / 2


def _wave_mean(p, mu, m, a, s, x, odd):
    zero = sympy.Integer(0)
    return _wave_dual(zero, p, zero, mu, zero, m, 0, a, zero, s, zero, x, zero, odd)


# What runtime functions are, for people: name -> (runtime module, formula).
RUNTIME: dict[str, tuple[str, Callable[..., sympy.Expr] | None]] = {
    "erf_dual": ("errorfunction", _erf_dual),
    "xerf_dual": ("errorfunction", _xerf_dual),
    "gelu_dual": ("errorfunction", lambda k, p, q: (k + 2 * _xerf_dual(k / 2, p / 2, q / 2)) / 4),
    "abs_dual": ("arccosine", _abs_dual),
    "sign_dual": ("arccosine", lambda k, p, q: 2 / _pi * sympy.asin(_c(k, p, q))),
    "relu_dual": ("arccosine", _relu_dual),
    "step_dual": ("arccosine", lambda k, p, q: (_pi - sympy.acos(_c(k, p, q))) / (2 * _pi)),
    "abs_mean": ("arccosine", lambda p: _sqrt(2 * p / _pi)),
    "sign_slope": ("arccosine", lambda p: _sqrt(2 / (_pi * p))),
    "relu_relu": ("orthant", None),
    "step_step": ("orthant", None),
    "relu_mean": ("orthant", lambda p, m: m * _cdf(m / _sqrt(p)) + _sqrt(p) * _pdf(m / _sqrt(p))),
    "step_mean": ("orthant", lambda p, m: _cdf(m / _sqrt(p))),
    "rectified_dual": ("rectified", _rectified_dual),
    "reciprocal": ("shapes", lambda x: 1 / x),
    "wave_dual": ("wave", _wave_dual),
    "gabor_dual": ("wave", _gabor_dual),
    "wave_mean": ("wave", _wave_mean),
    "sin_dual": ("trigonometric", lambda k, p, q: sympy.exp(-(p + q) / 2) * sympy.sinh(k)),
    "cos_dual": ("trigonometric", lambda k, p, q: sympy.exp(-(p + q) / 2) * sympy.cosh(k)),
}

_WHOLE = {"relu": ("relu_dual", "arc-cosine kernel", 2), "step": ("step_dual", "arc-cosine kernel", 0),
          "gelu": ("gelu_dual", "arcsine kernel and its derivatives", 0)}  # fmt: skip
_RULE_NAMES = {"1": "polynomial", "exp": "exponential", "sin": "trigonometric", "cos": "trigonometric",
               "erf": "arcsine kernel", "abs": "arc-cosine kernel", "sign": "arc-cosine kernel",
               "wave": "Gaussian integral"}  # fmt: skip


def pair_form(f: Side, g: Side) -> tuple[str, sympy.Expr] | None:
    """Name and closed form of E f(z) g(w) in K, P, Q, MU, NU, or None. Scalars of f and g must be distinct Symbols."""
    whole = _whole_form(f, g)
    if whole is not None:
        return whole
    left, right = atoms(f), atoms(g)
    if left is None or right is None:
        return None
    mu, nu = (MU if f.has_mean else sympy.Integer(0)), (NU if g.has_mean else sympy.Integer(0))
    total = sympy.Integer(0)
    for a in left:
        for b in right:
            term = _pair(a, b, K, P, Q, mu, nu)
            if term is None:
                return None
            total += a.coefficient * b.coefficient * term
    total = _tidy(total)
    return _rule_name(left + right, total), total


_EXPANDED = ("relu_relu", "step_step", "step_relu", "relu_mean", "step_mean", "rectified_dual")


def _tidy(total):
    """Common factors out, as in (1 + erf_dual(k, p, q))/4; an expansion only where |z| = 2·relu(z) - z was put in."""
    if total.has(*(_head(name) for name in _EXPANDED)):
        total = sympy.expand(total)
    return sympy.factor_terms(total)


def _rule_name(found: list[Atom], total) -> str:
    if "orthant" in _modules(total):
        return "bivariate normal"
    kinds = {_RULE_NAMES[atom.kind] for atom in found}
    return " and ".join(sorted(kinds - {"polynomial"} or kinds))


def _whole_form(f: Side, g: Side):
    """relu, step and gelu under their own names: c·relu(a·z), a > 0."""
    if f.has_mean or g.has_mean:
        return None
    parts = []
    for side in (f, g):
        coefficient, rest = side.expr.as_independent(side.variable, as_Add=False)
        name = next((n for n in _WHOLE if isinstance(rest, head(n))), None)
        if name is None:
            return None
        slope = rest.args[0] / side.variable
        if not (slope.is_number and slope.is_positive):
            return None
        parts.append((name, coefficient, slope))
    (name, a, s), (other, b, t) = parts
    if name != other:
        return None
    runtime, rule, _ = _WHOLE[name]
    return rule, a * b * _head(runtime)(s * t * K, s**2 * P, t**2 * Q)


def moment(n: int, mean, variance) -> sympy.Expr:
    """E z**n of N(mean, variance)."""
    return sum(
        (
            sympy.binomial(n, 2 * i) * sympy.factorial2(2 * i - 1) * variance**i * mean ** (n - 2 * i)
            for i in range(n // 2 + 1)
        ),
        sympy.Integer(0),
    )


def _mean_of_derivative(atom: Atom, order: int, q, nu) -> sympy.Expr | None:
    """E (d/dw)**order of the atom without its coefficient, w ~ N(nu, q), or None."""
    a, b = atom.slope, atom.offset
    if atom.kind == "1":
        n = atom.power
        return sympy.ff(n, order) * moment(n - order, nu, q) if n >= order else sympy.Integer(0)
    if atom.kind == "wave":
        return _wave_in(atom, q, nu) if order == 0 else None
    if atom.kind in ("abs", "sign") and (nu != 0 or b != 0):
        if atom.power or order + (atom.kind == "sign") > 1:
            return None
        mean, variance = a * nu + b, a**2 * q
        if atom.kind == "abs" and order == 0:
            return 2 * _head("relu_mean")(variance, mean) - mean
        return a**order * (2 * _head("step_mean")(variance, mean) - 1)
    if atom.kind in ("abs", "sign"):
        if atom.power:
            return _odd_moment(atom.power + (atom.kind == "abs"), 0, q) if order == 0 else None
        even = (atom.kind == "abs") == (order % 2 == 0)
        if not even:
            return sympy.Integer(0)
        if atom.kind == "abs" and order == 0:
            return _head("abs_mean")(q)
        return _head("sign_slope")(q) if atom.kind == "sign" and order == 1 else None
    shift = sympy.Dummy("shift", real=True)
    if atom.kind == "erf":
        mean = sympy.erf((a * shift + b) / _sqrt(1 + 2 * a**2 * q))
    elif atom.kind == "exp":
        mean = sympy.exp(a * shift + b + a**2 * q / 2)
    else:
        mean = sympy.exp(-(a**2) * q / 2) * (sympy.sin if atom.kind == "sin" else sympy.cos)(a * shift + b)
    for _ in range(atom.power):  # Stein: E w h(w + s) as a function of the mean s
        mean = shift * mean + q * mean.diff(shift)
    return mean.diff(shift, order).subs(shift, nu)


def _odd_moment(power: int, shares: int, q) -> sympy.Expr:
    """E w**power sign(w)/q**shares for w of variance q, 0 at q = 0."""
    if power % 2 == 0:
        return sympy.Integer(0)
    half = power // 2
    times = half - shares
    scale = q**times if times >= 0 else _head("reciprocal")(q) ** -times
    return 2**half * sympy.factorial(half) * scale * _head("abs_mean")(q)


def _pair(a: Atom, b: Atom, k, p, q, mu, nu) -> sympy.Expr | None:
    if max(a.power, b.power) > MOST_POWER:
        return None
    found = None if "wave" in (a.kind, b.kind) else _pair_of_kinds(a, b, k, p, q, mu, nu)
    return _waves(a, b, k, p, q, mu, nu) if found is None else found


def _pair_of_kinds(a: Atom, b: Atom, k, p, q, mu, nu) -> sympy.Expr | None:
    centred = mu == 0 and nu == 0 and a.offset == 0 and b.offset == 0
    kinds = {a.kind, b.kind}
    if centred and kinds <= {"abs", "sign", "1"} and kinds != {"1"} and a.power + b.power > 0:
        return _powers_with_signs(a, b, k, p, q)
    if a.kind == "1":
        return _power_times(a, b, k, p, mu, q, nu)
    if b.kind == "1":
        return _power_times(b, a, k, q, nu, p, mu)
    if kinds <= {"exp"} or (kinds <= {"exp", "sin", "cos"} and "exp" in kinds):
        return _exponential(a, b, k, p, q, mu, nu) if a.kind == "exp" else _exponential(b, a, k, q, p, nu, mu)
    if kinds <= {"sin", "cos"}:
        return _trigonometric(a, b, k, p, q, mu, nu)
    if kinds == {"erf"} and centred:
        arguments = (a.slope * b.slope * k, a.slope**2 * p, b.slope**2 * q)
        if (a.power, b.power) == (0, 0):
            return _head("erf_dual")(*arguments)
        if (a.power, b.power) == (1, 1):
            return _head("xerf_dual")(*arguments) / (a.slope * b.slope)
        return sympy.Integer(0) if (a.power + b.power) % 2 else None
    if kinds <= {"abs", "sign"} and not centred:
        return _with_means(a, b, k, p, q, mu, nu)
    if kinds <= {"abs", "sign"} and a.power == b.power == 0:
        return _head(f"{a.kind}_dual")(k, p, q) if a.kind == b.kind else sympy.Integer(0)
    return None


def _powers_with_signs(a: Atom, b: Atom, k, p, q):
    """E z**m w**n with sign(z), sign(w) or both, means zero: from arc-cosine kernels of every order."""
    m, n = (atom.power + (atom.kind == "abs") for atom in (a, b))
    signs = (a.kind != "1") + (b.kind != "1")
    if (m + n + signs) % 2:
        return sympy.Integer(0)
    if signs == 2:  # sign = 2·step - 1, and E z**m step(z) w**n is half of E z**m w**n
        if (a.power, b.power) == (0, 0) and a.kind == b.kind:
            return _head(f"{a.kind}_dual")(k, p, q)
        return 4 * _head("rectified_dual")(k, p, q, m, n) - _powers(m, n, k, p, q)
    if a.kind != "1":
        p, q, m, n = q, p, n, m
    # z = (k/q)·w + e with e independent of w, which has the sign
    rest = p - k**2 * _head("reciprocal")(q)
    return sum(
        (
            sympy.binomial(m, i) * k**i * _odd_moment(n + i, i, q) * moment(m - i, sympy.Integer(0), rest)
            for i in range(m + 1)
        ),
        sympy.Integer(0),
    )


def _powers(m: int, n: int, k, p, q):
    """E z**m w**n for means zero."""
    zero, one = sympy.Integer(0), sympy.Integer(1)
    return _power_times(Atom(one, "1", m), Atom(one, "1", n), k, p, zero, q, zero)


def _waves(a: Atom, b: Atom, k, p, q, mu, nu) -> sympy.Expr | None:
    """Powers times exponentials of quadratics times cosines: cos(u) cos(v) = (cos(u + v) + cos(u - v))/2."""
    left, right = as_wave(a), as_wave(b)
    if left is None or right is None:
        return None
    scale = left.coefficient / a.coefficient * right.coefficient / b.coefficient
    if left.slope == 0 or right.slope == 0:
        return scale * _turned(left, right, right.slope, left.offset + right.offset, k, p, q, mu, nu)
    if mu == nu == left.linear == right.linear == left.power == right.power == 0:
        phases = [(sympy.cos(atom.offset), -sympy.sin(atom.offset)) for atom in (left, right)]
        squares = left.square, right.square
        return scale * sum(
            u * v * _head("gabor_dual")(k, p, q, *squares, left.slope, right.slope, odd) if u * v != 0 else 0
            for odd, (u, v) in enumerate(zip(*phases, strict=True))
        )
    added = _turned(left, right, right.slope, left.offset + right.offset, k, p, q, mu, nu)
    return scale / 2 * (added + _turned(left, right, -right.slope, left.offset - right.offset, k, p, q, mu, nu))


def _turned(a: Atom, b: Atom, slope, phase, k, p, q, mu, nu):
    """E of both waves with cos(a.slope·z + slope·w + phase) for their cosines."""
    total = sympy.Integer(0)
    waves = a.slope != 0 or slope != 0
    even = mu == 0 and nu == 0 and a.linear == 0 and b.linear == 0
    for odd, factor in ((0, sympy.cos(phase)), (1, -sympy.sin(phase))):
        vanishes = (odd and not waves) or (even and (a.power + b.power + odd) % 2)
        if factor != 0 and not vanishes:
            total += factor * _head("wave_dual")(
                k, p, q, mu, nu, a.power, b.power, a.square, b.square, a.linear, b.linear, a.slope, slope, odd
            )
    return total


def _wave_in(atom: Atom, q, nu):
    """E of a wave, without its coefficient."""
    even, total = nu == 0 and atom.linear == 0, sympy.Integer(0)
    for odd, factor in ((0, sympy.cos(atom.offset)), (1, -sympy.sin(atom.offset))):
        vanishes = (odd and atom.slope == 0) or (even and (atom.power + odd) % 2)
        if factor != 0 and not vanishes:
            total += factor * _head("wave_mean")(q, nu, atom.power, atom.square, atom.linear, atom.slope, odd)
    return total


def _with_means(a: Atom, b: Atom, k, p, q, mu, nu):
    """Means or offsets: |u| = 2·relu(u) - u and sign(u) = 2·step(u) - 1, for u = slope·z + offset."""
    if a.power or b.power:
        return None
    k, p, q = a.slope * b.slope * k, a.slope**2 * p, b.slope**2 * q
    mu, nu = a.slope * mu + a.offset, b.slope * nu + b.offset
    if (a.kind, b.kind) == ("sign", "abs"):
        a, b, p, q, mu, nu = b, a, q, p, nu, mu
    step_left, step_right = _head("step_mean")(p, mu), _head("step_mean")(q, nu)
    relu_left, relu_right = _head("relu_mean")(p, mu), _head("relu_mean")(q, nu)
    if (a.kind, b.kind) == ("sign", "sign"):
        return 4 * _head("step_step")(k, p, q, mu, nu) - 2 * step_left - 2 * step_right + 1
    if (a.kind, b.kind) == ("abs", "sign"):
        # E (2·relu(z) - z)(2·step(w) - 1), and E z step(w) = mu·E step(w) + k·density of w at 0: not had here
        return None
    linear = mu * (2 * relu_right - nu) + k * (2 * step_right - 1)  # E z |w|
    other = nu * (2 * relu_left - mu) + k * (2 * step_left - 1)
    # E |z||w| = 4·E relu relu - 2·E relu(z) w - 2·E z relu(w) + E z w
    return 4 * _head("relu_relu")(k, p, q, mu, nu) - linear - other - (mu * nu + k)


def _power_times(a: Atom, b: Atom, k, p, mu, q, nu):
    """E z**n g(w) = sum over j of binomial(n, j)·k**j·E z**(n - j)·E g^(j)(w)."""
    total, n = sympy.Integer(0), a.power
    if b.kind not in ("1", "exp", "sin", "cos") and n > 4:
        return None
    for j in range(n + 1):
        factor = sympy.binomial(n, j) * k**j * moment(n - j, mu, p)
        if factor != 0:
            mean = _mean_of_derivative(b, j, q, nu)
            if mean is None:
                return None
            total += factor * mean
    return total


def _exponential(a: Atom, b: Atom, k, p, q, mu, nu):
    """exp tilts the Gaussian: w's mean moves by slope·k."""
    if a.power:
        return None
    mean = _mean_of_derivative(b, 0, q, nu + a.slope * k)
    weight = sympy.exp(a.slope * mu + a.offset + a.slope**2 * p / 2)
    return None if mean is None else sympy.powsimp(weight * mean)


def _trigonometric(a: Atom, b: Atom, k, p, q, mu, nu):
    """Phases split off: sin(z + t) = sin(z) cos(t) + cos(z) sin(t), and E sin(z) cos(w) = 0."""
    if a.power or b.power:
        return None
    arguments = (a.slope * b.slope * k, a.slope**2 * p, b.slope**2 * q)
    (s, c), (t, d) = _phases(a, mu), _phases(b, nu)
    return s * t * _head("sin_dual")(*arguments) + c * d * _head("cos_dual")(*arguments)


def _phases(atom: Atom, mean):
    phase = atom.slope * mean + atom.offset
    if atom.kind == "sin":
        return sympy.cos(phase), sympy.sin(phase)
    return -sympy.sin(phase), sympy.cos(phase)


# Plans.

_ACCURACY = "rounding, for all variances and correlations"


def closed_pair(request: Request) -> Plan | None:
    """The plan of a closed form, or None."""
    f, g = request.f, request.g
    apart = {symbol: sympy.Dummy(symbol.name, real=True) for symbol in g.scalars}
    form = pair_form(f, replace(g, expr=g.expr.xreplace(apart)))
    if form is None:
        return None
    rule, expr = form

    def call(k, p, q, mu, nu, scalars_f, scalars_g):
        names = {K: k, P: p, Q: q, MU: mu, NU: nu, **scalars_f}
        names.update({apart[symbol]: code for symbol, code in scalars_g.items() if symbol in apart})
        return _code(expr, names, K)

    def symbolic(k, p, q, mu, nu):
        back = {dummy: symbol for symbol, dummy in apart.items()}
        form = _explicit(expr)
        return None if form is None else form.xreplace({K: k, P: p, Q: q, MU: mu, NU: nu, **back})

    return Plan(rule, _ACCURACY, (), _modules(expr), call, symbolic)


def closed_mean(side: Side) -> MeanPlan | None:
    """The plan of a closed form of E f(z), or None."""
    found = atoms(side)
    if found is None:
        return None
    total = sympy.Integer(0)
    for atom in found:
        mean = _mean_of_derivative(atom, 0, P, MU if side.has_mean else sympy.Integer(0))
        if mean is None:
            return None
        total += atom.coefficient * mean
    total = _tidy(total)
    rule = _rule_name(found, total)

    def call(p, mu, scalars):
        return _code(total, {P: p, MU: mu, **scalars}, P)

    return MeanPlan(rule, _ACCURACY, (), _modules(total), call, lambda p, mu: _explicit(total).xreplace({P: p, MU: mu}))


def _code(expr, names, shape_giver) -> str:
    missing = {symbol: sympy.Integer(0) for symbol in (MU, NU) if names.get(symbol) is None}
    expr = expr.xreplace(missing)
    unknown = [symbol.name for symbol in expr.free_symbols if symbol not in names]
    if unknown:
        raise ValueError(f"no code is given for the scalars {', '.join(sorted(unknown))}")
    code = functions.jax_code(expr, {symbol: name for symbol, name in names.items() if name is not None})
    # whatever the closed form is free of, the value has the full shape
    return code if shape_giver in expr.free_symbols else f"({code} + jnp.zeros_like({names[shape_giver]}))"


def _explicit(expr):
    """The formula in known functions, or None where it is an integral."""
    formulas = {_head(name): formula for name, (_, formula) in RUNTIME.items()}
    known = {head_: formula for head_, formula in formulas.items() if formula is not None}
    if any(part.func in formulas and part.func not in known for part in sympy.preorder_traversal(expr)):
        return None
    return expr.replace(lambda part: part.func in known, lambda part: known[part.func](*part.args))


def _modules(expr) -> tuple[str, ...]:
    used = {type(part).__name__ for part in sympy.preorder_traversal(expr)}
    return tuple(sorted({module for name, (module, _) in RUNTIME.items() if name in used}))
