"""Runs random programs of many seeds, and says which demands fail: python -m tests.random_programs 0 3000 --tier 1."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
import traceback
from collections import defaultdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.random_programs", description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int, help="one behind the last seed")
    parser.add_argument(
        "--tier",
        type=int,
        default=1,
        help="1: what is printed; 2: kernels; 3: those of the core form, and the NTK two ways",
    )
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for a seed")
    parser.add_argument("--sampled", type=int, default=1, help="the numbers of every so many seeds where sampled")
    parser.add_argument("--show", type=int, help="print the program of this many failures of each kind", default=1)
    parser.add_argument("--trace", action="store_true", help="print tracebacks")
    options = parser.parse_args()

    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    logging.getLogger("jax").setLevel(logging.ERROR)
    from tests.random_programs import demands, every
    from tests.random_programs.generator import sample

    counts: dict[str, int] = defaultdict(int)
    failures: dict[str, list[tuple[int, str]]] = defaultdict(list)
    times = []
    for seed in range(options.first, options.last):
        start = time.process_time()
        program = sample(seed)
        try:
            with demands.at_most(options.limit):
                outcome = every.demand_all(program, options.tier, seed % options.sampled == 0)
        except demands.TimeLimit:
            outcome = "failed"
            failures["no answer in time"].append((seed, ""))
            print(f"{seed}: no answer in time", file=sys.stderr, flush=True)
        except demands.Refused as refused:
            outcome = f"refused: {refused.kind}"
        except demands.Failure as failure:
            outcome = "failed"
            kind = f"{failure.demand}: {re.sub(r'[0-9]+|_?.[A-Za-z_0-9]+.(?=[ :,])', '#', failure.message)[:70]}"
            failures[kind].append((seed, failure.message))
            print(f"{seed}: {failure.demand}: {failure.message[:150]}", file=sys.stderr, flush=True)
            if options.trace and failure.__cause__ is not None:
                traceback.print_exception(failure.__cause__)
        except Exception as error:  # in a demand itself: said, and the rest goes on
            outcome = "failed"
            failures[f"error in a demand: {type(error).__name__}"].append((seed, str(error)))
            print(f"{seed}: error in a demand: {type(error).__name__}: {error}"[:170], file=sys.stderr, flush=True)
        counts[outcome] += 1
        times.append(time.process_time() - start)
        if seed % 50 == 49:
            print(f"… {seed}: {dict(counts)}", file=sys.stderr, flush=True)
    times.sort()
    print(f"{len(times)} programs; median {times[len(times) // 2]:.2f} s, longest {times[-1]:.1f} s")
    for outcome, count in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"{count:6d}  {outcome}")
    for kind, found in sorted(failures.items(), key=lambda item: -len(item[1])):
        print(f"{len(found):6d}  {kind}   seeds {', '.join(str(s) for s, _ in found[:12])}")
        for seed, message in found[: options.show]:
            print(f"        {seed}: {message[:300]}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
