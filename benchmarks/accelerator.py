"""The fused kernel of an accelerator against the plain lowering, and against what the chip can do.

    python benchmarks/accelerator.py                       # on a machine with a GPU; elsewhere it says so
    python benchmarks/accelerator.py --blocks 16x128x8 32x64x8 --samples 16384

Data and results stay on the device. Times are the least of several calls, each waited for:

    as called     what `kernel()(x1, x2)` takes with the plain backend, tiles and all
    plain         the plain lowering in one piece, which writes each layer's table of all pairs to memory
    fused         the fused backend: the Gram of the inputs by a matrix product, then all layers in one kernel
    Gram, layers  its two parts, by themselves

The layers read a Gram and write the kernels: bytes a pair over their time is the bandwidth. Their operations are those
on numbers of single pairs in the kernel, counted in its jaxpr, a division or a root as one. The product's are 2·d a
pair. Both limits are the vendor's: device memory, and single precision outside of tensor cores.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import tensorprog as tp
from tensorprog.backend.fused.kernel import FusedKernel
from tensorprog.backend.fused.launch import Blocks
from tensorprog.backend.kernel import Kernel

# Part of a device's name: bandwidth in GB/s, float32 arithmetic in TFLOP/s. The vendors' data sheets.
CHIPS = {
    "H200": (4800, 67.0),
    "H100 PCIe": (2000, 51.0),
    "H100": (3350, 67.0),
    "A100-SXM4-80GB": (2039, 19.5),
    "A100": (1555, 19.5),
    "V100": (900, 15.7),
    "L40S": (864, 91.6),
    "L4": (300, 30.3),
    "T4": (320, 8.1),
    "A10": (600, 31.2),
    "RTX 4090": (1008, 82.6),
    "RTX 3090": (936, 35.6),
}
NAMES = ("nngp", "ntk")


def best(call: Callable[[], object], repeats: int, prepare: Callable[[], tuple] = tuple) -> float:
    """Seconds of the fastest call, after one that compiles; `prepare` makes its arguments, untimed."""
    jax.block_until_ready(call(*prepare()))
    seconds = []
    for _ in range(repeats):
        arguments = jax.block_until_ready(prepare())
        start = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def operations(jaxpr, shape: tuple[int, ...]) -> int:
    """Arithmetic of a jaxpr on arrays of that shape, an operation for each equation, those in loops at every step."""
    total = 0
    for eqn in jaxpr.eqns:
        inner = [getattr(v, "jaxpr", v) for v in eqn.params.values() if hasattr(getattr(v, "jaxpr", v), "eqns")]
        if inner:
            total += sum(operations(x, shape) for x in inner) * eqn.params.get("length", 1)
        elif any(v.aval.shape == shape and jnp.issubdtype(v.aval.dtype, jnp.floating) for v in eqn.outvars):
            moves = ("broadcast_in_dim", "convert_element_type", "masked_load", "masked_swap", "copy", "stop_gradient")
            total += eqn.primitive.name not in moves
    return total


def measure(program: tp.Program, n: int, features: int, blocks: Blocks, repeats: int, one_piece: bool) -> dict:
    """Seconds by what took them, the operations of the layers for a pair, and the largest relative difference."""
    rng = np.random.default_rng(0)
    x1, x2 = ({"x": jnp.asarray(rng.normal(size=(n, features)), jnp.float32)} for _ in range(2))
    fused = FusedKernel(program.recursion, blocks=blocks, strict=True)
    plain = Kernel(program.recursion)
    found = {"fused": best(lambda: fused(x1, x2, NAMES), repeats)}
    values, trained = dict(fused._namespace["PARAMETERS"]), fused.module.trained
    left, right = (fused._run(x, values) for x in (x1, x2))
    grams = jax.jit(fused._grams)
    # The layers' kernel puts the first result where the Gram was: it gets a new one for every call.
    layers = jax.jit(
        lambda g: fused._through_layers(g, x1, x2, left, right, (0, 0), values, False, NAMES, trained),
        donate_argnums=0,
    )
    found["Gram"] = best(lambda: grams(x1, x2, left, right), repeats)
    found["layers"] = best(layers, repeats, lambda: (grams(x1, x2, left, right),))
    jaxpr = jax.make_jaxpr(layers)(grams(x1, x2, left, right)).jaxpr
    found["operations"] = operations(jaxpr, (blocks.rows, blocks.columns))
    found["as called"] = best(lambda: plain(x1, x2, NAMES), repeats)
    found["plain"] = math.nan
    if one_piece:
        whole = Kernel(program.recursion, tile=n)
        found["plain"] = best(lambda: whole(x1, x2, NAMES), repeats)
    pairs = zip(fused(x1, x2, NAMES), plain(x1, x2, NAMES), strict=True)
    found["difference"] = max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)
    return found


def limits(name: str, bandwidth: float | None, flops: float | None) -> tuple[float, float]:
    """GB/s and TFLOP/s of a chip; NaN where neither the table nor the options tell."""
    known = next((CHIPS[part] for part in CHIPS if part.lower() in name.lower()), (math.nan, math.nan))
    return bandwidth or known[0], flops or known[1]


def show(arguments: argparse.Namespace) -> None:
    device = jax.local_devices()[0]
    bandwidth, flops = limits(device.device_kind, arguments.bandwidth, arguments.flops)
    print(f"{device.device_kind}, JAX {jax.__version__}: {bandwidth:g} GB/s, {flops:g} TFLOP/s in float32\n")
    program = tp.load("mlp", depth=arguments.depth, phi=arguments.phi)
    print(f"{arguments.depth} × (Dense, {arguments.phi}), {arguments.features} features, float32, NNGP + NTK\n")
    columns = ("pairs", "block", "as called, ms", "plain, ms", "fused, ms", "Gram, ms", "layers, ms", "plain : fused")
    columns += ("layers GB/s", "of limit", "layers TFLOP/s", "of limit", "Gram TFLOP/s", "of limit", "difference")
    print("| " + " | ".join(columns) + " |")
    print("|---" * 2 + "|--:" * (len(columns) - 2) + "|")
    for n in arguments.samples:
        for blocks in arguments.blocks:
            m = measure(program, n, arguments.features, blocks, arguments.repeats, n <= arguments.one_piece)
            achieved = n * n * 4 * (1 + len(NAMES)) / m["layers"] / 1e9
            arithmetic = n * n * m["operations"] / m["layers"] / 1e12
            product = n * n * 2 * arguments.features / m["Gram"] / 1e12
            row = [f"{n} × {n}", f"{blocks.rows}×{blocks.columns}, {blocks.warps} warps"]
            row += [f"{m[k] * 1e3:.2f}" for k in ("as called", "plain", "fused", "Gram", "layers")]
            row += [f"**{m['plain'] / m['fused']:.1f}**", f"{achieved:.0f}", f"{achieved / bandwidth:.0%}"]
            row += [f"{arithmetic:.1f}", f"{arithmetic / flops:.0%}", f"{product:.1f}", f"{product / flops:.0%}"]
            print("| " + " | ".join([*row, f"{m['difference']:.0e}"]) + " |", flush=True)
    print(f"\n{m['operations']} operations a pair in the layers.")


def block(text: str) -> Blocks:
    rows, columns, warps = map(int, text.split("x"))
    return Blocks(rows, columns, warps)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The fused kernel on a GPU, against the plain one and the chip.")
    parser.add_argument("--samples", type=int, nargs="+", default=[2000, 8192, 20000], metavar="N")
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--phi", default="relu")
    parser.add_argument("--blocks", type=block, nargs="+", default=[Blocks()], metavar="ROWSxCOLUMNSxWARPS")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--one-piece", type=int, default=20000, metavar="N", help="plain in one piece up to this size")
    parser.add_argument("--bandwidth", type=float, help="GB/s of the chip, where the table has no such name")
    parser.add_argument("--flops", type=float, help="TFLOP/s of the chip in float32, likewise")
    parser.add_argument("--anywhere", action="store_true", help="also without a GPU, interpreted: to try the script")
    arguments = parser.parse_args(given)
    if jax.default_backend() != "gpu" and not arguments.anywhere:
        print(f"JAX computes on {jax.default_backend()} here: this measurement needs a GPU.")
        return
    show(arguments)


if __name__ == "__main__":
    main()
