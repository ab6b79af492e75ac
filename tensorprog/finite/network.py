"""A program as a network of finite width: draws of its parameters, and its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tensorprog.arguments import Argument, read_argument
from tensorprog.backend.memory import available_memory
from tensorprog.errors import did_you_mean
from tensorprog.finite.execute import Execution, varying_families
from tensorprog.finite.families import Families
from tensorprog.finite.parameters import Draw, draws, finite_widths
from tensorprog.finite.plan import Plan, make_plan
from tensorprog.language import syntax
from tensorprog.program.ir import Family, Program
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Matrix, Process
from tensorprog.settings import shown, whole

Array = Any
Params = Mapping[str, Array]


class Network(NamedTuple):
    """`init(key, x1)` draws parameters; `apply(params, x1)` gives the outputs of the network that they make."""

    init: Callable[..., dict[str, Array]]
    apply: Callable[..., Array | dict[str, Array]]


@dataclass(frozen=True)
class At:
    """A network at the sizes of some data: what runs, and the laws of its parameters."""

    plan: Plan
    draws: dict[str, Draw]
    widths: dict[str, int]


class FiniteNetwork:
    """A program at a finite width n; other widths are their ratio to n times n, rounded.

    dtype: of the parameters; that of the data where it is None.

    Raises ValueError for a width that is no integer of at least 1.
    """

    def __init__(self, program: Program, width: int, dtype: Any = None):
        number = whole(width)
        if number is None or number < 1:
            raise ValueError(f"width is an integer of at least 1, not {shown(width)}")
        self.program = program
        self.width = number
        self.dtype = dtype
        self.widths = finite_widths(program, self.width)
        self.varying = varying_families(program)
        self.at = lru_cache(maxsize=32)(self._at)
        self._compiled = jax.jit(self.run, static_argnums=0)

    def __reduce__(self):
        return FiniteNetwork, (self.program, self.width, self.dtype)

    # ------------------------------------------------------------ init and apply

    def init(self, key: Any, x1: Array | Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Parameters drawn from their laws, by name.

        key: a JAX random key. x1: data as for `apply`, of which the shapes and the dtype count alone; None where the
        program has no inputs.

        A weight `A(n, m)` is an array (n, m), a vector `G(n)` one of shape (n,); the axes of a family come first. They
        are what is drawn from N, without the multiplier, which `apply` brings in. Fixed ones are among them.

        Raises ValueError where the data do not fit, or the parameters would not fit the memory; ProgramError where the
        program does not hold together at the data's sizes.
        """
        argument = read_argument(self.program, x1)
        at = self.at(frozen(argument.sizes), frozen(argument.features))
        dtype = self._dtype(argument)
        total = self._total(at, dtype)
        # One call for all: compiling one for each shape would take longer than drawing.
        try:
            drawn = jax.random.normal(key, (total,), dtype)
        except TypeError:
            raise ValueError(f"key is a key of jax.random, not {shown(key)}") from None
        return self._split(at, drawn)

    def draw(self, seed: int | tuple[int, ...], x1: Array | Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Parameters as `init` gives them, NumPy arrays by NumPy's generator: nothing is compiled for their shapes."""
        argument = read_argument(self.program, x1)
        at = self.at(frozen(argument.sizes), frozen(argument.features))
        dtype = self._dtype(argument)
        kind = np.float64 if dtype == np.float64 else np.float32
        normal = np.random.default_rng(seed).standard_normal(self._total(at, dtype), kind)
        return self._split(at, normal.astype(dtype, copy=False))

    def _total(self, at: At, dtype: Any) -> int:
        total = sum(d.count for d in at.draws.values())
        if 3 * total * dtype.itemsize > available_memory():
            raise ValueError(
                f"the parameters at width {self.width} take {human_bytes(total * dtype.itemsize)}, too much for the "
                f"{human_bytes(available_memory())} of memory"
            )
        return total

    def _split(self, at: At, normal: Array) -> dict[str, Array]:
        params = {}
        start = 0
        for name, d in at.draws.items():
            params[name] = d.sample(normal[start : start + d.count].reshape(d.shape))
            start += d.count
        return params

    def apply(self, params: Params, x1: Array | Mapping[str, Array] | None = None) -> Array | dict[str, Array]:
        """The outputs of the network on x1.

        params: what `init` gives, or what training made of it. x1: an array (N, *input axes, d), without d for an input
        of type C, or a dict of such by the inputs' names; None where the program has no inputs.

        Returns an array (N, *output axes) for a program whose output is a readout. Where there are outputs of type C, a
        dict of all outputs by name; those of a program without inputs lack N. The dtype is that of params and data
        together.

        Raises ValueError where params or data do not fit, or do not fit the memory; ProgramError where the program does
        not hold together at the data's sizes.
        """
        argument = read_argument(self.program, x1)
        at = self.at(frozen(argument.sizes), frozen(argument.features))
        params = checked_params(self.program, at, params)
        types = [a.dtype for a in (*params.values(), *argument.arrays.values())]
        dtype = jnp.result_type(*types) if types else jnp.result_type(float)
        self._check_memory(at, argument.count, dtype)
        key = (frozen(argument.sizes), frozen(argument.features))
        params = {k: jnp.asarray(v, dtype) for k, v in params.items()}
        outputs = self._compiled(key, params, {k: jnp.asarray(a, dtype) for k, a in argument.arrays.items()})
        return outputs[self.readout.name] if len(outputs) == 1 and self.readout is not None else outputs

    def _dtype(self, argument: Argument) -> Any:
        if self.dtype is not None:
            return jnp.dtype(self.dtype)
        types = [a.dtype for a in argument.arrays.values()]
        return jnp.dtype(jax.dtypes.canonicalize_dtype(types[0]) if types else jnp.result_type(float))

    def _check_memory(self, at: At, samples: int, dtype: Any) -> None:
        size = at.plan.entries * samples * dtype.itemsize
        if size > 4 * available_memory():  # not all of them are held at once
            raise ValueError(
                f"the vectors of {samples} samples at width {self.width} take {human_bytes(size)}, more than the "
                f"{human_bytes(available_memory())} of memory can hold: pass fewer samples at a time"
            )

    # ------------------------------------------------------------ what it consists of

    @property
    def readout(self) -> Family | None:
        """The output that is a readout, where there is one."""
        return next((f for f in self.program.outputs if isinstance(f.type, Process)), None)

    @property
    def readouts(self) -> tuple[str, ...]:
        """The vectors v in the v.T @ x of the output, and the random scalars in it."""
        found: dict[str, None] = {}
        for clause in self.readout.clauses if self.readout is not None else ():
            for e in subexpressions(clause.value):
                if isinstance(e, syntax.Transpose):
                    found[e.operand.name] = None
                elif isinstance(e, syntax.Name | syntax.Index) and self._is_scalar(e.name):
                    found[e.name] = None
        return tuple(found)

    def _is_scalar(self, name: str) -> bool:
        return name in self.program.families and self.program.families[name].role == "scalar"

    @property
    def trained(self) -> tuple[str, ...]:
        """The weights, vectors and scalars that are not fixed."""
        return tuple(f.name for f in self.program.families.values() if f.law is not None and not f.fixed)

    def _at(self, sizes: tuple[tuple[str, int], ...], features: tuple[tuple[str, int], ...]) -> At:
        integers = {**self.program.integers, **dict(sizes)}
        widths = {**self.widths, **dict(features)}
        reals = {name: float(value) for name, value in self.program.reals.items() if value is not None}
        numbers = {**reals, **integers, **widths}
        families = Families(self.program, integers)
        plan = make_plan(self.program, families, numbers)
        return At(plan, draws(self.program, families, numbers), widths)

    def run(self, key: tuple, params: Params, data: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs, from params and data of one dtype; what is compiled."""
        at = self.at(*key)
        families = at.plan.families
        given = {}
        for name, d in at.draws.items():
            dims = d.shape[d.axes :] or (1,)
            value = d.scaled(params[name]).reshape(-1, *dims)
            given[name] = value if isinstance(self.program.families[name].type, Matrix) else value[:, None, :]
        for f in self.program.inputs:
            x = data[f.name]
            samples = x.shape[0]
            x = x.reshape(samples, families.count(f.name), -1)
            given[f.name] = x.transpose(1, 0, 2)
        arrays = [*data.values(), *params.values()]
        samples = next(iter(data.values())).shape[0] if data else 1
        dtype = arrays[0].dtype if arrays else jnp.result_type(float)
        run = Execution(at.plan, self.program, given, at.widths, self.varying, samples, dtype)
        outputs = {}
        for name, values in run.outputs().items():
            values = values.T.reshape(-1, *families.shape(name))
            if data:
                outputs[name] = jnp.broadcast_to(values, (samples, *values.shape[1:]))
            else:
                outputs[name] = values[0]
        return outputs


def checked_params(program: Program, at: At, params: Params) -> dict[str, Array]:
    """The parameters that the program has, of the shapes that they have in it."""
    if not isinstance(params, Mapping):
        raise ValueError(f"params is a dict of arrays by name, as init gives it, not {type(params).__name__}")
    for name in params:
        if name not in at.draws:
            hint = did_you_mean(str(name), at.draws) or f"it has {', '.join(at.draws) or 'none'}"
            raise ValueError(f"params: the program {program.name} has no weight or vector '{name}': {hint}")
    result = {}
    for name, d in at.draws.items():
        if name not in params:
            raise ValueError(f"params: '{name}' is missing: an array of shape {d.shape}")
        value = params[name]
        if not isinstance(value, np.ndarray | jax.Array):
            value = jnp.asarray(value)
        if value.shape != d.shape:
            raise ValueError(f"params: '{name}' has the shape {d.shape} at this width, not {tuple(value.shape)}")
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"params: '{name}' holds values of type {value.dtype}, and parameters are real numbers")
        result[name] = value
    return result


def frozen(sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes.items()))


def human_bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
