"""Arrays of different widths, joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.source import Padded, Source


def concatenate_padded(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays joined along their first axis, the others padded with 0 to the largest."""
    shape = np.max([array.shape for array in arrays], axis=0)
    widths = [[(0, 0), *zip(np.zeros_like(shape[1:]), shape[1:] - array.shape[1:], strict=True)] for array in arrays]
    return np.concatenate([np.pad(array, width) for array, width in zip(arrays, widths, strict=True)])


def concatenate_sources(parts: Sequence[Source[npt.NDArray[Any]]]) -> Source[npt.NDArray[Any]]:
    """The sources of all parts in order, padded to the largest."""
    fields = {}
    for name, (_, lengths) in parts[0].fields.items():
        values, counts = zip(*(part.fields[name] for part in parts), strict=True)
        fields[name] = Padded(concatenate_padded(values), None if lengths is None else concatenate_padded(counts))
    return Source(sum(part.size for part in parts), fields)
