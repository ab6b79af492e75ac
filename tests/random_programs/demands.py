"""What is demanded of a program, whatever it is."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

import tensorprog as tp

# What the package refuses with a reason, as its documents say: a program that meets one of these is no failure.
REFUSALS: dict[str, str] = {
    "no gradient": r"jumps: (it|the network|networks|a network)?.*gradient|has no (finite )?gradient",
}


# Data and laws are of order 1: the digits of kernels that are smaller, or 0 but for rounding, are not looked at.
LEAST = 1e-4


class Failure(AssertionError):
    """A demand that a program does not meet: which, and how."""

    def __init__(self, demand: str, message: str):
        super().__init__(f"{demand}: {message}")
        self.demand, self.message = demand, message


class Refused(Exception):
    """A refusal of a known kind."""

    def __init__(self, kind: str, message: str):
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class TimeLimit(BaseException):
    """A demand took too long."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeLimit where the block takes longer, in seconds of this process."""

    def stop(*_):
        raise TimeLimit

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def refusal(error: tp.ProgramError) -> str | None:
    """The known kind of a refusal; None where it is none."""
    return next((kind for kind, pattern in REFUSALS.items() if re.search(pattern, error.message)), None)


def ask(demand: str, function: Callable):
    """What a function gives; Failure where it raises anything but a known refusal."""
    try:
        return function()
    except tp.ProgramError as error:
        kind = refusal(error)
        if kind is None:
            raise Failure(demand, f"refused: {error.message} (line {error.line})") from error
        raise Refused(kind, error.message) from None
    except (Failure, Refused):
        raise
    except Exception as error:
        raise Failure(demand, f"{type(error).__name__}: {error}") from error


# ---------------------------------------------------------------- what needs no numbers


def reads_well(text: str, thorough: bool = True) -> tp.Program:
    """Check, both derivations in three formats, and the core form as a program.

    The views of the NTK show the NNGP too; `thorough` asks for both all the same.
    """
    program = ask("parse", lambda: tp.parse(text))
    ask("check", lambda: str(program.check()))
    try:
        views(program, "ntk")
    except Refused:
        thorough = True
    if thorough:
        views(program, "nngp")
    core = ask("core", program.core)
    again = ask("core, parsed", lambda: tp.parse(core))
    if ask("core, derived", lambda: again.sampled) != program.sampled:
        raise Failure("core", "sampled in one form alone")
    return program


def views(program: tp.Program, get: str) -> None:
    derivation = ask(f"derive {get}", lambda: program.derive(get))
    ask(f"text of the {get}", lambda: str(derivation))
    ask(f"latex of the {get}", derivation.latex)
    ask(f"json of the {get}", lambda: json.dumps(derivation.json()))


# ---------------------------------------------------------------- numbers


@dataclass(frozen=True)
class Numbers:
    """Kernels as matrices over runs and outputs, and what sampling leaves open in them."""

    nngp: np.ndarray
    ntk: np.ndarray | None
    error: float = 0.0
    ntk_error: float = 0.0


def kernels(program: tp.Program, data: dict[str, np.ndarray]) -> Numbers:
    """Finite, symmetric, positive semidefinite kernels, the same where the data are given twice."""
    get: tuple[str, ...] = ("nngp", "ntk")
    if program.ntk_error is not None:
        ask_refused = refusal(program.ntk_error)
        if ask_refused is None:
            raise Failure("ntk", f"refused: {program.ntk_error.message}")
        get = ("nngp",)
    kernel = ask("kernel", program.kernel)
    # Where a rule is coarse, and the kernel says so, its own estimate tells how far off it may be.
    coarse = not program.sampled and bool(ask("kernel", lambda: kernel.backend.module.reach))
    word = "error" if coarse else "stderr"
    found = ask("kernel", lambda: kernel(data, get=get, **{f"return_{word}": True}))
    values, errors = [], []
    for name in get:
        value, error = matrix(getattr(found, name)), float(np.max(getattr(found, f"{name}_{word}")))
        if not np.isfinite(value).all():
            raise Failure(name, "not finite")
        size = max(float(np.abs(value).max()), LEAST)
        allowed = 1e-9 * size + 6 * error
        if np.abs(value - value.T).max() > allowed:
            raise Failure(name, f"not symmetric, by {np.abs(value - value.T).max() / size:.1e}")
        least = float(np.linalg.eigvalsh((value + value.T) / 2).min())
        if least < -len(value) * allowed:
            raise Failure(name, f"an eigenvalue of {least / size:.1e}")
        values.append(value)
        errors.append(error)
    copies = {k: v.copy() for k, v in data.items()}
    again = ask("kernel of data given twice", lambda: kernel(data, copies, get=get, **{f"return_{word}": True}))
    for name, value, error in zip(get, values, errors, strict=True):
        other = matrix(getattr(again, name))
        size = max(float(np.abs(value).max()), LEAST)
        # Other points are drawn for the second half of the pairs, and their spread is known from a few draws alone.
        error += float(np.max(getattr(again, f"{name}_{word}")))
        if not np.abs(other - value).max() <= 1e-8 * size + 6 * error:
            raise Failure(
                f"{name} of data given twice", f"{np.abs(other - value).max() / size:.1e} from that given once"
            )
    ntk = values[1] if len(values) > 1 else None
    return Numbers(values[0], ntk, errors[0], errors[1] if ntk is not None else 0.0)


