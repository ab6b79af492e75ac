"""The progress bar of long work, on stderr."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """A bar over units, called with (done, total); it appears when the work takes long, later where nobody watches."""

    def __init__(self, title: str, unit: str = "tile"):
        self.title = title
        self.unit = unit
        self.bar: Any = None

    def __enter__(self) -> Progress:
        return self

    def __call__(self, done: int, total: int) -> None:
        from tqdm import tqdm

        if self.bar is None:
            watched = sys.stderr.isatty()
            self.bar = tqdm(
                total=total,
                desc=self.title,
                unit=self.unit,
                file=sys.stderr,
                delay=0.5 if watched else 10,
                mininterval=0.1 if watched else 10,
                leave=watched,
            )
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
