"""The data that a kernel is called with, checked against the inputs that a program declares.

    input x[t = 1..T] : R(d)          x1 of shape (N1, T, d):  T and d are read off it
    input adj[p = 1..P, q = 1..P] : C an array of shape (N1, P, P)

Nothing is computed here but checks of finiteness; tracers of JAX pass with their shapes checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tensorprog.data.sources import Digits, fit_digits
from tensorprog.errors import did_you_mean
from tensorprog.finiteness import all_finite
from tensorprog.index.affine import Affine
from tensorprog.index.bounds import Bound, bound_symbols, evaluate_bound, substituted
from tensorprog.index.ranges import Range
from tensorprog.index.solving import reaching
from tensorprog.language import syntax
from tensorprog.program.ir import Family, Program
from tensorprog.program.laws import sizes_in_laws
from tensorprog.program.sizes import check_sizes, own_lengths
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Data, Position

Array = Any
"""A NumPy or JAX array, or a tracer."""


@dataclass(frozen=True)
class Argument:
    """One run's data, in order: an array (N, *axes, d) for every input, N, and the sizes that were read off them."""

    arrays: dict[str, Array]
    count: int
    sizes: dict[str, int]
    features: dict[str, int]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample: `{"x": (T, d)}`."""
        return {name: tuple(a.shape[1:]) for name, a in self.arrays.items()}


def read_arguments(program: Program, x1: Any, x2: Any = None, dtype: Any = None) -> tuple[Argument, Argument | None]:
    """The data of a kernel's two arguments, all of one floating dtype; x2 None stands for x1.

    x1, x2: an array, or for several inputs a dict of arrays by name. Without `dtype`, the widest of the data is taken;
    integers become floats, half precision single.

    Raises ValueError, naming argument and input, where data do not fit; ProgramError where the program does not hold
    together at the sizes of the data.
    """
    return Reader(program, dtype).read(x1, x2)


class Reader:
    """Reads the data of one kernel's calls: what is known of shapes once is not asked again."""

    def __init__(self, program: Program, dtype: Any = None):
        self.program, self.dtype = program, dtype
        self._bound: dict[tuple, tuple[dict[str, int], dict[str, int]]] = {}
        self._together: set[tuple] = set()

    def read(self, x1: Any, x2: Any = None) -> tuple[Argument, Argument | None]:
        """As `read_arguments`."""
        first = self._argument(x1, "x1", "N1")
        second = None if x2 is None else self._argument(x2, "x2", "N2")
        shapes = tuple(tuple(a.shape[1:] for a in x.arrays.values()) for x in (first, second) if x is not None)
        if shapes not in self._together:
            _check_together(self.program, first, second)
            self._together.add(shapes)
        return _of_one_dtype(self.program, first, second, self.dtype)

    def _argument(self, x: Any, which: str, count_name: str) -> Argument:
        arrays = _arrays(self.program, x, which, count_name, self.dtype)
        shapes = tuple(a.shape[1:] for a in arrays.values())
        if shapes not in self._bound:
            self._bound[shapes] = bind_shapes(self.program, dict(zip(arrays, shapes, strict=True)), which)
        sizes, features = self._bound[shapes]
        for f in self.program.inputs:
            if isinstance(f.type, Position):
                _check_positions(arrays[f.name], f.name, f.type, {**self.program.integers, **sizes}, which)
        return Argument(arrays, next((a.shape[0] for a in arrays.values()), 1), dict(sizes), dict(features))


def read_argument(program: Program, x1: Any, dtype: Any = None) -> Argument:
    """The data of one run alone; raises as `read_arguments` does."""
    return read_arguments(program, x1, dtype=dtype)[0]


def bind_shapes(program: Program, shapes: Mapping[str, tuple[int, ...]], which: str = "x1") -> tuple[dict, dict]:
    """Sizes and features, `({"T": 7}, {"d": 300})`, from the shape (*axes, d) of one sample of every input.

    Raises ValueError where shapes do not fit the inputs' axes, the parameters that are set, or one another.
    """
    _check_names(program, shapes, which)
    for f in program.inputs:
        shape = tuple(shapes[f.name])
        if len(shape) != len(_layout(f)):
            raise ValueError(f"{which}: '{f.name}' has the shape {_shape(_layout(f))} here, not {_shape(shape)}")
        if any(size < 1 for size in shape):
            raise ValueError(f"{which}: '{f.name}' has an axis of length 0: {_shape(shape)}")
    return _sizes(program, shapes, which), _features(program, shapes, which)


