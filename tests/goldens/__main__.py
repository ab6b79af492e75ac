"""Writes the golden files again, for all bundled programs or those named: python -m tests.goldens [PROGRAM …].

What changed is to be read, `git diff tests/goldens`, before it is committed.
"""

from __future__ import annotations

import argparse

import jax

from . import texts, values


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.goldens", description=__doc__)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="bundled programs; all where none is named")
    parser.add_argument("--texts", action="store_true", help="leave the values as they are")
    options = parser.parse_args()
    if unknown := set(options.programs) - set(texts.PROGRAMS):
        parser.error(f"no bundled program: {', '.join(sorted(unknown))}")
    jax.config.update("jax_disable_most_optimizations", True)
    texts.FOLDER.mkdir(exist_ok=True)
    table = {name: arrays for name, arrays in values.stored().items() if name in texts.PROGRAMS}
    for name in options.programs or texts.PROGRAMS:
        print(name, flush=True)
        for part in texts.PARTS:
            texts.path_of(name, part).write_text(texts.golden(name, part), encoding="utf-8")
        if not options.texts:
            table[name] = values.kept(table.get(name), values.values(name))
    known = {texts.path_of(name, part) for name in texts.PROGRAMS for part in texts.PARTS}
    for path in set(texts.FOLDER.glob("*.txt")) - known:
        path.unlink()
    values.store(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