def matrix(kernel) -> np.ndarray:
    """(N1, N2, *outputs of x1, *outputs of x2) → (N1·outputs, N2·outputs)."""
    k = np.asarray(kernel)
    axes = (k.ndim - 2) // 2
    left, right = range(2, 2 + axes), range(2 + axes, k.ndim)
    k = k.transpose((0, *left, 1, *right))
    return k.reshape(int(np.prod(k.shape[: 1 + axes])), -1)


def same_from_core(program: tp.Program, data, numbers: Numbers) -> None:
    """The core form has the same kernels."""
    core = tp.parse(program.core())
    if str(core.derive("nngp")) == str(program.derive("nngp")):
        return
    other = kernels(core, data)
    compare("core", other, numbers)


def two_ways(program: tp.Program, data, numbers: Numbers) -> bool:
    """The NTK by the backward pass, where there is one; whether there was."""
    from tensorprog.lowering import compiled
    from tests.ntk.by_backward import derive_ntk_by_backward

    if numbers.ntk is None or numbers.ntk_error:
        return False
    try:
        recursion = derive_ntk_by_backward(program.ir, program.backward().ir)
    except tp.ProgramError:
        return False
    except Exception as error:
        raise Failure("backward", f"{type(error).__name__}: {error}") from error
    if recursion.sampled:
        return False
    second = ask("backward", lambda: matrix(compiled(recursion)(data, get="nngp")))
    size = max(float(np.abs(numbers.ntk).max()), LEAST)
    if not np.abs(second - numbers.ntk).max() <= 1e-7 * size:
        raise Failure("ntk two ways", f"off by {np.abs(second - numbers.ntk).max() / size:.1e}")
    return True


def agrees_with_networks(text: str, data, numbers: Numbers) -> None:
    """Kernels of finite networks, extrapolated by two widths, within the standard error over draws.

    What seems off is looked at again at larger widths with more draws, so that chance fails no program.
    """
    for widths, seeds, allowed in (((48, 96), 40, 0.02), ((128, 256), 160, 0.005)):
        found = networks(text, data, widths, seeds)
        off = []
        limits = (("nngp", numbers.nngp, numbers.error), ("ntk", numbers.ntk, numbers.ntk_error))
        for (name, limit, error), (mean, spread) in zip(limits, found, strict=True):
            if limit is None:
                continue
            scale = np.sqrt(np.diag(limit).clip(LEAST))
            size = np.outer(scale, scale)
            z = np.abs(mean - limit) / np.sqrt(
                (5 * spread) ** 2 + (6 * error) ** 2 + (allowed * (size + size.max() / 10)) ** 2
            )
            if not z.max() <= 1:
                i, j = np.unravel_index(z.argmax(), z.shape)
                off.append(
                    (name, f"{limit[i, j]:.4g} where networks have {mean[i, j]:.4g} ± {spread[i, j]:.2g} at {i, j}")
                )
        if not off:
            return
    raise Failure(f"networks' {off[0][0]}", off[0][1])


def has_networks(text: str, data) -> None:
    """Refused where a network divides zero by zero: a layer normalization of zeros, say."""
    from .networks import Interpreter

    with np.errstate(all="ignore"):
        if not all(np.isfinite(k).all() for k in Interpreter(text, data, 8, 2).kernels()):
            raise Refused("no finite network", "")


def networks(text: str, data, widths: tuple[int, int], seeds: int):
    """(mean, standard error) of the NNGP and of the NTK, without their part of order 1/n."""
    from .networks import Interpreter

    small, large = (Interpreter(text, data, n, seeds, seed=n).kernels() for n in widths)
    a = widths[1] / (widths[1] - widths[0])
    results = []
    for first, second in zip(small, large, strict=True):
        mean = a * second.mean(0) - (a - 1) * first.mean(0)
        spread = np.sqrt(a**2 * second.var(0) + (a - 1) ** 2 * first.var(0)) / np.sqrt(seeds - 1)
        results.append((mean, spread))
    return results


def compare(demand: str, first: Numbers, second: Numbers) -> None:
    for name, a, b, error in (("nngp", first.nngp, second.nngp, first.error + second.error),
                              ("ntk", first.ntk, second.ntk, first.ntk_error + second.ntk_error)):  # fmt: skip
        if a is None or b is None:
            if a is not b:
                raise Failure(demand, f"{name} in one alone")
            continue
        size = max(float(np.abs(b).max()), LEAST)
        if not np.abs(a - b).max() <= 1e-8 * size + 6 * error:
            raise Failure(demand, f"{name} off by {np.abs(a - b).max() / size:.1e}")
