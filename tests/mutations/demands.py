"""A text that may be wrong is a program, or a ProgramError with its place: nothing else, and soon."""

from __future__ import annotations

import time
from dataclasses import dataclass

import tensorprog as tp

SECONDS = 2.0  # for a check, of this process


@dataclass(frozen=True)
class Outcome:
    """What came of a text: "right", "refused", or a failure with its exception."""

    kind: str
    seconds: float = 0.0
    error: BaseException | None = None


def look_at(text: str, derive: bool = False) -> Outcome:
    """Parse and check, and the derivations' text where asked for."""
    start = time.process_time()

    def outcome(kind: str, error: BaseException | None = None) -> Outcome:
        return Outcome(kind, time.process_time() - start, error)

    try:
        program = tp.parse(text)
        str(program.check())
        if derive:
            done = time.process_time() - start
            str(program.derive("nngp"))
            program.derive("ntk").json()
            return Outcome("right", done)
    except tp.ProgramError as error:
        str(error)
        return outcome("refused", error)
    except Exception as error:
        return outcome("exception", error)
    return outcome("right")
