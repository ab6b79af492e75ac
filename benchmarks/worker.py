"""One side of a comparison, in a process and an environment of its own.

`python worker.py {tensorprog|neural_tangents}` reads a command a line from stdin and answers each with a line of
JSON on stdout:

    {"case": …, "x1": "a.npy", "x2": "b.npy", "results": "k.npz"}   compiles, and saves the kernels   {"first": seconds}
    {"call": true}                                                  computes them again             {"seconds": …}

Each answer also has "cpu", the seconds of CPU time that it took.

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
    """The program of that name or that text, through the public interface: an array goes in, arrays come out."""
    import tensorprog as tp

    program = tp.parse(case["text"]) if case["text"] else tp.load(case["program"], **case["parameters"])
    kernel = program.kernel()
    return lambda x1, x2: tuple(kernel(x1, x2))


def neural_tangents(case):
    """The same network in `stax`, in the NTK parametrization with weights of variance 2 and no biases."""
    from networks import NETWORKS

    *_, kernel = NETWORKS[case["program"]](**case["parameters"])
    return jax.jit(lambda x1, x2: tuple(kernel(x1, x2, ("nngp", "ntk"))))


def main() -> None:
    side = {"tensorprog": tensorprog, "neural_tangents": neural_tangents}[sys.argv[1]]
    call = None
    for line in sys.stdin:
        command = json.loads(line)
        start, busy = time.perf_counter(), time.process_time()
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
        answer["cpu"] = time.process_time() - busy
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