def _check_together(program: Program, first: Argument, second: Argument | None) -> None:
    """The sizes of one or two runs, by themselves and together; raises as `read_arguments` does."""
    if second is not None:
        for d, size in first.features.items():
            if second.features[d] != size:
                raise ValueError(f"x1 and x2 differ in {d}: {size} and {second.features[d]} features")
        for name, family in sizes_in_laws(program).items():
            if first.sizes[name] != second.sizes[name]:
                raise ValueError(
                    f"x1 and x2 differ in {name}: {first.sizes[name]} and {second.sizes[name]}, and the law of "
                    f"'{family}' depends on {name}, while both runs share their parameters"
                )
        if first.sizes != second.sizes:
            _check_own_lengths(program, first.sizes, second.sizes)
    for argument in (first, second):
        if argument is not None:
            check_sizes(program, argument.sizes)


def _check_own_lengths(program: Program, first: Mapping[str, int], second: Mapping[str, int]) -> None:
    """Raises ValueError where two runs differ in a size, and a layer's length is one number for both."""
    for own in own_lengths(program):
        one, two = first[own.size], second[own.size]
        if one != two:
            raise ValueError(
                f"the samples differ in {own.size}: {one} and {two}, while the index {own.index} goes as far into both "
                f"as {own.length} = {program.integers[own.length]} says: write this length by {own.size}, such as "
                f"1..{own.size}/2 in place of 1..{own.length}"
            )


# ---------------------------------------------------------------- one argument


