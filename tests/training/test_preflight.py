"""What samples show before rl: figures against enumeration, the reasons against rl, and what a run says."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq.data.tasks import make_vector_env
from rlseq.report.reporter import Reporter
from rlseq.report.sink import Level, Sink
from rlseq.training.checkpoint import load_checkpoint
from rlseq.training.plain import PlainEngine
from rlseq.training.preflight import (
    FEWEST,
    INSTANCES,
    SampleFigures,
    alike_among,
    judge_samples,
    sample_figures,
    short_form,
)
from rlseq.training.rollout import Rollout
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from rlseq_envs.source import Source
from tests.support import REVERSE, SMALL_ATTENTION, tiny_config

RL = tiny_config().rl
SOUND = SampleFigures(
    instances=300, samples=16, sampled=0.7, greedy=0.76, best=0.9, reference=1.0, worst=0.0, spread=0.15, alike=0.6,
    right=0.5, wrong=0.1, better=0.2, truncated=0.01, greedy_truncated=0.0, entropy=0.2, tokens=7.0,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------ the figures
@pytest.mark.parametrize("samples", [1, 2, 3, 5])
def test_alike_among_fewer_samples_is_the_mean_over_all_subsets(samples: int) -> None:
    rewards = np.random.default_rng(samples).integers(0, 3, (7, 5)).astype(float)
    subsets = [rewards[:, list(chosen)] for chosen in itertools.combinations(range(5), samples)]
    alike = np.mean([(part == part[:, :1]).all(1) for part in subsets])
    assert alike_among(rewards, samples) == pytest.approx(alike)


def test_figures_of_three_instances() -> None:
    """All right, all wrong, one of each; the greedy output is the last column."""
    rewards = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    truncated = np.array([[True, False, False], [False, False, True], [False, False, False]])
    lengths = np.full((3, 3), 2)
    rollout = Rollout(
        np.arange(3), Source(3, {}), np.zeros((3, 3, 2), np.int64), lengths,
        np.full((3, 3), -1.0) * [1, 1, 0], rewards, {}, truncated, True,
    )  # fmt: skip
    figures = sample_figures(rollout, np.ones(3))
    expected = SampleFigures(
        instances=3, samples=2, sampled=0.5, greedy=2 / 3, best=2 / 3, reference=1.0,
        worst=0.0, spread=0.5 / 3, alike=2 / 3, right=1 / 3,
        wrong=1 / 3, better=1 / 3, truncated=1 / 6,
        greedy_truncated=1 / 3, entropy=0.5, tokens=2.0,
    )  # fmt: skip
    assert vars(figures) == pytest.approx(vars(expected))


# ------------------------------------------------------------------------------------------------------ the verdict
@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"sampled": 0.001, "greedy": 0.002, "spread": 0.0001, "alike": 0.999, "wrong": 0.999}, ["untrained"]),
        ({"sampled": 0.006, "greedy": 0.011, "spread": 0.005, "alike": 0.0}, ["untrained"]),
        ({"sampled": 0.99, "greedy": 0.99, "alike": 0.99, "right": 0.985}, ["saturated"]),
        ({"sampled": 1.0, "greedy": 1.0, "worst": 1.0, "alike": 1.0, "right": 1.0, "spread": 0.0}, ["saturated"]),
        ({"alike": 0.99, "right": 0.75, "wrong": 0.24, "sampled": 0.76}, ["sharp"]),
        ({"spread": 0.002}, ["sharp"]),
        ({"sampled": 0.01, "spread": 0.01, "alike": 0.99, "wrong": 0.99}, ["flat"]),
        ({"better": 0.0}, ["no_headroom"]),
        ({"truncated": 0.4}, ["truncated"]),
        ({"greedy_truncated": 0.34, "greedy": 0.01, "sampled": 0.01}, ["untrained", "truncated"]),
        ({"sampled": 0.6}, ["sampled_below_greedy"]),
        ({"sampled": -0.9, "greedy": -0.5, "worst": -3.0, "reference": 0.0}, ["sampled_below_greedy"]),
    ],
)
def test_each_fault_is_found_and_no_other(changes: dict[str, Any], found: list[str]) -> None:
    findings = judge_samples(replace(SOUND, **changes), RL)
    assert [finding.key for finding in findings] == found
    against = [finding.key for finding in findings if finding.verdict == "against"]
    assert against == [key for key in found if key != "sampled_below_greedy"]


# --------------------------------------------------------------------------------------------------- the short form
class Listener(Sink):
    def __init__(self) -> None:
        self.messages: list[tuple[str, Level]] = []

    def message(self, text: str, level: Level) -> None:
        self.messages.append((text, level))


def reversing(**rl: Any) -> Any:
    sections = {"mle": {"updates": 2}, "rl": {"updates": 300, "patience": 1, "validate_every": 2, "samples": 3} | rl}
    return tiny_config(REVERSE, SMALL_ATTENTION, evaluation={"samples_shown": 0}, **sections)


def run(path: Path, config: Any) -> Listener:
    env = make_vector_env(config.task)
    directory, listener = RunDirectory.create(config, path=path), Listener()
    Trainer(config, env.task, PlainEngine(config, env.task, env.rollout), directory, Reporter([listener])).train()
    directory.close()
    return listener


def test_a_run_says_what_samples_show_as_rl_begins_and_goes_on_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = run(tmp_path / "told", reversing()).messages
    assert [level for _, level in told[:2]] == ["info", "info"]
    assert "on 24 validation instances" in told[0][0] and "best of 3" in told[0][0] and "samples alike" in told[1][0]
    monkeypatch.setattr("rlseq.training.trainer.short_form", lambda *arguments: [])
    assert run(tmp_path / "silent", reversing()).messages == told[-1:]  # only that rl ended early
    ours, theirs = (
        load_checkpoint(tmp_path / n / "checkpoints" / "rl" / "latest", resume=True) for n in ("told", "silent")
    )
    assert ours.state is not None and theirs.state is not None
    for name, value in ours.state.items():
        np.testing.assert_array_equal(value, theirs.state[name], err_msg=name)


class Counting(PlainEngine):
    looked: int

    def rollout(self, ids: Any, *arguments: Any, **keys: Any) -> Rollout:
        self.looked = len(ids)
        return super().rollout(ids, *arguments, **keys)


@pytest.mark.parametrize(
    ("rl", "limit", "looked"),
    [
        ({"updates": 300}, None, 24),  # a hundredth of the phase's instances
        ({"updates": 100}, None, None),
        ({"updates": 100_000}, None, 100),  # the validation split
        ({"updates": 100_000}, 50, 50),
        ({"updates": 100_000, "reward_source": "constant", "baseline": "none"}, None, None),
    ],
)
def test_the_short_form_costs_little(rl: dict[str, Any], limit: int | None, looked: int | None) -> None:
    config = reversing(**rl)
    env = make_vector_env(config.task)
    engine = Counting(config, env.task, env.rollout)
    lines = short_form(env.task, engine, config.rl, limit, 0)
    assert bool(lines) == (looked is not None)
    assert getattr(engine, "looked", None) == looked
    assert FEWEST <= 24 < INSTANCES
