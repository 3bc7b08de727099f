"""Dynamic sampling: which instances come in, which are kept, and what is said about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from rlseq.config.rl import RLConfig
from rlseq.training.draw import REDRAWN, Drawn, draw
from rlseq.training.engine import UpdateRequest
from rlseq.training.rollout import Rollout
from rlseq.training.update import RESAMPLED
from rlseq_envs.task import Ints
from tests.support import ReverseTask, only

SPARE = (np.array([4, 5, 6, 7]), np.array([8, 9, 10, 11]))


def config(**keys: Any) -> RLConfig:
    base = {"updates": 1, "batch_size": 4, "samples": 2, "baseline": "leave_one_out", "dynamic_sampling": 2}
    return RLConfig.model_validate(base | keys)


def drawn(
    rewards: Mapping[int, Sequence[float]], rl: RLConfig, shift: int = 0
) -> tuple[Drawn, list[tuple[list[int], int]]]:
    """What update 9 trains on if instances have these rewards and all others 0.5 twice; and what was rolled out."""
    asked = []

    def roll_out(ids: Ints, number: int) -> Rollout:
        asked.append((ids.tolist(), number))
        found = np.array([rewards.get(int(index), [0.5, 0.5]) for index in ids])
        sequences = np.tile(np.array([[1, 0], [2, 0]]), (len(ids), 1, 1)) + (ids[:, None, None] % 2) * np.array([1, 0])
        lengths, zeros = np.full(found.shape, 2), np.zeros(found.shape)
        return Rollout(ids, ReverseTask().source(ids), sequences, lengths, zeros - 1.0, found, {}, zeros > 0, False)

    request = UpdateRequest("rl", 9, 0, np.array([0, 1, 2, 3]), 1e-3, spare=SPARE)
    return draw(ReverseTask(), roll_out, request, rl, 0, shift), asked


def instances(expected: list[int], found: Drawn) -> bool:
    source, lengths = only(ReverseTask().source(np.array(expected)))
    width = source.shape[1]
    return np.array_equal(found.batch["source.text"][:, :width], source) and np.array_equal(
        found.batch["source.text.lengths"], lengths
    )


def test_nothing_is_replaced_unless_asked_for() -> None:
    found, asked = drawn({0: [0, 1]}, config(dynamic_sampling=0))
    assert asked == [([0, 1, 2, 3], 9)] and instances([0, 1, 2, 3], found)
    assert "rollout/kept_frac" not in found.stats


def test_the_first_instances_that_teach_are_kept_in_the_order_of_drawing() -> None:
    rewards: dict[int, list[float]] = {1: [0, 1], 3: [1, 0], 4: [0.0, 0.25], 6: [0, 1], 7: [0, 1]}
    found, asked = drawn(rewards, config())
    assert asked == [([0, 1, 2, 3], 9), ([4, 5, 6, 7], 9 + REDRAWN)]  # full after one further draw
    assert instances([1, 3, 4, 6], found)
    assert found.stats["rollout/kept_frac"] == 5 / 8 and found.stats["rollout/drawn_ratio"] == 2.0
    assert found.stats["rollout/reward_mean"] == 0.5 and found.stats["rollout/zero_advantage_frac"] == 0.0
    assert found.batch["weights"].any((1, 2)).all()


def test_where_too_few_teach_the_first_of_the_others_fill_the_batch() -> None:
    found, asked = drawn({2: [0, 1], 9: [1, 0]}, config())
    assert len(asked) == 3 and instances([0, 1, 2, 9], found)
    assert found.batch["weights"].any((1, 2)).tolist() == [False, False, True, True]
    assert found.stats["rollout/kept_frac"] == 2 / 12 and found.stats["rollout/drawn_ratio"] == 3.0


def test_a_full_first_draw_costs_no_other() -> None:
    found, asked = drawn({index: [0, 1] for index in range(4)}, config())
    assert len(asked) == 1 and instances([0, 1, 2, 3], found)
    assert found.stats["rollout/kept_frac"] == found.stats["rollout/drawn_ratio"] == 1.0


def test_rewards_count_as_training_sees_them() -> None:
    rewards = {0: [0.8, 0.9], 1: [0.3, 0.9], 2: [0.1, 0.1 + 1e-12], 4: [0.2, 0.9], 8: [0.6, 0.9], 9: [0.4, 0.6]}
    found, _ = drawn(rewards, config(reward_clip=(0.0, 0.5)))
    assert instances([0, 1, 4, 9], found)  # 0.8 and 0.9 are both 0.5


@pytest.mark.parametrize("where", [0, 5])
def test_a_reward_that_is_no_number_is_noticed(where: int) -> None:
    found, _ = drawn({where: [math.nan, 1.0]}, config())
    assert not all(map(math.isfinite, found.stats.values()))


def test_other_samples_have_other_numbers() -> None:
    _, asked = drawn({}, config(), shift=RESAMPLED)
    numbers = [9 + RESAMPLED + further * REDRAWN for further in range(3)]
    assert [number for _, number in asked] == numbers
    assert not set(numbers) & {number for _, number in drawn({}, config())[1]}
