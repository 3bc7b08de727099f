"""Batches are a pure function of their number: every instance once an epoch, whatever was asked before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq.data.batches import POOL, Batches
from rlseq_envs.task import Split

sizes = st.tuples(st.integers(1, 8), st.integers(8, 60))


def epoch(batches: Batches, number: int) -> np.ndarray:
    per_epoch = batches.batches_per_epoch
    assert per_epoch is not None
    return np.stack([batches.ids(number * per_epoch + index) for index in range(per_epoch)])


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, first=st.integers(0, 1 << 41), seed=st.integers(0, 5), bucketed=st.booleans())
def test_an_epoch_has_each_instance_at_most_once(sizes: tuple[int, int], first: int, seed: int, bucketed: bool) -> None:
    batch_size, size = sizes
    split = Split("train", first, size)
    batches = Batches(split, batch_size, seed, (lambda ids: ids % 7) if bucketed else None)
    for number in (0, 1, 5):
        ids = epoch(batches, number)
        assert ids.shape == (size // batch_size, batch_size) and len(np.unique(ids)) == ids.size
        assert np.isin(ids, split.ids()).all()


def test_batches_do_not_depend_on_which_were_asked_for_before() -> None:
    split = Split("train", 100, 37)
    ahead = [Batches(split, 5, 1).ids(number) for number in range(30)]
    back = Batches(split, 5, 1)
    assert all(np.array_equal(back.ids(number), ahead[number]) for number in reversed(range(30)))


def test_epochs_and_seeds_are_shuffled_differently_and_all_instances_get_their_turn() -> None:
    split = Split("train", 0, 23)
    batches = Batches(split, 5, 0)
    assert not np.array_equal(epoch(batches, 0), epoch(batches, 1))
    assert not np.array_equal(epoch(batches, 0), epoch(Batches(split, 5, 1), 0))
    assert set(np.concatenate([epoch(batches, number).ravel() for number in range(6)])) == set(range(23))


def test_an_endless_split_is_read_in_order() -> None:
    batches = Batches(Split("train", 10, None), 4, 3)
    assert batches.batches_per_epoch is None
    assert batches.ids(0).tolist() == [10, 11, 12, 13] and batches.ids(1 << 20)[0] == 10 + (4 << 20)


def test_buckets_hold_instances_of_like_length_and_leave_nothing_out() -> None:
    split, asked = Split("train", 1000, 1000), []

    def lengths(ids: np.ndarray) -> np.ndarray:
        asked.append(ids)
        return np.random.default_rng(0).integers(1, 40, 2000)[ids]

    batches = Batches(split, 10, 0, lengths)
    spread = np.ptp(lengths(epoch(batches, 0)), axis=1)
    plain = np.ptp(lengths(epoch(Batches(split, 10, 0), 0)), axis=1)
    assert spread.mean() < 2.5 < 20 < plain.mean()
    assert np.array_equal(np.sort(epoch(batches, 0).ravel()), split.ids()) and np.array_equal(asked[0], split.ids())
    # Long and short batches come in any order.
    means = lengths(epoch(batches, 0)).mean(1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3 and POOL * 10 < split.ids().size


def test_a_split_smaller_than_a_batch_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="'train' has 3 instances, fewer than batch_size 4: lower batch_size"):
        Batches(Split("train", 0, 3), 4, 0)
