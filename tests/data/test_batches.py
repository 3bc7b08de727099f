"""Batches are a pure function of their number: every instance once an epoch, whatever was asked before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq.config.errors import UserError
from rlseq.config.schema import Config
from rlseq.data.batches import POOL, InstanceBatches, TokenBatches, make_batches
from rlseq.data.tasks import make_task
from rlseq_envs.task import SequenceTask, Split
from tests.support import REVERSE, SMALL_ATTENTION, only, tiny_config

sizes = st.tuples(st.integers(1, 8), st.integers(8, 60))


def epoch(batches: InstanceBatches, number: int) -> np.ndarray:
    per_epoch = batches.batches_per_epoch
    assert per_epoch is not None
    return np.stack([batches.ids(number * per_epoch + index) for index in range(per_epoch)])


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, first=st.integers(0, 1 << 41), seed=st.integers(0, 5), bucketed=st.booleans())
def test_an_epoch_has_each_instance_at_most_once(sizes: tuple[int, int], first: int, seed: int, bucketed: bool) -> None:
    batch_size, size = sizes
    split = Split("train", first, size)
    batches = InstanceBatches(split, batch_size, seed, split.ids() % 7 if bucketed else None)
    for number in (0, 1, 5):
        ids = epoch(batches, number)
        assert ids.shape == (size // batch_size, batch_size) and len(np.unique(ids)) == ids.size
        assert np.isin(ids, split.ids()).all()


def test_batches_do_not_depend_on_which_were_asked_for_before() -> None:
    split = Split("train", 100, 37)
    ahead = [InstanceBatches(split, 5, 1).ids(number) for number in range(30)]
    back = InstanceBatches(split, 5, 1)
    assert all(np.array_equal(back.ids(number), ahead[number]) for number in reversed(range(30)))


def test_epochs_and_seeds_are_shuffled_differently_and_all_instances_get_their_turn() -> None:
    split = Split("train", 0, 23)
    batches = InstanceBatches(split, 5, 0)
    assert not np.array_equal(epoch(batches, 0), epoch(batches, 1))
    assert not np.array_equal(epoch(batches, 0), epoch(InstanceBatches(split, 5, 1), 0))
    assert set(np.concatenate([epoch(batches, number).ravel() for number in range(6)])) == set(range(23))


def test_an_endless_split_is_read_in_order() -> None:
    batches = InstanceBatches(Split("train", 10, None), 4, 3)
    assert batches.batches_per_epoch is None
    assert batches.ids(0).tolist() == [10, 11, 12, 13] and batches.ids(1 << 20)[0] == 10 + (4 << 20)


def test_buckets_hold_instances_of_like_length_and_leave_nothing_out() -> None:
    split, all_lengths = Split("train", 1000, 1000), np.random.default_rng(0).integers(1, 40, 1000)

    def lengths(ids: np.ndarray) -> np.ndarray:
        return all_lengths[ids - 1000]

    batches = InstanceBatches(split, 10, 0, all_lengths)
    spread = np.ptp(lengths(epoch(batches, 0)), axis=1)
    plain = np.ptp(lengths(epoch(InstanceBatches(split, 10, 0), 0)), axis=1)
    assert spread.mean() < 2.5 < 20 < plain.mean()
    assert np.array_equal(np.sort(epoch(batches, 0).ravel()), split.ids())
    # Long and short batches come in any order.
    means = lengths(epoch(batches, 0)).mean(1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3 and POOL * 10 < split.ids().size


def test_a_split_smaller_than_a_batch_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="batch_size: split 'train' has 3 instances, fewer than 4: lower it"):
        InstanceBatches(Split("train", 0, 3), 4, 0)


# ------------------------------------------------------------------------------------------------ budgets of tokens
def token_epochs(batches: TokenBatches, epochs: int) -> list[list[np.ndarray]]:
    """The batches of the first epochs; an epoch ends where an instance comes again or too few are left."""
    found: list[list[np.ndarray]] = []
    number = 0
    for _ in range(epochs):
        found.append([])
        while sum(map(len, found[-1])) + batches.least <= len(batches.sizes):
            found[-1].append(batches.ids(number))
            number += 1
    return found


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=300),
    spare=st.integers(0, 300),
    first=st.integers(0, 1 << 41),
    seed=st.integers(0, 3),
)
def test_no_batch_exceeds_its_tokens_and_an_epoch_has_every_instance_but_the_remainder(
    sizes: list[int], spare: int, first: int, seed: int
) -> None:
    budget = min(max(sizes) + spare, max(sizes) * len(sizes))
    batches = TokenBatches(Split("train", first, len(sizes)), budget, seed, np.array(sizes))
    assert batches.least == budget // max(sizes)
    for found in token_epochs(batches, 3):
        ids = np.concatenate(found)
        assert len(np.unique(ids)) == len(ids) and 0 <= ids.min() - first <= ids.max() - first < len(sizes)
        assert len(sizes) - len(ids) < batches.least
        for batch in found:
            assert len(batch) >= batches.least
            assert len(batch) * max(sizes[i] for i in batch - first) <= budget


def test_token_batches_are_full_of_instances_of_like_size_in_any_order() -> None:
    sizes = np.random.default_rng(0).integers(1, 40, 5000)
    batches = TokenBatches(Split("train", 0, 5000), 400, 0, sizes)
    first, second = token_epochs(batches, 2)
    padded = np.array([len(ids) * sizes[ids].max() for ids in first])
    assert padded.mean() > 0.95 * 400 and sum(sizes[ids].sum() for ids in first) / padded.sum() > 0.95
    assert len(np.concatenate(first)) > 4990
    longest = [sizes[ids].max() for ids in first]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2
    assert {tuple(sorted(ids)) for ids in first}.isdisjoint(tuple(sorted(ids)) for ids in second if len(ids) > 20)


def test_token_batches_do_not_depend_on_which_were_asked_for_before() -> None:
    sizes = np.random.default_rng(1).integers(1, 40, 200)

    def batches(seed: int = 1) -> TokenBatches:
        return TokenBatches(Split("train", 100, 200), 100, seed, sizes)

    ahead = [batches().ids(number) for number in range(200)]
    back = batches()
    assert all(np.array_equal(back.ids(number), ahead[number]) for number in reversed(range(200)))
    assert not all(np.array_equal(batches(2).ids(number), ahead[number]) for number in range(5))


LINES = ("source", "target")


def translation_config(tmp_path: Path, mle: dict[str, Any], **sections: Any) -> tuple[Config, SequenceTask]:
    """Thirty pairs of one to six words, the source twice as long where the target is short."""
    for side in LINES:
        lines = [" ".join("abcdef"[: 1 + (i if side == "target" else 5 - i) % 6]) for i in range(30)]
        (tmp_path / side).write_text("\n".join(lines) + "\n")
    files = {f"{split}_{side}": str(tmp_path / side) for split in ("train", "validation") for side in LINES}
    task = {"type": "translation", "corpus": "files", "units": "word", **files}
    made = tiny_config(task, SMALL_ATTENTION, mle=mle, **({"rl": {"updates": 0}} | sections))
    return made, make_task(made.task)


def test_a_phase_counts_sources_and_references_padded_with_end(tmp_path: Path) -> None:
    config, task = translation_config(tmp_path, {"batch_type": "token", "batch_size": 21})
    batches = make_batches(config, task)
    assert set(batches) == {"mle"}
    for number in range(20):
        ids = batches["mle"].ids(number)
        sources, references = only(task.source(ids))[0], task.references(ids)[0]
        assert len(ids) * max(sources.shape[1], references.shape[1]) <= 21 and len(ids) >= 3


@pytest.mark.parametrize(
    ("mle", "learners", "message"),
    [
        ({"batch_size": 31}, 0, r"mle.batch_size: split 'train' has 30 instances, fewer than 31: lower it"),
        ({"batch_type": "token", "batch_size": 6}, 0, r"mle.batch_size: .* takes 7 tokens, more than 6: raise it to 7"),
        ({"batch_type": "token", "batch_size": 217}, 0, r"mle.batch_size: the 30 instances .* lower it to 210 or less"),
        ({"batch_type": "token", "batch_size": 20}, 3, r"mle.batch_size: 20 tokens may be 2 instances, .* to 21 or"),
    ],
)
def test_sizes_that_do_not_fit_the_data_are_refused_with_the_remedy(
    tmp_path: Path, mle: dict[str, Any], learners: int, message: str
) -> None:
    config, task = translation_config(tmp_path, mle, compute={"learners": learners})
    with pytest.raises(UserError, match=message):
        make_batches(config, task)


@pytest.mark.parametrize(("learners", "message"), [(0, "the 3 parts .* to 21 or"), (2, "the 6 parts .* to 42 or")])
def test_token_batches_smaller_than_their_mini_batches_are_refused(tmp_path: Path, learners: int, message: str) -> None:
    rl = {"batch_type": "token", "batch_size": 20, "objective": {"type": "ppo", "minibatches": 3}}
    config, task = translation_config(tmp_path, {}, rl=rl, compute={"learners": learners})
    with pytest.raises(UserError, match=rf"rl.batch_size: 20 tokens may be 2 instances, fewer than {message} more"):
        make_batches(config, task)


def test_a_task_that_names_no_starts_is_refused_before_the_training() -> None:
    config = tiny_config(REVERSE, SMALL_ATTENTION, rl={"starts": "task"})
    with pytest.raises(UserError, match=r"rl.starts: ReverseTask names no first tokens: set it to 'policy'"):
        make_batches(config, make_task(config.task))
    config = tiny_config(rl={"starts": "task"})
    assert make_batches(config, make_task(config.task))["rl"].least == config.rl.batch_size


def test_an_endless_split_has_no_token_batches_and_all_problems_are_told_at_once() -> None:
    config = tiny_config(mle={"batch_type": "token"}, rl={"batch_type": "token"})
    with pytest.raises(UserError) as caught:
        make_batches(config, make_task(config.task))
    for line, phase in zip(str(caught.value).splitlines(), ("mle", "rl"), strict=True):
        assert f"{phase}.batch_type: split 'train' is endless" in line and "set it to 'instance'" in line


def test_rl_is_trained_on_the_instances_that_the_task_has_for_it_or_on_those_of_cross_entropy() -> None:
    hull = {"type": "convex_hull", "train_size": 40, "rl_generated": True}
    for instances, name in (("task", "rl"), ("train", "train")):
        config = tiny_config(hull, rl={"instances": instances})
        batches = make_batches(config, make_task(config.task))
        assert (batches["mle"].split.name, batches["rl"].split.name) == ("train", name)


@pytest.mark.parametrize(
    ("rl", "named"),
    [
        ({"cross_entropy": 0.1}, "cross_entropy"),
        ({"objective": "mixer"}, "objective 'mixer'"),
        ({"objective": "mrt", "samples": 2, "baseline": "none"}, "objective.reference"),
    ],
)
def test_what_reads_references_refuses_instances_without_them_by_name(rl: dict[str, Any], named: str) -> None:
    hull = {"type": "convex_hull", "train_size": 40, "rl_generated": True}
    config = tiny_config(hull, rl=rl)
    with pytest.raises(UserError, match=rf"rl.instances: .* no references, and {named} reads them: set instances to"):
        make_batches(config, make_task(config.task))
    config = tiny_config(hull, rl=rl | {"instances": "train"})
    make_batches(config, make_task(config.task))
