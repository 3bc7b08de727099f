"""Attention over a picture: a veil that is thinner the more was read of what lies under it (Xu et al. 2015, fig. 2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_WHITE, _THICKEST = 255, 0.85


def veils(attention: npt.ArrayLike, grid: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A white veil for each token, (tokens, rows, columns, 4) uint8: there is none where most was read.

    Args:
        attention: (tokens, rows · columns) weights.
        grid: Rows and columns.
    """
    weights = np.asarray(attention, np.float64).reshape(-1, *grid)
    largest = np.maximum(weights.max(axis=(1, 2), keepdims=True), np.finfo(np.float64).tiny)
    drawn = np.full((*weights.shape, 4), _WHITE, np.uint8)
    drawn[..., 3] = np.round(_WHITE * _THICKEST * (1 - weights / largest))
    return drawn
