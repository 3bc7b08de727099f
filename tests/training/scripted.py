"""A task and an engine whose quality is a number that a script moves: what the trainer decides, without learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.report.files import MetricsFile
from rlseq.report.reporter import Reporter
from rlseq.report.sink import Level, Sink, Validation
from rlseq.training.engine import Engine, Tensors, UpdateRequest
from rlseq.training.rollout import Rollout, RolloutRequest
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from rlseq_envs.source import Source
from rlseq_envs.task import Ints, SequenceTask
from tests.support import ReverseTask, tiny_config

UNIT = 1000  # tokens are integers: a quality of 1 is 1000 of them
UNKNOWN = -(10**9)  # stands for a metric that is not a number


class ScriptedTask(ReverseTask):
    """Whose validation score is the quality the engine's sequences carry."""

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        score = sequences[0, 0]
        return {"accuracy": math.nan if score == UNKNOWN else float(score) / UNIT}


class ScriptedEngine:
    """Adds ``gain(request)`` to its quality at each update; ``reward(request)`` is reported as sampled reward."""

    def __init__(
        self,
        gain: Callable[[UpdateRequest], float],
        reward: Callable[[UpdateRequest], float] = lambda request: 0.5,
    ) -> None:
        self.gain, self.reward = gain, reward
        self.quality, self.steps = 10.0, 0
        self.calls: list[tuple[Any, ...]] = []
        self.requests: list[UpdateRequest] = []

    def start_phase(self, phase: Phase) -> None:
        self.calls.append(("start_phase", phase, self.quality))
        self.steps = 0

    def update(self, requests: list[UpdateRequest]) -> list[dict[str, float]]:
        statistics = []
        for request in requests:
            self.requests.append(request)
            self.quality += self.gain(request)
            self.steps += 1
            stats = {"train/loss": 1.0 / (1 + request.update), "train/learning_rate": request.learning_rate}
            statistics.append(stats | ({"rollout/reward_mean": self.reward(request)} if request.phase == "rl" else {}))
        return statistics

    def rollout(self, ids: Ints, decoding: RolloutRequest, *, averaged: bool) -> Rollout:
        assert averaged and decoding.greedy and decoding.num_samples == 0
        self.calls.append(("validate", self.quality))
        shape = (len(ids), 1)
        score = UNKNOWN if math.isnan(self.quality) else round(self.quality * UNIT)
        sequences = np.full((*shape, 1), score, np.int64)
        zeros = np.zeros(shape)
        lengths, log_probs = np.ones(shape, np.int64), np.zeros((*shape, 1), np.float32)
        source = Source.of(text=(sequences[:, 0], lengths[:, 0]))
        return Rollout(ids, source, sequences, lengths, zeros, zeros, {}, zeros > 0, True, token_log_probs=log_probs)

    def get_state(self) -> Tensors:
        # A score that is no number does not mean weights that are none.
        return {"policy/quality": np.nan_to_num([self.quality]), "optimizer/steps": np.array([self.steps])}

    def set_state(self, state: Tensors, phase: Phase) -> None:
        self.calls.append(("set_state", phase, float(state["policy/quality"][0])))
        self.quality, self.steps = float(state["policy/quality"][0]), int(state["optimizer/steps"][0])

    def set_weights(self, weights: Tensors) -> None:
        self.calls.append(("set_weights", float(weights["quality"][0])))
        self.quality = float(weights["quality"][0])

    def close(self) -> None:
        pass


class Recorder(Sink):
    """Keeps what a run reported."""

    def __init__(self) -> None:
        self.validations: list[Validation] = []
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.finished = 0

    def validation(self, event: Validation) -> None:
        self.validations.append(event)

    def message(self, text: str, level: Level) -> None:
        (self.warnings if level == "warning" else self.messages).append(text)

    def finish(self) -> None:
        self.finished += 1

    def scores(self, phase: str, metric: str = "accuracy") -> list[float]:
        return [event.metrics[metric] for event in self.validations if event.phase == phase]


def scripted_config(**sections: Any) -> Config:
    """Short phases, no table of samples; validations cost nothing here."""
    base = {"samples_shown": 0, "max_instances": 2}
    return tiny_config(
        {"type": "custom", "id": "tests.support:test/Reverse-v0"},
        {},
        **({"evaluation": base} | sections),
    )


def trainer_of(
    config: Config, engine: Engine, path: Path, task: SequenceTask | None = None, *sinks: Sink
) -> tuple[Trainer, Recorder]:
    """A trainer in a new run directory."""
    recorder = Recorder()
    run = RunDirectory.create(config, path=path)
    reporter = Reporter([MetricsFile(), recorder, *sinks])
    return Trainer(config, task or ScriptedTask(), engine, run, reporter), recorder
