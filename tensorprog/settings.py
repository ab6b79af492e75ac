"""What a kernel is called with besides data: values of real parameters, and what is trained at which rate."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import sympy

from tensorprog.errors import ProgramError, did_you_mean
from tensorprog.program import ir
from tensorprog.program.build import build

KERNELS = ("nngp", "ntk")


def given(values: Any) -> bool:
    """Whether there is something to read: neither None nor an empty dict."""
    return values is not None and not (isinstance(values, Mapping) and not values)


def real_parameters(program: ir.Program, params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`params` checked: real parameters of the program, each one number, at which every law holds.

    Values may be traced: what is not known is not looked at. Raises ValueError for names and values that do not fit,
    and ProgramError, the one that loading with these values raises, where a law does not hold.
    """
    if params is None:
        return None
    if not isinstance(params, Mapping):
        raise ValueError(f'params is a dict of numbers by name, such as {{"var_w": 2.0}}, not {shown(params)}')
    kinds = {p.name: p.kind for p in program.parameters}
    reals = [name for name, kind in kinds.items() if kind == "real"]
    known: dict[str, float] = {}
    for name, value in params.items():
        if name not in kinds:
            hint = did_you_mean(str(name), reals) or f"its real parameters are {', '.join(reals) or 'none'}"
            raise ValueError(f"params: the program {program.name} has no parameter '{name}': {hint}")
        if name not in reals:
            raise ValueError(f"params: '{name}' is no real parameter: set it where the program is loaded")
        number = _one_number("params", name, value)
        if number is not None:
            known[name] = number
    if known:
        _check_laws(program, known)
    return dict(params) or None


def trained_parameters(program: ir.Program, wrt: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names that `wrt` gives, checked; None stands for all that are trained.

    Raises ValueError for a name that is none, and for values by name, which are `rates`.
    """
    names = program.trained
    if wrt is None:
        return names
    if isinstance(wrt, Mapping):
        raise ValueError("wrt names parameters, and has no values: rates={…} gives each its learning rate")
    if not isinstance(wrt, str | list | tuple | set | frozenset):
        raise ValueError(f"wrt is the name of a weight or vector, or a tuple of such, not {shown(wrt)}")
    chosen = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    for name in chosen:
        _check_trained("wrt", name, program)
    return tuple(n for n in names if n in chosen)


def learning_rates(program: ir.Program, rates: Mapping[str, Any] | None) -> dict[str, Any]:
    """`rates` checked: a learning rate of 0 or more, which may be traced, for trained parameters by name.

    Raises ValueError for names and values that do not fit.
    """
    if rates is None:
        return {}
    if not isinstance(rates, Mapping):
        raise ValueError(f'rates is a dict of numbers by name, such as {{"W": 2.0}}, not {shown(rates)}')
    for name, value in rates.items():
        _check_trained("rates", name, program)
        number = _one_number("rates", name, value)
        if number is not None and number < 0:
            raise ValueError(f"rates: '{name}' is {number:g}: a learning rate is 0 or more")
    return dict(rates)


def _check_trained(which: str, name: Any, program: ir.Program) -> None:
    if name not in program.trained:
        near = did_you_mean(str(name), program.trained)
        known = near or f"trained are {', '.join(program.trained) or 'none'}"
        raise ValueError(f"{which}: '{name}' is no trained parameter of {program.name}: {known}")


def _one_number(which: str, name: str, value: Any) -> float | None:
    """The value as a float, or None where it is traced."""
    import jax
    import numpy as np

    if isinstance(value, jax.core.Tracer):
        number, shape = None, value.shape
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                number = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, np.exceptions.ComplexWarning):
            raise ValueError(f"{which}: '{name}' is a number, not {shown(value)}") from None
        shape = number.shape
    if shape != ():
        raise ValueError(f"{which}: '{name}' is one number, not an array of shape {tuple(shape)}")
    if number is not None and not np.isfinite(number):
        raise ValueError(f"{which}: '{name}' is {value}: a finite number is needed")
    return None if number is None else float(number)


def whole(value: Any) -> int | None:
    """The value as an integer; None where it is none, as True and an array are not."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return value.__index__()
    except TypeError:  # an array has the method, and no index
        return None


def kernel_names(get: Any) -> tuple[str, ...]:
    """The kernels that `get` names, "nngp" or "ntk" or a tuple of both. Raises ValueError for anything else."""
    names = (get,) if isinstance(get, str) else tuple(get) if isinstance(get, list | tuple) else ()
    if not names or any(not isinstance(g, str) or g not in KERNELS for g in names) or len(set(names)) < len(names):
        raise ValueError(f"get is 'nngp', 'ntk' or a tuple of both, not {shown(get)}")
    return names


def shown(value: Any) -> str:
    """A value in an error: as it is written, or, where that is long, of which kind it is."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


# ---------------------------------------------------------------- laws


def _check_laws(program: ir.Program, given: Mapping[str, float]) -> None:
    """Laws that do not hold at these values are found fast; what to say of them, loading the program knows."""
    if all(_holds(law, tuple(given.items()), _numbers(program)) for law in _laws(program)):
        return
    settings = {p.name: p.value for p in program.parameters if p.value is not None}
    _load(program.source, program.filename, tuple({**settings, **given}.items()))


def _laws(program: ir.Program):
    return [f.law for f in program.families.values() if f.law is not None]


def _numbers(program: ir.Program) -> tuple[tuple[str, float], ...]:
    return tuple((name, float(value)) for name, value in program.reals.items() if value is not None)


@functools.lru_cache(maxsize=1024)
def _holds(law: ir.Law, given: tuple[tuple[str, float], ...], defaults: tuple[tuple[str, float], ...]) -> bool:
    """Whether a law certainly holds: real and finite at any size, with a variance of 0 or more."""
    values = {**dict(defaults), **dict(given)}
    for e in (law.mean, law.variance, law.multiplier):
        if not {s.name for s in e.free_symbols} & dict(given).keys():
            continue
        # What is positive is a width or a size, of which a law is a power.
        number = e.subs({s: 1 if s.is_positive else values.get(s.name, s) for s in e.free_symbols})
        if not number.is_number or not number.is_finite or not number.is_real:
            return False
        if e is law.variance and number < 0:
            return False
    return True


@functools.lru_cache(maxsize=64)
def _load(source: str, filename: str, settings: tuple[tuple[str, Any], ...]) -> None:
    try:
        build(source, {k: sympy.Float(v) if isinstance(v, float) else v for k, v in settings}, filename)
    except ProgramError as error:
        raise error.with_traceback(None) from None
