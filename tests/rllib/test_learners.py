"""Learners in processes of their own, with their gradients averaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rlseq.config.baselines import CriticConfig
from rlseq.config.objectives import PPOConfig
from rlseq.config.phases import Phase
from rlseq.config.rl import RLConfig
from rlseq.rllib.context import LearnerJob
from rlseq.rllib.engine import RllibEngine
from rlseq.rllib.learner import SequenceLearner
from rlseq.rllib.module import LossContext
from rlseq.training.batch import mle_batch, rl_batch
from rlseq.training.engine import TrainingError
from rlseq.training.rollout import RolloutRequest
from tests.rllib.tools import (
    BATCH,
    EVERYTHING,
    assert_equal,
    both_phases,
    config,
    ids,
    learner_states,
    make_engine,
    requests,
    without_times,
)

RECIPE = EVERYTHING | {"dropout": False}  # masks differ between learners, so equality needs none
TOLERANCE = 5e-5  # sums in another order; Adam carries the last bit into whole steps


@pytest.fixture(scope="module")
def two(ray_cluster: None) -> Iterator[RllibEngine]:
    engine = make_engine(config(0, 2, policy_dropout=0.0, **RECIPE))
    yield engine
    engine.close()


@pytest.fixture
def local() -> RllibEngine:
    return make_engine(config(policy_dropout=0.0, **RECIPE))


def restart(two: RllibEngine, local: RllibEngine, phase: Phase = "mle") -> None:
    two.set_state(local.get_state(), phase)


@pytest.mark.parametrize("rows", [12, 7, 2])
def test_two_learners_equal_one_with_even_and_uneven_shares(two: RllibEngine, local: RllibEngine, rows: int) -> None:
    restart(two, local)
    for phase in ("mle", "rl"):
        statistics = []
        for engine in (two, local):
            engine.start_phase(phase)
            statistics.append(without_times(engine.update(requests(phase, 0, 6, rows))))
        for ours, theirs in zip(*statistics, strict=True):
            assert ours == pytest.approx(theirs, abs=TOLERANCE, rel=1e-4)
    assert_equal(two.get_state(), local.get_state(), TOLERANCE)


RECIPES: dict[str, dict[str, Any]] = {
    "epochs with a critic": {
        "objective": PPOConfig(epochs=2),
        "baseline": CriticConfig(shaped=True, gae_lambda=0.9),
        "samples": 2,
        "variance_every": 1,
    },
    # 12 rows in 5 mini-batches are 3, 3, 2, 2 and 2, which two learners divide again.
    "mini-batches of instances that were redrawn": {
        "objective": PPOConfig(epochs=2, minibatches=5),
        "baseline": "leave_one_out",
        "samples": 3,
        "dynamic_sampling": 1,
        "starts": "task",
        "cross_entropy": 0.1,
        "variance_every": 1,
    },
}
COMPARED = {*("train/loss", "train/value_loss", "train/grad_norm", "train/grad_variance"), "rollout/drawn_ratio"}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_two_learners_equal_one_in_several_steps_an_update(ray_cluster: None, recipe: dict[str, Any]) -> None:
    engines = [make_engine(config(0, learners, policy_dropout=0.0, **recipe)) for learners in (2, 0)]
    statistics = [without_times(both_phases(engine, 2, 3)) for engine in engines]
    assert_equal(engines[0].get_state(), engines[1].get_state(), TOLERANCE)
    engines[0].close()
    for ours, theirs in zip(*statistics, strict=True):
        assert ours.keys() == theirs.keys()
        for tag in ours.keys() & COMPARED:
            assert ours[tag] == pytest.approx(theirs[tag], abs=TOLERANCE, rel=1e-3), tag


def test_two_learners_equal_one_to_the_bit_if_it_reads_rows_in_two_parts(ray_cluster: None) -> None:
    engines = [make_engine(config(0, n, policy_dropout=0.0, accumulation=2, **RECIPE)) for n in (2, 0)]
    for engine in engines:
        both_phases(engine, 3, 3)
    assert_equal(engines[0].get_state(), engines[1].get_state())
    engines[0].close()


def test_two_learners_equal_one_where_batches_differ_in_size(two: RllibEngine, local: RllibEngine) -> None:
    """As they do by a budget of tokens."""
    restart(two, local)
    for phase in ("mle", "rl"):
        mixed = [request for i, rows in enumerate((5, 12, 2, 9)) for request in requests(phase, i, 1, rows)]
        statistics = []
        for engine in (two, local):
            engine.start_phase(phase)
            statistics.append(without_times(engine.update(mixed)))
        for ours, theirs in zip(*statistics, strict=True):
            assert ours == pytest.approx(theirs, abs=TOLERANCE, rel=1e-4)
    assert_equal(two.get_state(), local.get_state(), TOLERANCE)


def test_learners_stay_equal_to_the_bit_after_a_restore(two: RllibEngine, local: RllibEngine) -> None:
    """Learners of one node are handed the same memory; sharing Adam's moments they would update them twice."""
    local.update(requests("mle", 0, 3))
    restart(two, local)
    for engine in (two, local):
        engine.update(requests("mle", 3, 5))
    first, second = learner_states(two)
    assert_equal(first, second)
    assert_equal(first, local.get_state(), TOLERANCE)


