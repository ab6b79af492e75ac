"""Changes texts of programs at random, and lists what is no diagnostic: python -m tests.mutations 0 20000."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import defaultdict

from tests.mutations.demands import SECONDS, look_at
from tests.mutations.mutate import mutant
from tests.random_programs.demands import TimeLimit, at_most


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int, help="one behind the last seed")
    parser.add_argument("--derive", type=int, default=10, help="derive every so many of those that are right")
    options = parser.parse_args()
    counts: dict[str, int] = defaultdict(int)
    failures: dict[str, list[str]] = defaultdict(list)
    for seed in range(options.first, options.last):
        name, text = mutant(seed)
        try:
            with at_most(30):
                found = look_at(text, seed % options.derive == 0)
        except TimeLimit:
            failures["over 30 s"].append(f"{seed} ({name})")
            continue
        counts[found.kind] += 1
        if found.kind == "exception":
            print(f"{seed}: {type(found.error).__name__}: {str(found.error)[:100]}", file=sys.stderr, flush=True)
        if found.kind == "exception":
            frames = traceback.extract_tb(found.error.__traceback__)
            own = next((f for f in reversed(frames) if "tensorprog/" in f.filename), frames[-1])
            place = f"{own.filename.rpartition('tensorprog/')[2]}:{own.lineno}"
            failures[f"{type(found.error).__name__} at {place}: {str(found.error)[:80]}"].append(f"{seed} ({name})")
        elif found.seconds > SECONDS:
            failures[f"over {SECONDS} s"].append(f"{seed} ({name}, {found.kind}, {found.seconds:.1f} s)")
        if seed % 500 == 499:
            print(f"… {seed}: {dict(counts)}, failures {sum(map(len, failures.values()))}", file=sys.stderr, flush=True)
    print(f"{options.last - options.first} texts: {dict(counts)}")
    for kind, found in sorted(failures.items(), key=lambda item: -len(item[1])):
        print(f"{len(found):6d}  {kind}   {', '.join(found[:8])}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
