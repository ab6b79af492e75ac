"""`def`s that are no coordinatewise functions (they multiply matrices, say) are written out where they are used."""

from __future__ import annotations

from tensorprog.errors import ProgramError
from tensorprog.index.fresh import numbered
from tensorprog.language import syntax
from tensorprog.program.scope import wrong_count
from tensorprog.program.substitution import free_names, rename


def expand_macros(statements, macros: dict[str, syntax.Definition]):
    """The statements with every call of a macro replaced by its body.

    macros: by the names they are called by, function parameters that stand for one among them.
    """
    if not macros:
        return statements
    return tuple(rename(s, lambda e: _expand(e, macros, ())) for s in statements)


def _expand(e, macros: dict[str, syntax.Definition], active: tuple[str, ...]):
    if not (isinstance(e, syntax.Call) and e.function in macros):
        if isinstance(e, syntax.DerivativeCall | syntax.DerivativeOf) and e.function in macros:
            name = macros[e.function].name  # type: ignore[index]
            raise ProgramError(f"'{name}' is no coordinatewise function: it has no derivative here", e.span)
        return None
    macro = macros[e.function]
    name = macro.name
    if name in active:
        raise ProgramError(f"'{name}' calls itself", e.span)
    names = [p.name for p in macro.parameters]
    least = sum(p.default is None for p in macro.parameters)
    if len(e.arguments) > len(names):
        raise wrong_count(name, least, len(names), len(e.arguments), e.span)
    values = dict(zip(names, e.arguments, strict=False))
    for k, v in e.keywords:
        if k not in names or k in values:
            raise ProgramError(f"{name} has no argument '{k}' left to give", e.span)
        values[k] = v
    for p in macro.parameters:
        if p.name not in values:
            if p.default is None:
                raise wrong_count(name, least, len(names), len(e.arguments), e.span)
            values[p.name] = p.default
    values = {k: rename(v, lambda s: _expand(s, macros, active)) for k, v in values.items()}
    taken = set().union(*(free_names(v) for v in values.values())) if values else set()
    body = _fresh_binders(macro.body, taken)
    # The body's own calls first: what the arguments call was written out already.
    body = rename(body, lambda s: _expand(s, macros, (*active, name)))
    return rename(body, lambda s: values.get(s.name) if isinstance(s, syntax.Name) else None)


def _fresh_binders(body, taken: set[str]):
    """The body with bound indices renamed that an argument would be captured by."""

    def change(e):
        if not isinstance(e, syntax.Reduction):
            return None
        clash = {b.name for b in e.binders if b.low is not None} & taken
        if not clash:
            return None
        new = {c: numbered(c, taken, first=1) for c in clash}

        def swap(s):
            if isinstance(s, syntax.Name) and s.name in new:
                return syntax.Name(new[s.name], span=s.span)
            if isinstance(s, syntax.Binder) and s.name in new:
                return syntax.Binder(new[s.name], s.low, s.high, s.step, span=s.span)
            return None

        return rename(rename(e, swap), lambda s: None)

    return rename(body, change)
