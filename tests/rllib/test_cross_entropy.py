"""Cross-entropy with own tokens and a regularised attention, through RLlib: the plain loop's, and any learners'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.data.tasks import make_task
from rlseq.rllib.engine import RllibEngine
from rlseq.training.engine import UpdateRequest
from rlseq.training.plain import PlainEngine
from rlseq_envs.env import SequenceVectorEnv
from tests.rllib.tools import assert_equal, make_engine, without_times
from tests.support import REVERSE, SMALL_ATTENTION, tiny_config

MLE = {"scheduled_sampling": {"schedule": "linear", "slope": 0.2}, "attention_regularization": 0.1, "average": 0.5}


def experiment(learners: int = 0, **policy: Any) -> Config:
    compute = {"learners": learners, "device": "cpu", "timeout": 120.0}
    return tiny_config(REVERSE, SMALL_ATTENTION | policy, mle=MLE, rl={"samples": 2}, compute=compute)


def requests(phase: Phase, first: int, count: int) -> list[UpdateRequest]:
    return [UpdateRequest(phase, i, i, np.arange(7) + 7 * i, 2e-3) for i in range(first, first + count)]


def both_phases(engine: RllibEngine | PlainEngine) -> list[dict[str, float]]:
    statistics = engine.update(requests("mle", 0, 6))
    engine.start_phase("rl")
    return without_times(statistics + engine.update(requests("rl", 6, 3)))


def test_updates_equal_the_plain_loop_to_the_bit() -> None:
    settings = experiment()
    task = make_task(settings.task)
    ours, plain = make_engine(settings), PlainEngine(settings, task, SequenceVectorEnv(task).rollout)
    assert both_phases(ours) == both_phases(plain)
    assert_equal(ours.get_state(), plain.get_state())


def test_two_learners_equal_one(ray_cluster: None) -> None:
    one, two = make_engine(experiment(dropout=0.0)), make_engine(experiment(2, dropout=0.0))
    try:
        two.set_state(one.get_state(), "mle")
        for ours, theirs in zip(both_phases(two), both_phases(one), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5, rel=1e-4)
        assert_equal(two.get_state(), one.get_state(), 1e-5)
    finally:
        two.close()
