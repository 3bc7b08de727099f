"""Counter-based uniforms: the same token is drawn whoever draws it, wherever, in whatever order.

Each draw is a hash of (seed, update, instance id, sample index, position): SplitMix64's finaliser (Steele et al. 2014)
applied once a key word, which passes avalanche tests as a mixing function of counters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def _absorb(key: npt.NDArray[np.uint64], word: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    return _mix(key * _GOLDEN + np.asarray(word, np.uint64) + _GOLDEN)


def counter_uniforms(
    seed: int, update: int, ids: npt.NDArray[np.int64], num_samples: int, length: int
) -> npt.NDArray[np.float64]:
    """Uniforms in [0, 1) of shape (batch_size, num_samples, length), with 53 random bits each."""
    with np.errstate(over="ignore"):
        key = _absorb(_absorb(np.zeros(1, np.uint64), seed), update)
        key = _absorb(key, ids.astype(np.uint64))[:, None]
        key = _absorb(key, np.arange(num_samples))[:, :, None]
        key = _absorb(key, np.arange(length))
    return (key >> np.uint64(11)).astype(np.float64) * 2.0**-53
