"""The plain loop with every way of cross-entropy: it continues to the bit, whatever is fed or added."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.training.engine import Tensors, UpdateRequest
from rlseq.training.plain import PlainEngine
from tests.support import HULL, REVERSE, SMALL_ATTENTION, SMALL_POINTER, policy_section, tiny_config

SAMPLING = {"scheduled_sampling": {"schedule": "exponential", "constant": 0.7}}
WAYS: dict[str, dict[str, Any]] = {
    "sampled": SAMPLING,
    "greedy sequences": {
        "scheduled_sampling": {"schedule": "linear", "constant": 0.5, "own": "greedy", "per": "sequence"}
    },
    "distribution": {"feed": "distribution"},
    "regularised": SAMPLING | {"attention_regularization": 0.1},
}
CASES = [("reverse", way) for way in WAYS] + [("hull", way) for way in WAYS if way != "regularised"]


def engine(kind: str, way: dict[str, Any], feed_context: bool = True) -> PlainEngine:
    task, policy = (REVERSE, SMALL_ATTENTION) if kind == "reverse" else (HULL, SMALL_POINTER)
    settings: Config = tiny_config(task, policy_section(policy, feed_context=feed_context), mle={"average": 0.5} | way)
    env = make_vector_env(settings.task)
    return PlainEngine(settings, env.task, env.rollout)


def requests(phase: Phase, updates: range) -> list[UpdateRequest]:
    return [UpdateRequest(phase, number, number, np.arange(8) + 8 * number, 3e-3) for number in updates]


def untimed(statistics: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{tag: value for tag, value in stats.items() if not tag.startswith("time/")} for stats in statistics]


def assert_same(ours: Tensors, theirs: Tensors) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_a_restored_engine_continues_to_the_bit(kind: str, way: str) -> None:
    straight = engine(kind, WAYS[way])
    straight.update(requests("mle", range(3)))
    saved = {name: value.copy() for name, value in straight.get_state().items()}
    after = straight.update(requests("mle", range(3, 6)))
    restored = engine(kind, WAYS[way])
    restored.update(requests("mle", range(1)))
    restored.set_state(saved, "mle")
    assert untimed(restored.update(requests("mle", range(3, 6)))) == untimed(after)
    assert_same(restored.get_state(), straight.get_state())


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_it_trains_otherwise_than_teacher_forcing(kind: str, way: str) -> None:
    ours, plain = engine(kind, WAYS[way], feed_context=False), engine(kind, {}, feed_context=False)
    for each in (ours, plain):
        each.update(requests("mle", range(3)))
    mine, theirs = ours.get_state(), plain.get_state()
    assert any(not np.array_equal(mine[name], value) for name, value in theirs.items())


def test_the_target_is_trained_averaged_and_kept_and_left_alone_by_rl() -> None:
    ours = engine("reverse", WAYS["regularised"])
    found = ours.update(requests("mle", range(4)))
    state = ours.get_state()
    target = state["policy/attention_target"]
    assert target.shape == () and float(target) != 1.0 != float(state["average/attention_target"])
    assert state["optimizer/attention_target/step"] == 4
    assert found[0]["train/attention_target"] == 1.0 != found[3]["train/attention_target"]
    ours.start_phase("rl")
    ours.update(requests("rl", range(4, 6)))
    assert ours.get_state()["policy/attention_target"] == target


def test_states_with_and_without_a_target_load_into_each_other() -> None:
    without, having = engine("reverse", {}), engine("reverse", WAYS["regularised"])
    for each in (without, having):
        each.update(requests("mle", range(2)))
    plain, full = without.get_state(), having.get_state()
    assert not any("attention_target" in name for name in plain)
    without.set_state(full, "mle")
    assert without.get_state().keys() == plain.keys()
    having.set_state(plain, "mle")
    having.update(requests("mle", range(2, 4)))
    assert having.get_state().keys() == full.keys()
