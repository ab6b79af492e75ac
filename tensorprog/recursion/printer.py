"""The recursion as a text in a stable syntax: every table of both streams, with its axes and clauses.

    covariance[cross](h, h') over t = 1..T, t' = 1..T'
        [t, t'] := law(W: var_w, tangent 1) * moment[cross](s, s')[t-1, t'-1] + … for t = 1..T, t' = 1..T'
    moment[self](s) over t = 0..T (diagonal)
        [0] := 0

What is printed is the moment IR itself, nothing left out; for reading there is `tpc derive`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tensorprog.functions import text
from tensorprog.index.conditions import Condition
from tensorprog.recursion import nodes as ir
from tensorprog.recursion.tables import Axis, Recursion, Table
from tensorprog.recursion.walking import parts

_SUM, _PRODUCT, _ATOM = range(3)


def print_recursion(recursion: Recursion) -> str:
    """All tables, those first that others read, in a text that ends with a newline."""
    lines: list[str] = []
    for table in recursion.tables.values():
        lines += [*_table(table), ""]
    if recursion.output is not None:
        lines.append(f"kernel: {key_text(recursion.output)}")
    lines += [f"limit: {key_text(key)}" for key in recursion.limits]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> Iterator[str]:
    axes = ", ".join(_axis(a) for a in table.axes)
    yield f"{key_text(table.key)}{f' over {axes}' if axes else ''}"
    for c in table.clauses:
        target = f"[{', '.join(map(str, c.target))}]"
        loops = f" for {', '.join(map(str, c.binders))}" if c.binders else ""
        conditions = f" where {_conditions(c.conditions)}" if c.conditions else ""
        yield f"    {target} := {_text(c.value, _SUM)}{loops}{conditions}"
    if not table.clauses:
        yield "    read off the data" if table.key.kind in (ir.DATA, ir.SCALAR) else "    0"


def _axis(a: Axis) -> str:
    if a.left is None or a.right is None:
        return str(a.range)
    other = f", {a.range.name}' = {a.range.name}{a.offset:+d}" if a.offset else ""
    return f"{a.range} (diagonal{other})"


def key_text(key: ir.Key) -> str:
    left, *right = key.families
    families = ", ".join([left, *(f"{name}'" for name in right)])
    return f"{key.kind}[{key.stream}]({families})"


def _conditions(conditions: tuple[Condition, ...]) -> str:
    return " and ".join(str(c) for c in conditions)


def _text(node: ir.Node, level: int) -> str:
    own, written = _node(node)
    return written if own >= level else f"({written})"


def _node(node: ir.Node) -> tuple[int, str]:
    match node:
        case ir.Constant(value):
            level = _SUM if value.is_Add else _PRODUCT if value.is_Mul or value.is_negative else _ATOM
            return level, text(value)
        case ir.LawVariance(name=name, scale=scale, tangent=tangent, moves=moves):
            moved = f", tangent {text(tangent) if tangent is not None else 'none'}" if moves else ""
            return _ATOM, f"law({name}: {text(scale)}{moved})"
        case ir.Read(key, indices, side):
            return _ATOM, f"{key_text(key)}[{', '.join(map(str, indices))}]{f'@{side}' if side else ''}"
        case ir.Gram(names, left, right, sides, feature):
            pair = (_member(n, i, s) for n, i, s in zip(names, (left, right), sides, strict=True))
            return _ATOM, f"<{', '.join(pair)}>/{feature}"
        case ir.Add(terms):
            return _SUM, " + ".join(_text(t, _SUM) for t in terms)
        case ir.Product(factors):
            return _PRODUCT, " * ".join(_text(f, _PRODUCT) for f in factors)
        case ir.Sum(ranges, conditions, body):
            where = f" where {_conditions(conditions)}" if conditions else ""
            return _ATOM, f"sum[{', '.join(map(str, ranges))}{where}]({_text(body, _SUM)})"
        case ir.Where(conditions, then, otherwise):
            return _ATOM, f"({_text(then, _SUM)} if {_conditions(conditions)} else {_text(otherwise, _SUM)})"
        case ir.Apply(expression, arguments):
            return _ATOM, f"apply({text(expression)}{_arguments(arguments)})"
        case ir.Reduce(kind, over, conditions, body, at):
            where = f" where {_conditions(conditions)}" if conditions else ""
            chosen = f" at {at}" if at is not None else ""
            return _ATOM, f"{kind}[{over}{where}]({_text(body, _SUM)}){chosen}"
        case ir.PairExpectation():
            return _ATOM, _pair(node)
        case ir.SingleExpectation():
            given = [f"q = {_text(node.q, _SUM)}", *_mean("mu", node.mu)]
            return _ATOM, f"expect({node.z}: {text(node.f)}; {', '.join(given)}{_arguments(node.scalars)})"
        case ir.JointExpectation():
            return _ATOM, _joint(node)
        case ir.Sampled():
            return _ATOM, _sampled(node)
        case ir.BatchnormExpectation():
            return _ATOM, _batchnorm(node)
        case ir.BatchnormMean():
            given = [_block("p", node.rows, node.p), f"eps = {_text(node.eps, _SUM)}"]
            return _ATOM, f"batchnorm([{node.at}]: {_slopes(node.phi)}; {', '.join(given)}; {_ranges(node.rows)})"
    # A node of a later version: its name and what it holds, rather than nothing.
    inner = ", ".join(_text(p, _SUM) for p in parts(node))
    return _ATOM, f"{type(node).__name__}({inner})"


def _member(name: str, indices, side: str | None) -> str:
    listed = f"[{', '.join(map(str, indices))}]" if indices else ""
    return f"{name}{listed}{f'@{side}' if side else ''}"


def _pair(node: ir.PairExpectation) -> str:
    given = [f"{name} = {_text(value, _SUM)}" for name, value in (("k", node.k), ("p", node.p), ("q", node.q))]
    given += [*_mean("mu", node.mu), *_mean("nu", node.nu)]
    scalars = _arguments((*node.scalars_f, *node.scalars_g))
    return f"expect({node.z}, {node.w}: {text(node.f)} | {text(node.g)}; {', '.join(given)}{scalars}{_same(node.same)})"


def _joint(node: ir.JointExpectation) -> str:
    left, right = (", ".join(map(str, s)) for s in (node.zs, node.ws))
    covariance = ", ".join(_text(c, _SUM) for c in node.covariance)
    means = ", ".join("0" if m is None else _text(m, _SUM) for m in node.means)
    scalars = _arguments((*node.scalars_f, *node.scalars_g))
    return (
        f"expect({left} | {right}: {text(node.f)} | {text(node.g)}; covariance = [{covariance}], "
        f"means = [{means}]{scalars})"
    )


def _sampled(node: ir.Sampled) -> str:
    members = [_member(*node.left, None)]
    if node.right is not None:
        name, indices = node.right
        members.append(_member(f"{name}'", indices, None))
    functions = ", ".join(f"({', '.join(map(str, symbols))}) -> {text(f)}" for f, symbols in node.functions)
    tables = ", ".join(map(key_text, node.tables))
    moved = "; moved" if node.moved else ""
    return f"sample({' | '.join(members)}: {functions or 'linear'}; {tables}{moved})"


def _batchnorm(node: ir.BatchnormExpectation) -> str:
    given = [
        _block("k", (node.rows[0], node.columns[0]), node.k),
        _block("p", node.rows, node.p),
        _block("q", node.columns, node.q),
        f"eps = ({_text(node.eps, _SUM)}, {_text(node.other_eps, _SUM)})",
    ]
    if node.moved is not None:
        given.append(_block("moved", (node.rows[0], node.columns[0]), node.moved))
    slopes = f"{_slopes(node.phi)} | {_slopes(node.gamma)}"
    ranges = _ranges((*node.rows, *node.columns))
    return f"batchnorm([{node.at}], [{node.other_at}]: {slopes}; {', '.join(given)}; {ranges}{_same(node.same)})"


def _block(name: str, places, value: ir.Node) -> str:
    return f"{name}[{', '.join(r.name for r in places)}] = {_text(value, _SUM)}"


def _ranges(ranges) -> str:
    return ", ".join(map(str, ranges))


def _slopes(slopes) -> str:
    """α u + β |u|."""
    return f"{text(slopes[0])} u + {text(slopes[1])} |u|"


def _same(conditions) -> str:
    if conditions is None:
        return ""
    return f"; same{f' where {_conditions(conditions)}' if conditions else ''}"


def _mean(name: str, value: ir.Node | None) -> list[str]:
    return [] if value is None else [f"{name} = {_text(value, _SUM)}"]


def _arguments(arguments) -> str:
    return "".join(f"; {symbol} = {_text(value, _SUM)}" for symbol, value in arguments)
