"""What `import tensorprog as tp` offers: programs, their reports, their recursions and their kernels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tensorprog.errors import ProgramError
from tensorprog.language.files import read_program
from tensorprog.language.printer import print_program
from tensorprog.program import ir
from tensorprog.program.build import build as build_text
from tensorprog.program.parameters import Setting
from tensorprog.program.sizes import missing
from tensorprog.settings import KERNELS, kernel_names, shown, whole

if TYPE_CHECKING:
    from tensorprog.finite.network import Network
    from tensorprog.program.builder import ProgramBuilder

Array = Any
"""A NumPy or JAX array, or a tracer."""


def load(path_or_name: str | os.PathLike[str], **parameters: Setting) -> Program:
    """The program in a file, or a bundled one by its name (`"rnn"`), with its parameters set.

    A parameter is set to a number (exact as `"1/3"`) or to the name of a function; a file goes before a bundled name.

    Raises ProgramError where there is no such file, where it is no text, or for whatever is wrong with the program.
    """
    text, shown = read_program(path_or_name)
    return Program(build_text(text, parameters, shown))


def parse(text: str, **parameters: Setting) -> Program:
    """The program that a text is, with its parameters set. Raises ProgramError for whatever is wrong with it."""
    if not isinstance(text, str):
        raise TypeError(f"a program is a text, not {type(text).__name__}")
    return Program(build_text(text, parameters))


def build(builder: ProgramBuilder, **parameters: Setting) -> Program:
    """The program that was put together by hand, with its parameters set: the one that its text, `str(builder)`, gives.

    Raises ProgramError, placed in that text, for whatever is wrong with it; TypeError for what is no builder.
    """
    from tensorprog.program.builder import ProgramBuilder

    if not isinstance(builder, ProgramBuilder):
        raise TypeError(f"tp.build takes a ProgramBuilder, not {type(builder).__name__}: tp.parse takes a text")
    return Program(builder.build(**parameters))


@dataclass(frozen=True, repr=False, eq=False)
class Program:
    """A typed program with its parameters set. `str()` gives its source; programs do not change.

    Programs are equal where their texts and settings are; they are hashable, and pickled as text and settings.
    """

    ir: ir.Program
    """The typed families behind it."""

    @property
    def name(self) -> str:
        return self.ir.name

    @property
    def parameters(self) -> dict[str, int | float | str | None]:
        """Values by name: an int, a float, the name of a function; None where it is open."""
        return {
            p.name: float(p.value) if p.kind == "real" and p.value is not None else p.value  # type: ignore[arg-type]
            for p in self.ir.parameters
        }

    def __str__(self) -> str:
        return self.ir.source

    def __repr__(self) -> str:
        settings = ", ".join(n if v is None else f"{n}={v}" for n, v in self.parameters.items())
        return f"<Program {self.name}({settings})>"

    @property
    def _identity(self) -> tuple[str, tuple[tuple[str, Setting], ...]]:
        settings = ((p.name, p.value) for p in self.ir.parameters if p.value is not None)
        return self.ir.source, tuple(settings)  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Program) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    def __reduce__(self):
        return _built, (*self._identity, self.ir.filename)

    def __copy__(self) -> Program:
        return self

    def __deepcopy__(self, memo: Any) -> Program:
        return self

    def core(self) -> str:
        """The program in its five core instructions, with a type on every line: itself a program."""
        return print_program(self.ir.text)

    def backward(self) -> Program:
        """The program with its backward pass: for each vector h that the output reaches, d_h = sqrt(n)·∂output/∂h.

        The indices of an output family come first, as in `d_s[o, t]`. Raises ProgramError where no output is a readout,
        and for what has no derivative as a program.
        """
        from tensorprog.program.passes.backward import backward

        return Program(backward(self.ir))

    def check(self):
        """A report (`tensorprog.report.Report`): language, BP-likeness, nonlinearities, which limits exist."""
        from tensorprog.report import check

        return check(self.ir)

    def derive(self, get: str = "nngp") -> Derivation:
        """The μ/Σ recursion of the NNGP or, with "ntk", of both kernels.

        Raises ProgramError where that limit does not exist, ValueError for another `get`.
        """
        if not isinstance(get, str) or get not in KERNELS:
            raise ValueError(f"get is 'nngp' or 'ntk', not {shown(get)}")
        if get == "ntk":
            self._check_ntk()
        return Derivation(self.recursion, get)

    def kernel(
        self,
        *,
        tile: int | None = None,
        dtype: Any = None,
        progress: Callable[[int, int], None] | None = None,
        backend: str | None = None,
        tol: float | None = None,
        points: int | None = None,
        replicates: int | None = None,
        seed: int = 0,
    ) -> Kernel:
        """The kernels as a function of data.

        tile: how many samples of x1 and x2 are handled at once, where memory is not to decide it; dtype: float32 or
        float64 in place of the data's; progress: called with (done, total) as the work proceeds.

        backend: "plain", "fused", or None. A fused kernel takes each pair of samples through all layers at once, on a
        GPU (elsewhere it is interpreted, which is slow). There is one for chains of layers whose expectations have
        closed forms, as mlp and resnet. None: fused where there is one and JAX computes on a GPU, unless the
        environment variable TENSORPROG_BACKEND is "plain".

        The rest concerns expectations that no rule gives and that are sampled (`sampled` tells whether some are), by
        randomised quasi-Monte Carlo. points: of one lattice, 251, 1021, 4093, 16381, 65521 or 262139 (None: 1021);
        replicates: independent shifts of it, whose spread gives the standard error (None: 8); seed: of the shifts, the
        same seed giving the same numbers; tol: the largest standard error, as a part of the kernel's largest entry, for
        which more points are taken.

        Raises ProgramError where the NNGP does not exist, where the outputs are C's, or where there is no fused kernel
        and one is asked for; ValueError for an option out of its range.
        """
        if self.recursion.output is None:
            raise self._error("the outputs are C's: they have limits, and no kernel", "limits() gives them")
        sampling = _sampling(tol, points, replicates, seed)
        if progress is not None and not callable(progress):
            raise ValueError(f"progress is a function of (done, total), not {shown(progress)}")
        options = {"tile": _tile(tile), "dtype": _dtype(dtype), "progress": progress, "backend": _backend(backend)}
        return Kernel(self, **options, **sampling)

    @property
    def sampled(self) -> bool:
        """Whether some expectations have no rule: the kernels are then sampled, with a standard error.

        Raises ProgramError where there is no limit.
        """
        return self.recursion.sampled

    def limits(
        self, x1: Array | Mapping[str, Array] | None = None, *, dtype: Any = None, return_stderr: bool = False
    ) -> dict[str, Array]:
        """The limits of the outputs of type C by name, `{"m": array([1., 2., 5., 14.])}`.

        x1: the data of N1 runs, where the outputs depend on data; dtype: float32 or float64 in place of the data's;
        return_stderr: with standard errors, `"m_stderr"` and the like, which are zero for what is not sampled.

        Raises ProgramError where a limit does not exist or there is no such output, ValueError where data do not fit.
        """
        from tensorprog.arguments import read_argument
        from tensorprog.lowering import compiled
        from tensorprog.theorem.existence import needs_data

        if not self.recursion.limits:
            raise self._error("the program has no output of type C", "kernel() gives the kernels")
        self._check_values({})
        dtype = _dtype(dtype)
        backend = compiled(self.recursion, dtype=dtype)
        arrays = None
        if x1 is not None or needs_data(self.recursion):
            arrays = read_argument(self.ir, x1, dtype).arrays
        found = backend.limits_with_errors(arrays, None)
        errors = {f"{name}_stderr": error for name, (_, error) in found.items()} if return_stderr else {}
        return {**{name: value for name, (value, _) in found.items()}, **errors}

    def network(self, width: int, *, dtype: Any = None) -> Network:
        """The program as a network of finite width n: a NamedTuple (init, apply).

            init, apply = tp.load("rnn").network(width=512)
            params = init(jax.random.key(0), x1)
            y = apply(params, x1)

        `init(key, x1)` draws the parameters from their laws, a dict of arrays by the names of the declared weights and
        vectors, the axes of families first: what the law is of, without the multiplier. x1 gives the sizes.

        `apply(params, x1)` takes x1 of shape (N, *input axes, d), or a dict of such by the inputs' names, and gives the
        output (N, *output axes); where there are outputs of type C, a dict of all outputs by name. It works under
        `jax.jit` and `jax.grad`. Both leave x1 out where the program has no inputs.

        width: n; other widths are their ratio times it, rounded. dtype: float32 or float64 in place of the data's, for
        the parameters.

        Raises ProgramError where a parameter of the program has no value, ValueError for a width that is none.
        """
        from tensorprog.finite.network import FiniteNetwork, Network

        self._check_values({})
        network = FiniteNetwork(self.ir, width, _dtype(dtype))
        return Network(network.init, network.apply)

    @cached_property
    def recursion(self):
        """The moment IR, a `tensorprog.recursion.Recursion`. Raises ProgramError where there is no limit."""
        from tensorprog.theorem.derive import derive
        from tensorprog.theorem.existence import check_nngp

        with _located(self.ir):
            recursion = derive(self.ir)
            check_nngp(recursion)
            return recursion

    def _check_ntk(self) -> None:
        if self.ntk_error is not None:
            raise self.ntk_error.with_traceback(None)

    @cached_property
    def ntk_error(self) -> ProgramError | None:
        from tensorprog.theorem.existence import check_ntk

        try:
            check_ntk(self.recursion)
        except ProgramError as error:
            return error
        return None

    @cached_property
    def _batches_without_eps(self):
        from tensorprog.theorem.existence import batches_without_eps

        return batches_without_eps(self.recursion)

    def _error(self, message: str, hint: str) -> ProgramError:
        return ProgramError(message, hint=hint).located(self.ir.source, self.ir.filename)

    def _check_values(self, given: Mapping[str, Any]) -> None:
        """Every parameter that is not read off data has a value."""
        for p in self.ir.parameters:
            if p.value is None and p.kind in ("real", "function") and p.name not in given:
                raise missing(self.ir, p)


@dataclass(frozen=True)
class Derivation:
    """A recursion as people read it. `str()` gives text; `recursion` is the object that is also compiled."""

    recursion: Any
    get: str

    def __str__(self) -> str:
        return _views().text(self.recursion, self.get)

    def latex(self) -> str:
        """The recursion in LaTeX."""
        return _views().latex(self.recursion, self.get)

    def json(self) -> dict[str, Any]:
        """The recursion as a dict of plain JSON values."""
        return _views().as_json(self.recursion, self.get)

    @property
    def equations(self):
        """The recursion as a list of sympy equations, in the order of computation."""
        return _views().equations(self.recursion, self.get)


def _built(text: str, settings: tuple[tuple[str, Setting], ...], filename: str) -> Program:
    return Program(build_text(text, dict(settings), filename))


def _views():
    from tensorprog import views

    return views


class Kernel:
    """A program's kernels as a function of data; made by `Program.kernel`.

    Called with x1 of shape (N1, *axes, d) and x2 of shape (N2, *axes', d), or dicts of such by the inputs' names, it
    gives arrays (N1, N2, *output axes of x1's run, *output axes of x2's run) in the dtype of the data. Axes whose
    length is a parameter may differ between x1 and x2, and those of a list, `k([sentence_a, sentence_b])`, among each
    other; an output with axes then gives blocks [i][j] instead of one array. It works under `jax.jit`, and is
    differentiable in the data and in `params`.
    """

    def __init__(
        self,
        program: Program,
        *,
        tile: int | None,
        dtype: Any,
        progress: Callable[[int, int], None] | None,
        backend: str | None = None,
        **sampling: Any,
    ):
        from tensorprog.lowering import compiled

        self._program = program
        self._dtype = dtype
        self._options = {"tile": tile, "dtype": dtype, "progress": progress, "backend": backend, **sampling}
        self._backend = compiled(program.recursion, **self._options)

    # A kernel is pickled as its program and options, without what was compiled; a copy shares it.

    def __reduce__(self):
        return _kernel, (self._program, self._options)

    def __copy__(self) -> Kernel:
        return self

    def __deepcopy__(self, memo: Any) -> Kernel:
        return self

    @property
    def program(self) -> Program:
        return self._program

    @property
    def backend(self):
        """The compiled kernel behind it, called with checked dicts of arrays."""
        return self._backend

    def __call__(
        self,
        x1: Array | Mapping[str, Array],
        x2: Array | Mapping[str, Array] | None = None,
        get: str | Sequence[str] = KERNELS,
        *,
        params: Mapping[str, Any] | None = None,
        wrt: str | Sequence[str] | None = None,
        rates: Mapping[str, Any] | None = None,
        return_stderr: bool = False,
        return_error: bool = False,
        tol: float | None = None,
    ):
        """The kernels between x1 and x2 (None: x1 and itself).

        get: "nngp" or "ntk" gives one array; a tuple of them a NamedTuple in that order.
        params: values of real parameters in place of the program's, `{"var_w": w}`; they may be traced.
        wrt: the weights, vectors and scalars that count as trained in the NTK (None: all that are not fixed).
        rates: learning rates of such in the NTK, `{"W": 2.0, "b": 0.1}`, 1 where none is given, 0 for what is not
        trained; they may be traced. The NTK is then the sum of each parameter's part times its rate.
        return_stderr: a NamedTuple in which the standard errors follow the kernels, (nngp, ntk, nngp_stderr,
        ntk_stderr); they are zero for kernels that are not sampled.
        return_error: likewise with estimates of the absolute error of each entry, (nngp, ntk, nngp_error, ntk_error):
        the distance to what coarser rules of quadrature give, for float32 that to float64, and some roundings; for
        sampled kernels the standard error. It costs the kernels once more, and is not had under `jax.jit`.
        tol: see `Program.kernel`; it has no effect under
        `jax.jit`, where the number of points is fixed.

        Raises ValueError where data or params do not fit, or the kernel would be larger than the memory; ProgramError
        where the program does not hold together at the data's sizes, or the NTK does not exist.
        """
        from tensorprog import ragged
        from tensorprog.backend.accuracy import all_finite

        if isinstance(x2, str):
            raise ValueError(f"x2 is data or None, not {x2!r}: write k(x1, None, {x2!r})")
        get = _get(get)
        tol = _sampling(tol)["tol"]
        if "ntk" in get:
            self._program._check_ntk()
        if ragged.is_ragged(x1) or ragged.is_ragged(x2):
            inputs = [f.name for f in self._program.ir.inputs]
            options: dict[str, Any] = {"params": params, "wrt": wrt, "rates": rates}
            options |= {"return_stderr": return_stderr, "return_error": return_error, "tol": tol}
            return ragged.evaluate(lambda a, b: self(a, b, get, **options), inputs, x1, x2)
        self._program._check_values(params if isinstance(params, Mapping) else {})
        first, second = self._reader.read(x1, x2)
        self._check_batches(first, second, "ntk" in get)
        arrays = first.arrays, None if second is None else second.arrays
        if return_error and return_stderr:
            raise ValueError("return_stderr and return_error are two words for what follows the kernels: one at a time")
        if self._program.sampled:
            more: dict[str, Any] = {"return_stderr": return_stderr or return_error, "tol": tol}
            result = self._backend(*arrays, get, params, wrt, rates, **more)
            return _with_errors(get, result, None) if return_error else result
        result = self._backend(*arrays, get, params, wrt, rates)
        names, kernels = ((get,), (result,)) if isinstance(get, str) else (get, tuple(result))
        finite = all_finite(kernels)
        if finite is False:
            self._accuracy.warn(kernels, *arrays, names, params, wrt, rates)
        if finite and not return_error and self._backend.module.reach:
            self._accuracy.warn_beyond(kernels, *arrays, names, params, wrt, rates)
        if return_error:
            if finite is None:
                raise ValueError("return_error: errors are estimated outside of jax.jit and its relatives")
            return _with_errors(get, result, self._accuracy.errors(kernels, *arrays, names, params, wrt, rates))
        return _with_errors(get, result, [0 * k for k in kernels], "stderr") if return_stderr else result

    @cached_property
    def _reader(self):
        from tensorprog.arguments import Reader

        return Reader(self._program.ir, self._dtype)

    @cached_property
    def _accuracy(self):
        from tensorprog.backend.accuracy import Accuracy

        return Accuracy(self._program.recursion, self._backend.tile)

    def _check_batches(self, first, second, ntk: bool) -> None:
        """A batch normalized without an ε varies, and for an NTK with itself in enough directions."""
        program, batches = self._program.ir, self._program._batches_without_eps
        if not batches:
            return
        from tensorprog.arguments import least_directions
        from tensorprog.theorem.existence import check_batches

        directions = least_directions(program, first if second is None else (first, second))
        with _located(program):
            check_batches(program, batches, first, second, ntk, directions)

    def save(
        self,
        path: str | os.PathLike[str],
        x1: Array | Mapping[str, Array],
        x2: Array | Mapping[str, Array] | None = None,
        get: str | Sequence[str] = KERNELS,
        *,
        params: Mapping[str, Any] | None = None,
        wrt: str | Sequence[str] | None = None,
        rates: Mapping[str, Any] | None = None,
    ) -> dict[str, bool]:
        """Write the kernels between x1 and x2 to a file, tile by tile, so that they may be larger than the memory.

        path: a .npy file for one kernel, or a .npz file with one array for each by its name, and for kernels that are
        sampled their standard errors under `nngp_stderr` and `ntk_stderr`. It is complete
        afterwards, or as it was before where anything fails. Other arguments as in a call.

        Returns for each kernel whether all of its entries are finite. Raises OSError where the file cannot be
        written, and otherwise what a call raises.
        """
        from tensorprog.storage import store

        names: tuple[str, ...] = (get,) if isinstance(get, str) else tuple(_get(get))
        _get(names)
        if not isinstance(path, str | os.PathLike):
            raise ValueError(f"path is the name of a file, not {shown(path)}")
        suffix = os.path.splitext(path)[1].lower()
        if suffix not in (".npy", ".npz") or (suffix == ".npy" and len(names) > 1):
            raise ValueError(f"path ends in .npz, or in .npy for one kernel, not {str(path)!r} for {', '.join(names)}")
        if "ntk" in names:
            self._program._check_ntk()
        self._program._check_values(params if isinstance(params, Mapping) else {})
        first, second = self._reader.read(x1, x2)
        self._check_batches(first, second, "ntk" in names)
        arrays = first.arrays, None if second is None else second.arrays
        options: dict[str, Any] = {"errors": suffix == ".npz"} if self._program.sampled else {}
        with store(path) as target:
            return self._backend.stream(target.create, *arrays, names, params, wrt, rates, **options)

    def __repr__(self) -> str:
        return f"<Kernel of {self._program!r}>"


def _kernel(program: Program, options: dict[str, Any]) -> Kernel:
    return Kernel(program, **options)


class _located:
    """Tells errors that pass through which text they speak of."""

    def __init__(self, program: ir.Program):
        self.program = program

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, ProgramError):
            error.located(self.program.source, self.program.filename)


# ---------------------------------------------------------------- options


def _get(get: Any) -> Any:
    names = kernel_names(get)
    return get if isinstance(get, str) else names


def _sampling(tol: Any = None, points: Any = None, replicates: Any = None, seed: Any = 0) -> dict[str, Any]:
    """The options of sampling, checked."""
    import numbers

    from tensorprog.sampling.runtime.lattice import LATTICE_SIZES

    if tol is not None and not (isinstance(tol, numbers.Real) and float(tol) > 0):
        raise ValueError(f"tol is a positive standard error, as a part of the largest entry, not {shown(tol)}")
    if points is not None and whole(points) not in LATTICE_SIZES:
        raise ValueError(f"points is one of {', '.join(map(str, LATTICE_SIZES))}, not {shown(points)}")
    if replicates is not None and (whole(replicates) or 0) < 2:
        raise ValueError(f"replicates is a number of shifts, at least 2, not {shown(replicates)}")
    number = whole(seed)
    if number is None or number < 0:
        raise ValueError(f"seed is an integer, 0 or more, not {shown(seed)}")
    tol = None if tol is None else float(tol)
    return {"tol": tol, "points": whole(points), "replicates": whole(replicates) or 8, "seed": number}


def _with_errors(get: Any, result: Any, errors: Sequence[Any] | None, word: str = "error"):
    """The kernels and their errors; None where they stand in the result already, as standard errors."""
    from tensorprog.backend.kernel import _result_type

    names = (get,) if isinstance(get, str) else tuple(get)
    values = tuple(result) if errors is None else (*((result,) if isinstance(get, str) else tuple(result)), *errors)
    return _result_type((*names, *(f"{n}_{word}" for n in names)))(*values)


def _tile(tile: Any) -> int | None:
    if tile is None:
        return None
    number = whole(tile)
    if number is None or number < 1:
        raise ValueError(f"tile is a number of samples, at least 1, not {shown(tile)}")
    return number


def _backend(backend: Any) -> str | None:
    """The backend by its name, checked; "plain" for None too where TENSORPROG_BACKEND says so."""
    if not (backend is None or (isinstance(backend, str) and backend in ("plain", "fused"))):
        raise ValueError(f"backend is 'plain', 'fused' or None, not {shown(backend)}")
    return "plain" if backend is None and os.environ.get("TENSORPROG_BACKEND") == "plain" else backend


def _dtype(dtype: Any):
    if dtype is None:
        return None
    import numpy as np

    try:
        chosen = np.dtype(dtype)
    except (TypeError, ValueError):
        chosen = np.dtype(object)
    if chosen not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype is float32 or float64, not {shown(dtype)}")
    if chosen == np.dtype(np.float64):
        import jax

        if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
            raise ValueError('float64 is switched off in JAX: call jax.config.update("jax_enable_x64", True) first')
    return chosen