def _arrays(program: Program, x: Any, which: str, count_name: str, dtype: Any) -> dict[str, Array]:
    """The arrays of one run, of the right number of axes, finite, and of as many samples each."""
    arrays = {}
    given = _by_name(program, x, which)
    for f in program.inputs:
        array = _as_array(given[f.name], f, program, which)
        if array.ndim != 1 + len(f.ranges) + isinstance(f.type, Data):
            expected = (count_name, *_layout(f))
            raise ValueError(
                f"{which}: '{f.name}' has the shape {_shape(expected)}, and an array of shape "
                f"{_shape(array.shape)} was given"
            )
        if 0 in array.shape:
            what = "no samples" if array.shape[0] == 0 else "an axis of length 0"
            raise ValueError(f"{which}: '{f.name}' has {what}: its shape is {_shape(array.shape)}")
        if dtype is not None and array.dtype != dtype:
            with np.errstate(over="ignore"):  # what overflows is refused as infinite, with its place
                array = array.astype(dtype)
        _check_finite(array, f.name, which)
        arrays[f.name] = array
    counts = {name: a.shape[0] for name, a in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' has {n}" for name, n in counts.items())
        raise ValueError(f"{which}: the inputs differ in the number of samples: {listed}")
    return arrays


def _by_name(program: Program, x: Any, which: str) -> Mapping[str, Any]:
    names = [f.name for f in program.inputs]
    if not names:
        if x is None or (isinstance(x, Mapping) and not x):
            return {}
        raise ValueError(f"the program {program.name} has no inputs, and {which} was given")
    if x is None:
        raise ValueError(f"{which} is missing: the program {program.name} reads {_listed(names)}")
    if isinstance(x, Mapping):
        _check_names(program, x, which)
        return x
    if len(names) > 1:
        raise ValueError(
            f"{which}: the program {program.name} reads {_listed(names)}: give a dict of arrays, one for each name"
        )
    return {names[0]: x}


def _check_names(program: Program, given: Mapping[str, Any], which: str) -> None:
    names = [f.name for f in program.inputs]
    for name in given:
        if name not in names:
            hint = did_you_mean(str(name), names) or f"it has {_listed(names) if names else 'none'}"
            raise ValueError(f"{which}: the program {program.name} has no input '{name}': {hint}")
    for name in names:
        if name not in given:
            raise ValueError(f"{which}: the data for '{name}' are missing: the program reads {_listed(names)}")


def _as_array(x: Any, f: Family, program: Program, which: str) -> Array:
    if isinstance(x, Digits):
        return fit_digits(x.images, len(f.ranges), isinstance(f.type, Data), batch=is_batch(program, f))
    if not isinstance(x, np.ndarray | jax.Array):
        try:
            x = np.asarray(x)
        except (ValueError, TypeError):
            raise ValueError(f"{which}: '{f.name}' is not an array of numbers") from None
    dtype = x.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        if dtype.itemsize < 4:
            return x.astype(np.float32)
        return x if dtype.itemsize <= 8 else x.astype(np.float64)
    if jnp.issubdtype(dtype, jnp.integer) or dtype == np.bool_:
        return x.astype(np.float64 if isinstance(x, np.ndarray) else jnp.result_type(float))
    what = "complex numbers" if jnp.issubdtype(dtype, jnp.complexfloating) else f"values of type {dtype}"
    raise ValueError(f"{which}: '{f.name}' holds {what}, and data are real numbers")


def _check_finite(array: Array, name: str, which: str) -> None:
    if isinstance(array, jax.core.Tracer):
        return
    # NumPy, not jnp, whose functions would be traced inside a jit even where their arguments are known.
    values = np.asarray(array)
    if not all_finite(values):
        finite = np.isfinite(values)
        at = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
        raise ValueError(f"{which}: '{name}' holds {values[at]} at {list(at)}, and data are finite")


def _check_positions(array: Array, name: str, t: Position, sizes: Mapping[str, int], which: str) -> None:
    """Raises ValueError, with the first that is wrong, where data that hold indices leave 1, …, V."""
    if isinstance(array, jax.core.Tracer):
        return
    unknown = t.size.symbols - sizes.keys()
    if unknown:
        raise ValueError(f"{which}: '{name}' holds indices up to {t.size}, and {min(unknown)} has no value")
    values, most = np.asarray(array), t.size.evaluate(sizes)
    wrong = (values < 1) | (values > most) | (values != np.floor(values))
    if wrong.any():
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
        shown = f"{most}" if t.size.is_constant else f"{t.size} = {most}"
        held = f"{values[at].item():.15g} at {list(at)}"
        raise ValueError(f"{which}: '{name}' holds {held}, and its indices are 1, …, {shown}")


def _of_one_dtype(
    program: Program, first: Argument, second: Argument | None, wanted: Any
) -> tuple[Argument, Argument | None]:
    """All arrays of one dtype, that of the data which hold no indices where there are such."""
    both = {**first.arrays, **({name + "'": a for name, a in second.arrays.items()} if second else {})}
    if not both:
        return first, second
    indices = {f.name for f in program.inputs if isinstance(f.type, Position)}
    kinds = [a.dtype for name, a in both.items() if name.rstrip("'") not in indices]
    dtype = jnp.promote_types(kinds[0], kinds[0]) if kinds else jnp.dtype(wanted or jnp.result_type(float))
    for kind in kinds[1:]:
        dtype = jnp.promote_types(dtype, kind)

    def change(argument: Argument) -> Argument:
        arrays = {name: a if a.dtype == dtype else a.astype(dtype) for name, a in argument.arrays.items()}
        return Argument(arrays, argument.count, argument.sizes, argument.features)

    return change(first), None if second is None else change(second)


# ---------------------------------------------------------------- sizes


def _layout(f: Family) -> tuple[str, ...]:
    """The shape of one sample, in the program's names: (T, d)."""
    axes = [_length_text(r) for r in f.ranges]
    return (*axes, f.type.size) if isinstance(f.type, Data) else tuple(axes)


def _length_text(r: Range) -> str:
    length = _length(r)
    return str(length) if length is not None else f"{r.low}..{r.high}"


def _length(r: Range) -> Affine | None:
    return r.high - r.low + 1 if isinstance(r.low, Affine) and isinstance(r.high, Affine) else None


def _sizes(program: Program, shapes: Mapping[str, tuple[int, ...]], which: str) -> dict[str, int]:
    """The open integer parameters, from the lengths of the inputs' axes."""
    set_before = program.integers
    known = dict(set_before)
    origin: dict[str, str] = {}
    axes = [(f, k, r, int(shapes[f.name][k])) for f in program.inputs for k, r in enumerate(f.ranges)]
    while True:
        waiting = []
        for f, k, r, actual in axes:
            unknown = (bound_symbols(r.low) | bound_symbols(r.high)) - known.keys()
            length = _length(r)
            if not unknown:
                _check_length(f, r, actual, known, set_before, origin, which)
            elif len(unknown) == 1 and length is not None and not unknown & length.divided:
                (name,) = unknown
                value = _solve(length.substitute(known), name, actual)
                if value is None:
                    raise ValueError(
                        f"{which}: axis {r.name} of '{f.name}' has length {length}, and no integer {name} makes it "
                        f"{actual}"
                    )
                known[name] = value
                origin[name] = f"axis {r.name} of '{f.name}'"
            else:
                waiting.append((f, k, r, actual))
        if len(waiting) == len(axes):
            break
        axes = waiting
    return {name: known[name] for name in origin}


def _solve(length: Affine, name: str, actual: int) -> int | None:
    value, rests = reaching(length, name, Affine(actual))
    return None if rests else value.constant


def _check_length(f: Family, r: Range, actual: int, known, set_before, origin, which: str) -> None:
    expected = _evaluate(r.high, known) - _evaluate(r.low, known) + 1
    if expected == actual:
        return
    names = sorted(bound_symbols(r.low) | bound_symbols(r.high))
    read = [n for n in names if n in origin]
    here = f"axis {r.name} of '{f.name}' has length {actual}"
    if read:
        n = read[0]
        raise ValueError(f"{which}: {here}, but {n} = {known[n]} was read off {origin[n]}")
    if names:
        settings = ", ".join(f"{n} = {set_before[n]}" for n in names)
        wanted = "" if _length_text(r) in names else f", which makes its length {expected}"
        raise ValueError(f"{which}: {here}, but the program has {settings}{wanted}")
    raise ValueError(f"{which}: {here}, and the program says {expected}")


def _evaluate(bound: Bound, values: Mapping[str, int]) -> int:
    return evaluate_bound(substituted(bound, values), {})


def _features(program: Program, shapes: Mapping[str, tuple[int, ...]], which: str) -> dict[str, int]:
    found: dict[str, tuple[int, str]] = {}
    for f in program.inputs:
        if not isinstance(f.type, Data):
            continue
        size = int(shapes[f.name][-1])
        before, name = found.setdefault(f.type.size, (size, f.name))
        if before != size:
            raise ValueError(f"{which}: '{f.name}' has {f.type.size} = {size} features, and '{name}' has {before}")
    return {d: size for d, (size, _) in found.items()}


# ---------------------------------------------------------------- digits


def is_batch(program: Program, f: Family) -> bool:
    """Whether an input's first axis is a batch: some `batchnorm[b](…)` runs over the same range."""
    if not f.ranges:
        return False
    axis = f.ranges[0]
    for family in program.families.values():
        for clause in family.clauses:
            loops = {r.name: r for r in clause.loops}
            for e in subexpressions(clause.value):
                if isinstance(e, syntax.Reduction) and e.function == "batchnorm":
                    for b in e.binders:
                        if _same_range(b, loops, axis):
                            return True
    return False


def least_directions(program: Program, runs: Any) -> int | None:
    """In how many directions the batches of inputs vary, at least; None where no input is a batch or one is traced."""
    found = []
    for run in runs if isinstance(runs, tuple) else (runs,):
        for f in program.inputs:
            array = run.arrays[f.name]
            if not isinstance(f.type, Data) or not is_batch(program, f):
                continue
            if isinstance(array, jax.core.Tracer):
                return None
            x = np.asarray(array, np.float64).reshape(array.shape[0], array.shape[1], -1)
            x = x - x.mean(1, keepdims=True)
            found += [int(np.linalg.matrix_rank(sample, tol=None)) for sample in x]
    return min(found, default=None)


def _same_range(binder: syntax.Binder, loops: Mapping[str, Range], axis: Range) -> bool:
    if binder.low is None:
        loop = loops.get(binder.name)
        return loop is not None and (loop.low, loop.high) == (axis.low, axis.high)
    from tensorprog.language.printer import print_expression

    assert binder.high is not None
    return (print_expression(binder.low), print_expression(binder.high)) == (str(axis.low), str(axis.high))


# ---------------------------------------------------------------- words


def _shape(shape: tuple) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
