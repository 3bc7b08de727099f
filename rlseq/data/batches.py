"""Which instances an update sees: a pure function of its number, so a run resumes exactly where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from rlseq_envs.task import Ints, Split

POOL = 50  # batches sorted by length together: little padding, little loss of randomness


class Batches:
    """The batches of a split, numbered from 0 without end.

    A finite split is shuffled anew each epoch; the remainder that fills no batch is left out, another one each epoch.
    An endless split is read in order.

    Args:
        split: Where to draw from.
        batch_size: Instances a batch.
        seed: Of the shuffles, together with the epoch.
        lengths: From ids to lengths; batches then hold instances of like length. None: no bucketing.

    Raises:
        ValueError: The split is smaller than one batch.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, lengths: Callable[[Ints], Ints] | None = None) -> None:
        if split.size is not None and split.size < batch_size:
            raise ValueError(
                f"split {split.name!r} has {split.size} instances, fewer than batch_size {batch_size}: lower batch_size"
            )
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self._lengths = None if lengths is None or split.size is None else lengths(split.ids())
        self._order = lru_cache(maxsize=2)(self._shuffle)

    @property
    def batches_per_epoch(self) -> int | None:
        """Batches an epoch; None for an endless split."""
        return None if self.split.size is None else self.split.size // self.batch_size

    def ids(self, number: int) -> Ints:
        """Instance ids of batch ``number``: (batch_size,)."""
        per_epoch = self.batches_per_epoch
        if per_epoch is None:
            return self.split.ids(number * self.batch_size, (number + 1) * self.batch_size)
        epoch, index = divmod(number, per_epoch)
        return self.split.first + self._order(epoch)[index]

    def _shuffle(self, epoch: int) -> Ints:
        """Positions of the epoch's batches: (batches_per_epoch, batch_size)."""
        size, per_epoch = self.split.size, self.batches_per_epoch
        assert size is not None and per_epoch is not None
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(size)[: per_epoch * self.batch_size]
        if self._lengths is not None:
            pools = np.arange(len(order)) // (POOL * self.batch_size)
            order = order[np.lexsort((self._lengths[order], pools))]
        return generator.permutation(order.reshape(per_epoch, self.batch_size))
