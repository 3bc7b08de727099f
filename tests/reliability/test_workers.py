"""The same training with any number of workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from rlseq.config.schema import Config
from rlseq.training.engine import Tensors
from rlseq.training.rollout import Rollout, RolloutRequest
from tests.rllib.tools import EVERYTHING, assert_equal, both_phases, config, ids, make_engine

SUITE = "Workers"
HOLDS_WHEN = (
    "with any runners and up to one learner samples, rewards, weights and the state of the optimiser are those of one "
    "process, to the bit; so they are with two learners if one reads a step's rows in two parts; if it does not, sums "
    "of gradients have another order: samples and rewards are equal, the mean gradient is within 1e-5 of its largest "
    "entry, and weights are within 1e-6"
)

OBJECTIVES: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": EVERYTHING | {"dropout": False},
    "in parts": EVERYTHING | {"dropout": False, "accumulation": 2},
    "ppo": {"objective": {"type": "ppo"}},
}


class Trained(NamedTuple):
    """What comes of some updates of both phases."""

    drawn: Rollout
    decoded: Rollout
    state: Tensors


def trained(settings: Config) -> Trained:
    engine = make_engine(settings)
    try:
        drawn = engine.rollout(ids(50, 24), RolloutRequest(3, True, 50), averaged=False)
        both_phases(engine, 3, 3)
        return Trained(drawn, engine.rollout(ids(51), RolloutRequest(0, True, 51), averaged=True), engine.get_state())
    finally:
        engine.close()


def settings_of(objective: str, runners: int, learners: int) -> Config:
    settings = config(runners, learners, policy_dropout=0.0, **OBJECTIVES[objective])
    return settings.model_copy(update={"compute": settings.compute.model_copy(update={"threads": 1})})


@pytest.fixture(scope="module")
def alone() -> Iterator[dict[str, Trained]]:
    yield {objective: trained(settings_of(objective, 0, 0)) for objective in OBJECTIVES}


CASES = {
    f"{objective}, {runners} runners, {learners} learners": (objective, runners, learners)
    for objective in OBJECTIVES
    for runners in (0, 1, 2, 4)
    for learners in (0, 1, 2)
    if runners or learners
}


@pytest.mark.cases(CASES, sample=1)
def test_workers(case: tuple[str, int, int], ray_cluster: None, alone: dict[str, Trained]) -> None:
    settings = settings_of(*case)
    ours, theirs = trained(settings), alone[case[0]]
    for name in ("sequences", "lengths", "rewards"):
        np.testing.assert_array_equal(getattr(ours.drawn, name), getattr(theirs.drawn, name), err_msg=name)
    np.testing.assert_array_equal(ours.decoded.sequences, theirs.decoded.sequences)
    np.testing.assert_array_equal(ours.decoded.rewards, theirs.decoded.rewards)
    if case[2] <= settings.rl.accumulation:
        assert_equal(ours.state, theirs.state)
        return
    # Adam's first steps divide gradients by their own size, so a mean of gradients is nearer than weights are.
    means, expected = (_entries(state, "optimizer/", "/exp_avg") for state in (ours.state, theirs.state))
    assert expected
    assert_equal(means, expected, 1e-5 * max(float(np.abs(value).max()) for value in expected.values()))
    for kind in ("policy/", "average/"):
        assert_equal(_entries(ours.state, kind), _entries(theirs.state, kind), 1e-6)


def _entries(state: Tensors, begin: str, end: str = "") -> Tensors:
    return {name: value for name, value in state.items() if name.startswith(begin) and name.endswith(end)}
