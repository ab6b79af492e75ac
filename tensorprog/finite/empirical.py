"""The kernels of one finite network, without the Jacobian of all its outputs by all its parameters.

NTK: Σ over trained parameters of ∂f(x)/∂p · ∂f(x')/∂p, by what is drawn from N, as the limit counts them.
NNGP: E f(x) f(x') over the readouts alone, given everything else. f is linear in them, so this is the same sum over
the readouts, each entry times its variance: <x, x'>/n where one readout is drawn from N(0, 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tensorprog.arguments import Argument, read_argument
from tensorprog.backend.memory import available_memory
from tensorprog.errors import did_you_mean
from tensorprog.finite.network import Array, At, FiniteNetwork, Params, checked_params, frozen, human_bytes

KERNELS = ("nngp", "ntk")
_BUDGET = 1 << 30  # bytes of derivatives held at once, where there is that much


def empirical_kernels(
    network: FiniteNetwork,
    params: Params,
    x1: Array | Mapping[str, Array] | None = None,
    get: Sequence[str] = KERNELS,
    *,
    wrt: Sequence[str] | None = None,
    budget: int | None = None,
) -> dict[str, Array]:
    """Kernels of one network on (x1, x1): arrays (N, N, *output axes, *output axes) by name.

    params: as from `init`. x1: data as for `apply`. get: "nngp", "ntk" or both. wrt: the weights and vectors that count
    as trained in the NTK (None: all that are not fixed). budget: bytes that the derivatives may take at once.

    Rows of the Jacobian are computed in pieces that keep within the budget, and contracted piece by piece.

    Raises ValueError where the program has no readout, an argument does not fit, or one row does not fit the memory.
    """
    return _Kernels(network, params, x1, tuple(get), wrt, budget).compute()


def empirical_ntk(
    network: FiniteNetwork,
    params: Params,
    x1: Array | Mapping[str, Array] | None = None,
    *,
    wrt: Sequence[str] | None = None,
    budget: int | None = None,
) -> Array:
    """The NTK of one network on (x1, x1), (N, N, *output axes, *output axes); as `empirical_kernels`."""
    return empirical_kernels(network, params, x1, ("ntk",), wrt=wrt, budget=budget)["ntk"]


class _Kernels:
    def __init__(self, network: FiniteNetwork, params: Params, x1, get, wrt, budget: int | None):
        if network.readout is None:
            raise ValueError(f"{network.program.name} has no readout, so no kernel: its outputs are C's")
        for g in get:
            if g not in KERNELS:
                raise ValueError(f"there is no kernel {g!r}: get is 'nngp', 'ntk' or a tuple of them")
        self.network = network
        self.get = get
        self.trained = _trained(network, wrt) if "ntk" in get else ()
        self.readouts = network.readouts if "nngp" in get else ()
        self.argument: Argument = read_argument(network.program, x1)
        self.key = (frozen(self.argument.sizes), frozen(self.argument.features))
        self.at: At = network.at(*self.key)
        params = checked_params(network.program, self.at, params)
        self.dtype = jnp.result_type(*(a.dtype for a in (*params.values(), *self.argument.arrays.values())))
        self.params = {k: jnp.asarray(v, self.dtype) for k, v in params.items()}
        self.data = {k: np.asarray(a, self.dtype) for k, a in self.argument.arrays.items()}
        self.outputs = self.at.plan.families.shape(network.readout.name)
        self.budget = budget

    def compute(self) -> dict[str, Array]:
        samples, outputs = self.argument.count, int(np.prod(self.outputs, dtype=np.int64))
        by = tuple(dict.fromkeys((*self.trained, *self.readouts)))
        entries = sum(self.at.draws[name].count for name in by)
        # A row is the derivative of one output of one sample; with it go the vectors of its two passes.
        row = (entries + 3 * self.at.plan.entries) * self.dtype.itemsize
        held = sum(v.size for v in self.params.values()) * self.dtype.itemsize
        memory = available_memory()
        if 2 * row + 3 * held > memory:
            raise ValueError(
                f"the derivatives of one output at width {self.network.width} take {human_bytes(2 * row)} beside "
                f"{human_bytes(held)} of parameters, more than the {human_bytes(memory)} of memory"
            )
        if samples**2 * outputs**2 * self.dtype.itemsize * len(self.get) > memory:
            raise ValueError(
                f"the kernels of {samples} samples with {outputs} outputs each are larger than the "
                f"{human_bytes(memory)} of memory"
            )
        budget = self.budget or min(_BUDGET, (memory - 3 * held) // 4)
        rows = max(1, int(budget // (2 * row)))  # two pieces are held at once
        if samples * outputs <= 2 * rows:
            rows = samples * outputs
        several = max(1, rows // outputs) if rows >= outputs else 1
        some = min(rows, outputs)
        pieces = [
            (np.arange(s, min(s + several, samples)), np.arange(o, min(o + some, outputs)))
            for s in range(0, samples, several)
            for o in range(0, outputs, some)
        ]
        results = {g: np.zeros((samples, outputs, samples, outputs), self.dtype) for g in self.get}
        jacobian, contract = self._functions(by)
        for k, (s1, o1) in enumerate(pieces):
            left = jacobian(*self._piece(s1, o1))
            for s2, o2 in pieces[k:]:
                right = left if (s2 is s1 and o2 is o1) else jacobian(*self._piece(s2, o2))
                for g, block in contract(left, right).items():
                    block = np.asarray(block)
                    results[g][np.ix_(s1, o1, s2, o2)] = block
                    results[g][np.ix_(s2, o2, s1, o1)] = block.transpose(2, 3, 0, 1)
        axes = (samples, samples, *self.outputs, *self.outputs)
        return {g: jnp.asarray(r.transpose(0, 2, 1, 3).reshape(axes)) for g, r in results.items()}

    def _piece(self, samples: np.ndarray, outputs: np.ndarray):
        data = {k: a[samples] for k, a in self.data.items()} if self.data else np.zeros(1)
        seeds = np.zeros((len(outputs), int(np.prod(self.outputs, dtype=np.int64))), self.dtype)
        seeds[np.arange(len(outputs)), outputs] = 1
        return self.params, data, seeds.reshape(-1, *self.outputs)

    def _functions(self, by: tuple[str, ...]):
        cache = self.network.__dict__.setdefault("_empirical", {})
        key = (self.key, by, self.trained, self.readouts, self.get)
        if key not in cache:
            cache[key] = (
                jax.jit(partial(_jacobian, self.network, self.key, by, bool(self.data))),
                jax.jit(partial(_contract, self.at, self.trained, self.readouts, self.get)),
            )
        return cache[key]


def _trained(network: FiniteNetwork, wrt: Sequence[str] | None) -> tuple[str, ...]:
    if wrt is None:
        return network.trained
    chosen = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    for name in chosen:
        if name not in network.trained:
            hint = did_you_mean(name, network.trained) or f"trained are {', '.join(network.trained)}"
            raise ValueError(f"wrt: {name!r} is no trained parameter of {network.program.name}: {hint}")
    return chosen


def _jacobian(network: FiniteNetwork, key: tuple, by: tuple[str, ...], with_data: bool, params, data, seeds):
    """For every sample in `data` and every output in `seeds`, the derivative by each of `by`: (N, seeds, *shape)."""
    assert network.readout is not None
    name = network.readout.name

    def of_sample(x):
        def output(chosen):
            values = network.run(key, {**params, **chosen}, {k: a[None] for k, a in x.items()} if with_data else {})
            return values[name][0] if with_data else values[name]

        _, pull = jax.vjp(output, {k: params[k] for k in by})
        return jax.vmap(lambda seed: pull(seed)[0])(seeds)

    return jax.vmap(of_sample)(data)


def _contract(at: At, trained: tuple[str, ...], readouts: tuple[str, ...], get: tuple[str, ...], left, right):
    """Both kernels between rows of Jacobians: (N1, outputs1, N2, outputs2)."""

    def total(names: tuple[str, ...], weighted: bool):
        result: Any = 0
        for name in names:
            a, b = left[name], right[name]
            if weighted:
                deviation = at.draws[name].deviation(a.dtype)
                a, b = a * deviation, b * deviation
            a, b = a.reshape(*a.shape[:2], -1), b.reshape(*b.shape[:2], -1)
            result = result + jnp.einsum("iap,jbp->iajb", a, b, precision=jax.lax.Precision.HIGHEST)
        return result

    parts: dict[str, Any] = {"nngp": (readouts, True), "ntk": (trained, False)}
    return {g: total(*parts[g]) for g in get}
