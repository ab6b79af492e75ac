"""One side of a comparison, in a process and an environment of its own.

`python worker.py {tensorprog|neural_tangents}` reads a command a line from stdin and answers each with a line of
JSON on stdout:

    {"case": …, "x1": "a.npy", "x2": "b.npy", "results": "k.npz"}   compiles, and saves the kernels   {"first": seconds}
    {"call": true}                                                  computes them again             {"seconds": …}

Only NumPy, JAX and the library itself are imported, since the other environment has no more.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What libraries print must not mix with the answers.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import jax  # noqa: E402
import numpy as np  # noqa: E402


def tensorprog(case):
    """The program of that name, through the public interface: an array goes in, arrays come out."""
    import tensorprog as tp

    kernel = tp.load(case["program"], **case["parameters"]).kernel()
    return lambda x1, x2: tuple(kernel(x1, x2))


def neural_tangents(case):
    """The same network in `stax`, in the NTK parametrization with weights of variance 2 and no biases."""
    from neural_tangents import stax

    depth, program = case["parameters"]["depth"], case["program"]
    layers = []
    for _ in range(depth):
        if program == "mlp":
            layers.append(stax.Dense(1, W_std=2**0.5, b_std=None))
        else:
            layers.append(stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5, b_std=None))
        layers.append(stax.Relu())
    layers += {"mlp": [], "cnn_flat": [stax.Flatten()], "cnn_pool": [stax.GlobalAvgPool()]}[program]
    *_, kernel = stax.serial(*layers, stax.Dense(1, W_std=1.0, b_std=None))
    return jax.jit(lambda x1, x2: tuple(kernel(x1, x2, ("nngp", "ntk"))))


def main() -> None:
    side = {"tensorprog": tensorprog, "neural_tangents": neural_tangents}[sys.argv[1]]
    call = None
    for line in sys.stdin:
        command = json.loads(line)
        start = time.perf_counter()
        if "case" in command:
            x1, x2 = np.load(command["x1"]), np.load(command["x2"])
            kernels = side(command["case"])

            def call(kernels=kernels, x1=x1, x2=x2):
                return [np.asarray(k) for k in kernels(x1, x2)]

            nngp, ntk = call()
            answer = {"first": time.perf_counter() - start}
            np.savez(command["results"], nngp=nngp, ntk=ntk)
        else:
            assert call is not None
            call()
            answer = {"seconds": time.perf_counter() - start}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
