"""The monitors on real policies: spoilt ones and hackable rewards are caught, runs that learn raise nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlseq_envs
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.report.files import MetricsFile
from rlseq.report.reporter import Reporter
from rlseq.training.batch import rl_batch
from rlseq.training.engine import Tensors, UpdateRequest
from rlseq.training.monitors.registry import Monitors
from rlseq.training.plain import PlainEngine
from rlseq.training.rollout import Rollout, RolloutRequest, rollout
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from rlseq_envs.task import Ints, Reward
from tests.support import HULL, POINTER, REVERSE, ReverseTask, policy_section, tiny_config
from tests.training.scripted import Recorder

# Untied: what is spoilt in the output leaves the embeddings of inputs alone.
UNTIED = policy_section({}, embedding_size=16, hidden_size=32, dropout=0.0, tie_embeddings=False)
POINTING = policy_section(POINTER, hidden_size=32, dropout=0.0)
WITHIN = 40  # updates in which a fault has to be reported


LETTERS: dict[str, Any] = {"longest": 6}
SAMPLES: dict[str, Any] = {"baseline": "leave_one_out", "samples": 4}


def reverse(**arguments: Any) -> dict[str, Any]:
    return REVERSE | {"arguments": arguments}


def config(task: dict[str, Any], policy: dict[str, Any] = UNTIED, seed: int = 0, **rl: Any) -> Config:
    """Rl begins with the weights that the engine has."""
    base = {"updates": WITHIN, "batch_size": 32, "validate_every": 10}
    sections = {"mle": {"updates": 0, "batch_size": 32}, "evaluation": {"samples_shown": 0}, "seed": seed}
    return tiny_config(task, policy, rl=base | rl, log_every=10, **sections)


def rate(value: float) -> dict[str, Any]:
    return {"learning_rate": value, "schedule": {"warmup": 5}}


def engine_of(settings: Config) -> PlainEngine:
    env = make_vector_env(settings.task)
    return PlainEngine(settings, env.task, env.rollout)


@cache
def weights(kind: str, updates: int) -> Tensors:
    """A policy after so many updates of cross-entropy."""
    task, policy = {"letters": (reverse(**LETTERS), UNTIED), "points": (HULL, POINTING)}[kind]
    engine = engine_of(config(task, policy))
    engine.update([UpdateRequest("mle", n, n, np.arange(32 * n, 32 * n + 32), 1e-2) for n in range(updates)])
    return {name: value.numpy().copy() for name, value in engine.trainee.policy.state_dict().items()}


def warnings_of_rl(settings: Config, start: Tensors, path: Path) -> tuple[list[str], RunDirectory]:
    """Which monitors warn in the rl phase, from these weights on."""
    engine, recorder = engine_of(settings), Recorder()
    engine.set_weights(start)
    run = RunDirectory.create(settings, path=path / "run")
    Trainer(settings, engine.task, engine, run, Reporter([MetricsFile(), recorder])).train()
    run.close()
    monitors = (warning.split(":")[0] for warning in recorder.warnings if warning.startswith("monitor "))
    return [name.removeprefix("monitor ") for name in monitors], run


# -------------------------------------------------------------------------------------------------- spoilt policies
SAMPLING = config(reverse(**LETTERS), **SAMPLES)
Spoil = Callable[[Any], None]


@cache
def statistics(spoil: Spoil | None, updates: int) -> list[dict[str, float]]:
    """What updates of rl report of a policy that does not change."""
    engine = engine_of(SAMPLING)
    engine.set_weights(weights("letters", 150))
    policy = engine.trainee.policy
    with torch.no_grad():
        if spoil is not None:
            spoil(policy)
        return [of_update(engine, 10_000 + update) for update in range(updates)]


def of_update(engine: PlainEngine, update: int) -> dict[str, float]:
    parts = [np.arange(32 * update, 32 * update + 32)]
    decoding = RolloutRequest.for_update(SAMPLING.rl, update, update, False)
    drawn = rollout(engine.trainee.policy, engine.task, engine.score, parts, decoding, seed=0)
    return rl_batch(engine.task, Rollout.concatenate(drawn), SAMPLING.rl)[1]


def ends_at_once(policy: Any) -> None:
    policy.output.bias[0] += 50.0


def never_ends(policy: Any) -> None:
    policy.output.bias[0] -= 50.0


def one_token_for_ever(policy: Any) -> None:
    policy.output.bias[2] += 50.0


def ignores_its_source(policy: Any) -> None:
    policy.embedding.table.weight.zero_()
    policy.output.weight *= 20.0
    policy.output.bias *= 20.0


def draws_at_random(policy: Any) -> None:
    policy.output.weight.zero_()
    policy.output.bias.zero_()


def is_peaked(policy: Any) -> None:
    policy.output.weight *= 100.0
    policy.output.bias *= 100.0


@pytest.mark.parametrize(
    ("spoil", "monitors"),
    [
        (ends_at_once, {"length", "diversity"}),
        (never_ends, {"length", "truncation"}),
        (one_token_for_ever, {"repetition", "truncation", "diversity"}),
        (ignores_its_source, {"diversity"}),
        (draws_at_random, {"entropy"}),
        (is_peaked, {"entropy", "zero_advantage"}),
    ],
)
def test_a_policy_that_is_spoilt_is_caught(spoil: Spoil, monitors: set[str]) -> None:
    watching = Monitors(SAMPLING.rl)
    assert [alarm for stats in statistics(None, 40) for alarm in watching.update(stats)] == []
    found = {alarm.monitor for stats in statistics(spoil, WITHIN) for alarm in watching.update(stats)}
    assert found >= monitors


@pytest.mark.parametrize(
    ("spoil", "monitor"),
    [(never_ends, "truncation"), (one_token_for_ever, "truncation"), (is_peaked, "zero_advantage")],
)
def test_some_faults_are_caught_where_rl_begins_with_them(spoil: Spoil, monitor: str) -> None:
    watching = Monitors(SAMPLING.rl)
    assert monitor in {alarm.monitor for stats in statistics(spoil, WITHIN) for alarm in watching.update(stats)}


# ------------------------------------------------------------------------------------------------ hackable rewards
class PaidTask(ReverseTask):
    """Read the source backwards, judged by a reward that asks for something else."""

    def __init__(self, pays: str) -> None:
        super().__init__(**LETTERS)
        self.pays, self.choices = pays, replace(self.choices, longest=20)

    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        live = np.arange(sequences.shape[1]) < lengths[:, None]
        paid = {
            "length": lengths / self.choices.longest,
            "token": ((sequences == 1) & live).sum(1) / lengths,
            "first": (sequences[:, 0] == self.references(ids)[0][:, 0]) - 0.05 * lengths,
        }
        return Reward(paid[self.pays], {self.pays: paid[self.pays]})


rlseq_envs.register("test/Paid-v0", PaidTask)


@pytest.mark.parametrize(
    ("pays", "step", "monitors"),
    [
        ("length", 3e-3, {"length", "truncation", "hacking"}),
        ("token", 1e-2, {"repetition", "diversity", "hacking"}),
        ("first", 1e-2, {"hacking"}),
    ],
)
def test_a_reward_that_can_be_hacked_is_caught(tmp_path: Path, pays: str, step: float, monitors: set[str]) -> None:
    task = {"type": "custom", "id": f"{__name__}:test/Paid-v0", "arguments": {"pays": pays}}
    found, run = warnings_of_rl(config(task, optimizer=rate(step), **SAMPLES), weights("letters", 150), tmp_path)
    assert set(found) >= monitors and len(found) == len(set(found))
    flags = [record for record in run.read_metrics() if "monitor/hacking" in record]
    assert len(flags) == WITHIN / 10 and not any(flags[0][f"monitor/{name}"] for name in monitors)
    assert all(flags[-1][f"monitor/{name}"] == 1.0 for name in monitors if name != "hacking")


def test_rl_ends_where_a_monitor_of_validations_is_to_stop_it(tmp_path: Path) -> None:
    task = {"type": "custom", "id": f"{__name__}:test/Paid-v0", "arguments": {"pays": "length"}}
    settings = config(task, optimizer=rate(3e-3), monitors={"stop": ["hacking"]}, **SAMPLES)
    found, run = warnings_of_rl(settings, weights("letters", 150), tmp_path)
    records = run.read_metrics()
    assert found[-1] == "hacking" and "eval/accuracy" in records[-1] and records[-1]["update"] < WITHIN
    latest = run.latest()
    assert latest is not None and int(latest.name) == records[-1]["update"]


# ---------------------------------------------------------------------------------------------------- healthy runs
@pytest.mark.parametrize(
    ("kind", "mle", "seed", "keys"),
    [
        ("letters", 60, 0, {"baseline": "greedy", "samples": 1, "optimizer": rate(1e-3)}),
        ("letters", 60, 1, SAMPLES | {"optimizer": rate(3e-3)}),
        ("letters", 60, 2, SAMPLES | {"objective": {"type": "ppo", "epochs": 2}, "optimizer": rate(1e-3)}),
        ("letters", 60, 3, SAMPLES | {"baseline": "running_mean", "optimizer": rate(2e-3)}),
        ("points", 400, 4, SAMPLES | {"optimizer": rate(1e-3)}),
    ],
    ids=["greedy", "leave-one-out", "ppo", "running-mean", "pointer"],
)
def test_a_run_that_learns_raises_nothing(tmp_path: Path, kind: str, mle: int, seed: int, keys: dict[str, Any]) -> None:
    task, policy = {"letters": (reverse(**LETTERS), UNTIED), "points": (HULL, POINTING)}[kind]
    found, run = warnings_of_rl(
        config(task, policy, seed, **keys, updates=60, validate_every=20), weights(kind, mle), tmp_path
    )
    rewards = [record["rollout/reward_mean"] for record in run.read_metrics() if "rollout/reward_mean" in record]
    assert found == [] and rewards[-1] > rewards[0]
