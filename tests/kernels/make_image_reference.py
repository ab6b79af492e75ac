"""Kernels of image networks by neural-tangents, into image_reference.npz beside this file.

It runs in the environment that `benchmarks/environment.py` makes (neural-tangents 0.6.5 with JAX 0.5.3):

    benchmarks/.venv-neural-tangents/bin/python tests/kernels/make_image_reference.py
"""

from pathlib import Path

import jax
import numpy as np
from neural_tangents import stax

jax.config.update("jax_enable_x64", True)

ROOT_2 = 2**0.5
MYRTLE = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}


def conv(strides=None):
    return stax.Conv(1, (3, 3), strides, "SAME", W_std=ROOT_2, parameterization="ntk")


def myrtle(depth):
    """As in its examples; the last three poolings by 2, for images of 32 × 32, are one over all pixels."""
    pool = stax.AvgPool((2, 2), strides=(2, 2))
    layers = []
    for number, convolutions in enumerate(MYRTLE[depth]):
        layers += [pool] * (number > 0) + [conv(), stax.Relu()] * convolutions
    return stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1, W_std=ROOT_2))


def wide_resnet(blocks):
    """As in its examples, with filters of variance 2."""

    def block(strides=(1, 1), mismatch=False):
        main = stax.serial(stax.Relu(), conv(strides), stax.Relu(), conv())
        shortcut = conv(strides) if mismatch else stax.Identity()
        return stax.serial(stax.FanOut(2), stax.parallel(main, shortcut), stax.FanInSum())

    def group(strides=(1, 1)):
        return stax.serial(block(strides, True), *[block() for _ in range(blocks - 1)])

    groups = [group(), group((2, 2)), group((2, 2))]
    return stax.serial(conv(), *groups, stax.GlobalAvgPool(), stax.Dense(1, W_std=1.0))


def main():
    arrays = {}
    rng = np.random.default_rng(0)
    networks = {f"myrtle_{depth}": myrtle(depth) for depth in MYRTLE}
    networks["wide_resnet_2"] = wide_resnet(2)
    for size in ((8, 8, 3), (9, 7, 3)):
        at = "x".join(map(str, size))
        x1, x2 = rng.standard_normal((2, *size)), rng.standard_normal((3, *size))
        arrays |= {f"x1_{at}": x1, f"x2_{at}": x2}
        for name, (_, _, kernel) in networks.items():
            k = kernel(x1, x2, ("nngp", "ntk"))
            arrays |= {f"{name}_{at}_nngp": np.asarray(k.nngp), f"{name}_{at}_ntk": np.asarray(k.ntk)}
    np.savez(Path(__file__).parent / "image_reference.npz", **arrays)


if __name__ == "__main__":
    main()
