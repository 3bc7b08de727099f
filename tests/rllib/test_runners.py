"""Environment runners in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq.config.baselines import CriticConfig
from rlseq.data.tasks import make_task
from rlseq.rllib.engine import RllibEngine
from rlseq.training.rollout import Rollout, RolloutRequest
from tests.rllib.tools import (
    EVERYTHING,
    assert_equal,
    both_phases,
    config,
    ids,
    make_engine,
    make_plain,
    requests,
    without_times,
)

COLUMNS = ("ids", "sequences", "lengths", "log_probs", "rewards", "truncated")


@pytest.fixture(scope="module")
def two(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RllibEngine]:
    experiment = config(2, **EVERYTHING)
    engine = RllibEngine(experiment, make_task(experiment.task), _artifacts(tmp_path_factory))
    yield engine
    engine.close()


def _artifacts(factory: pytest.TempPathFactory) -> Path:
    directory = factory.mktemp("artifacts")
    (directory / "vocabulary").write_text("of no use to points, and no harm\n")
    return directory


@pytest.fixture(scope="module")
def one(ray_cluster: None) -> Iterator[RllibEngine]:
    engine = make_engine(config(1, **EVERYTHING))
    yield engine
    engine.close()


def draw(engine: RllibEngine, rows: int = 11) -> Rollout:
    return engine.rollout(ids(2, rows), RolloutRequest(2, True, 5), averaged=False)


def assert_same(ours: Rollout, theirs: Rollout) -> None:
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(ours, column), getattr(theirs, column), err_msg=column)


@pytest.mark.parametrize("rows", [1, 4, 11, 24])
def test_the_same_tokens_with_no_one_and_two_runners(one: RllibEngine, two: RllibEngine, rows: int) -> None:
    """24 rows are six shards, 11 are three and the last one smaller, 4 are one: one of two runners then has none."""
    none = make_engine(config(**EVERYTHING))
    none.update(requests("mle", 0, 3))
    for engine in (one, two):
        engine.set_state(none.get_state(), "mle")
        assert_same(draw(engine, rows), draw(none, rows))


def test_a_run_with_two_runners_equals_the_plain_loop_to_the_bit(two: RllibEngine) -> None:
    fresh = make_plain(config(**EVERYTHING))
    two.set_state(fresh.get_state(), "mle")
    for engine in (two, fresh):
        both_phases(engine)
    assert_equal(two.get_state(), fresh.get_state())


RECIPES: dict[str, dict[str, Any]] = {
    "rewards token by token": {
        "baseline": CriticConfig(shaped=True, gae_lambda=0.9),
        "samples": 2,
    },
    "instances that are redrawn, given starts": {
        "baseline": "leave_one_out",
        "samples": 3,
        "dynamic_sampling": 2,
        "starts": "task",
    },
}


@pytest.mark.parametrize("runners", [1, 2])
@pytest.mark.parametrize("what", RECIPES)
def test_these_come_from_runners_to_the_bit(ray_cluster: None, runners: int, what: str) -> None:
    recipe = RECIPES[what]
    plain, engine = make_plain(config(**recipe)), make_engine(config(runners, **recipe))
    try:
        statistics = [without_times(both_phases(each)) for each in (engine, plain)]
        assert statistics[0] == statistics[1]
        assert_equal(engine.get_state(), plain.get_state())
    finally:
        engine.close()


def test_a_learner_reads_the_sources_as_the_runners_did(ray_cluster: None) -> None:
    """Without dropout a plain loop scores on what it decoded from; a learner elsewhere has to encode alike."""
    recipe = EVERYTHING | {"dropout": False}
    plain, engine = make_plain(config(**recipe)), make_engine(config(1, **recipe))
    try:
        for each in (engine, plain):
            both_phases(each)
        assert_equal(engine.get_state(), plain.get_state())
    finally:
        engine.close()


def test_runners_hold_restored_weights_at_once(two: RllibEngine) -> None:
    """RLlib's own synchronisation is asynchronous and drops weights under load, right after a restore most of all."""
    trained = make_engine(config(**EVERYTHING))
    for update in range(3):
        trained.update(requests("mle", update, 1))
        two.set_state(trained.get_state(), "mle")
        assert_same(draw(two), draw(trained))


def test_older_weights_replace_newer_ones(two: RllibEngine) -> None:
    trained = make_engine(config(**EVERYTHING))
    older, before = trained.get_state(), draw(trained)
    two.set_state(older, "mle")
    two.update(requests("mle", 0, 4))
    assert not np.array_equal(draw(two).log_probs, before.log_probs)
    two.set_state(older, "mle")
    assert_same(draw(two), before)


def test_live_and_averaged_weights_take_turns(two: RllibEngine) -> None:
    local = make_engine(config(**EVERYTHING))
    two.set_state(local.get_state(), "mle")
    for engine in (two, local):
        engine.update(requests("mle", 0, 3))
    for averaged in (False, True, False):
        drawn = [e.rollout(ids(1), RolloutRequest(1, False, 1), averaged=averaged) for e in (two, local)]
        assert_same(*drawn)