def test_a_resumed_run_continues_the_uninterrupted_one(two: RllibEngine, local: RllibEngine) -> None:
    restart(two, local)
    both_phases(two)
    saved = two.get_state()
    two.update(requests("rl", 8, 3))
    uninterrupted = two.get_state()
    two.set_state(saved, "rl")
    two.update(requests("rl", 8, 3))
    assert_equal(two.get_state(), uninterrupted)


@pytest.mark.parametrize("without", [6, 12])
def test_a_learner_whose_rows_have_no_advantage_keeps_step(two: RllibEngine, local: RllibEngine, without: int) -> None:
    """In plain REINFORCE it scores no sequence in that update; with 12 of 12 rows no learner does."""
    restart(two, local)
    request = requests("rl", 0, 1)[0]
    for engine in (two, local):
        engine.start_phase("rl")
        engine.algorithm.learner_group.foreach_learner(objective_without_other_terms)
        batch = mle_batch(engine.algorithm.task, request.ids, engine.algorithm.experiment.mle, 0)
        batch["state_weights"] = np.full_like(batch["target_lengths"], 1 / BATCH, np.float32)
        batch["weights"][BATCH - without :] = 0
        for _ in range(3):
            engine.algorithm.learner_group.work([request], batch)
    assert_equal(learner_states(two)[0], learner_states(two)[1])
    assert_equal(two.get_state(), local.get_state(), TOLERANCE)


def objective_without_other_terms(learner: SequenceLearner) -> None:
    learner._sequence_module.loss_context = LossContext(RLConfig(updates=1))


def test_nan_at_one_learner_stops_all_of_them_before_the_step(two: RllibEngine, local: RllibEngine) -> None:
    restart(two, local)
    two.start_phase("rl")
    before = learner_states(two)
    request = requests("rl", 4, 1)[0]
    drawn = local.rollout(request.ids, RolloutRequest(2, True, 4), averaged=False)
    batch, _ = rl_batch(two.algorithm.task, drawn, two.algorithm.experiment.rl)
    batch["weights"][-1, 0] = math.nan
    with pytest.raises(TrainingError, match=r"update 4: .* is not finite; no step was taken"):
        two.algorithm.learner_group.work([request], batch)
    for state, kept in zip(learner_states(two), before, strict=True):
        assert_equal(state, kept)
    two.update(requests("rl", 5, 1))


def test_learners_share_what_a_task_draws(local: RllibEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each builds the whole batch, so what a task draws for it must not depend on who asks."""
    learner, seeds = local.algorithm.learner_group.local, []
    assert learner is not None
    plain = learner.task.training_pairs
    monkeypatch.setattr(learner.task, "training_pairs", lambda ids, seed: seeds.append(seed) or plain(ids, seed))
    for request in requests("mle", 0, 2):
        shares = [learner._rows_of(request, LearnerJob([request], rank, 2, None)) for rank in (0, 1)]
        whole = mle_batch(learner.task, request.ids, learner.context.config.mle, seeds[-1])
        np.testing.assert_array_equal(
            np.concatenate([share["source.points"] for share in shares]), whole["source.points"]
        )
    assert seeds[0] == seeds[1] != seeds[3] == seeds[4]


def test_dropout_masks_differ_between_learners_and_updates_and_repeat(ray_cluster: None) -> None:
    """RLlib seeds all learners alike, and restarted ones replay their stream."""
    engine = make_engine(config(policy_dropout=0.5))
    learner = engine.algorithm.learner_group.local
    assert learner is not None
    start = engine.get_state()

    def loss(rank: int, update: int) -> float:
        engine.set_state(start, "mle")
        request = requests("mle", update, 1)[0]
        batch = mle_batch(engine.algorithm.task, ids(0), engine.algorithm.experiment.mle, 0)
        return learner.work(LearnerJob([request], rank, 2, [batch]))[0]["train/loss"]

    losses = [loss(rank, update) for rank in (0, 1) for update in (0, 1)]
    assert len(set(losses)) == 4
    assert losses == [loss(rank, update) for rank in (0, 1) for update in (0, 1)]
