"""Numbers that follow from a counter: the same are drawn whoever draws them, wherever, in whatever order.

They are hashes of words. The hash is the output function of SplitMix64 (Steele, Lea & Flood 2014), which passes
avalanche tests as a mixing function of counters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # the step of a SplitMix64 stream


def mix(words: Words) -> Words:
    """A bijection that scatters its input: SplitMix64's output function."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _absorb(key: Words, word: npt.ArrayLike) -> Words:
    return mix(key * GAMMA + np.asarray(word, np.uint64) + GAMMA)


def counter_uniforms(
    seed: int, update: int, ids: npt.NDArray[np.int64], num_samples: int, length: int
) -> npt.NDArray[np.float64]:
    """Uniforms in [0, 1) of shape (batch_size, num_samples, length), with 53 random bits each.

    Each is a hash of (seed, update, instance id, sample index, position).
    """
    with np.errstate(over="ignore"):
        key = _absorb(_absorb(np.zeros(1, np.uint64), seed), update)
        key = _absorb(key, ids.astype(np.uint64))[:, None]
        key = _absorb(key, np.arange(num_samples))[:, :, None]
        key = _absorb(key, np.arange(length))
    return (key >> np.uint64(11)).astype(np.float64) * 2.0**-53
