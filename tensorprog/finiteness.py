"""Whether arrays hold nothing but finite numbers."""

from __future__ import annotations

import numpy as np


def all_finite(values: np.ndarray) -> bool:
    """Whether every entry is finite; in one pass where they are, as nearly always."""
    # What is not finite stays so in a sum. That of finite entries may overflow: only then are they looked at singly.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())
