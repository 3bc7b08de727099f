"""Rewards of the user's own, where runners find them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def share(points: Array, counts: Array, sequences: Array, lengths: Array, ids: Array) -> Array:
    """How many of the points are named."""
    return (sequences > 0).sum(axis=1) / counts


def fails(points: Array, counts: Array, sequences: Array, lengths: Array, ids: Array) -> Array:
    raise ZeroDivisionError("not today")
