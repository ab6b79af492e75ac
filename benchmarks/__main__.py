"""All measurements: `python benchmarks` prints their tables; `--only nt`, `slow`, … or several of them."""

from __future__ import annotations

import argparse

import accuracy
import scaling
import side_by_side
import slow_kinds

PARTS = ("nt", "slow", "accuracy", "variances", "scaling")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks", description="Times and ratios as Markdown tables.")
    parser.add_argument("--quick", action="store_true", help="small sizes and few calls")
    parser.add_argument("--only", metavar="PART", nargs="+", choices=PARTS, default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--program", metavar="NAME", nargs="+", default=(), help="of the comparison: these programs")
    arguments = parser.parse_args()
    if "nt" in arguments.only:
        print("## Against neural-tangents\n")
        side_by_side.show(arguments.quick, tuple(arguments.program))
    if "slow" in arguments.only:
        print("\n## Kinds that are easily slow\n")
        slow_kinds.show(arguments.quick, tuple(arguments.program))
    if "accuracy" in arguments.only:
        print("\n## float32 against float64\n")
        accuracy.show(arguments.quick)
    if "variances" in arguments.only:
        print("\n## Accuracy at any variance")
        accuracy.show_variances(arguments.quick)
    if "scaling" in arguments.only:
        print("\n## Scaling, and against plain NumPy\n")
        scaling.show(arguments.quick)


if __name__ == "__main__":
    main()
