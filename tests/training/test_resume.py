"""A run killed at any point and resumed equals the run that was never touched, in weights and in what was logged.

One run is trained to its end while its directory is copied before and after whatever it does; each copy is what a kill
at that point leaves, and each is resumed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.report.files import MetricsFile
from rlseq.report.reporter import Reporter
from rlseq.report.sink import Sink
from rlseq.training.checkpoint import Tensors, load_checkpoint
from rlseq.training.engine import UpdateRequest
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from tests.support import HULL, REVERSE, SMALL_ATTENTION, SMALL_POINTER, tiny_config
from tests.training.scripted import Recorder

Record = dict[str, Any]

MLE = {"updates": 11, "batch_size": 6, "validate_every": 4, "average": 0.5}
RL = {"updates": 10, "batch_size": 4, "validate_every": 4, "samples": 2, "kl": 0.1, "average": 0.5}
EVALUATION = {"max_instances": 8, "samples_shown": 1}
CHECKPOINT = {"every": 3, "keep": 100}


TEXT = {
    "type": "translation",
    "vocabulary_size": 150,
    "subword_dropout": 0.1,
    "cldr_sizes": [50, 8, 8],
    "max_length": 40,
    "max_source_length": 40,
}
KINDS: dict[str, tuple[Record, Record, Record]] = {
    "hull": (HULL, SMALL_POINTER, {}),
    "reverse": (REVERSE | {"arguments": {"letters": 2, "longest": 2}}, SMALL_ATTENTION, {}),
    "redrawn": (HULL, SMALL_POINTER, {}),
    "text": (TEXT, SMALL_ATTENTION, {"batch_type": "token", "batch_size": 160}),  # several epochs
}


def config(kind: str) -> Config:
    task, policy, batches = KINDS[kind]
    steps = {"optimizer": {"learning_rate": 0.03}} | batches
    baseline = {"hull": "critic", "redrawn": "mean", "reverse": "running_mean", "text": "greedy"}[kind]
    critic = {"critic": {"shaped": True, "gae_lambda": 0.9}} if baseline == "critic" else {}
    redrawn = {"objective": {"type": "ppo", "minibatches": 2}, "dynamic_sampling": 2, "starts": "task"}
    sections = {
        "mle": MLE | steps,
        "rl": RL | steps | {"baseline": baseline} | critic | (redrawn if kind == "redrawn" else {}),
        "evaluation": EVALUATION,
        "checkpoint": CHECKPOINT,
    }
    return tiny_config(task, policy, log_every=2, **sections)


def trainer_in(run: RunDirectory, engine: PlainEngine, *sinks: Sink) -> Trainer:
    return Trainer(run.config, engine.task, engine, run, Reporter([MetricsFile(), *sinks]))


def engine_of(settings: Config) -> PlainEngine:
    env = make_vector_env(settings.task)
    return PlainEngine(settings, env.task, env.rollout)


class Copies(Sink):
    """Copies the run directory at every event that changed it."""

    def __init__(self, run: RunDirectory, place: Path) -> None:
        self.run, self.place, self.taken, self.last = run, place, 0, ""
        save = run.save

        def save_and_copy(*args: Any, **keys: Any) -> Path:
            self.take()
            saved = save(*args, **keys)
            self.take()
            return saved

        run.save = save_and_copy  # type: ignore[method-assign]

    def take(self) -> None:
        now = repr((len(self.run.read_metrics()), checkpoints(self.run)))
        if now == self.last:
            return
        self.last = now
        shutil.copytree(self.run.path, self.place / f"{self.taken:03d}", symlinks=True)
        self.taken += 1

    def updates(self, event: Any) -> None:
        self.take()

    def validation(self, event: Any) -> None:
        self.take()


def metrics(run: RunDirectory) -> list[Record]:
    return [{tag: v for tag, v in record.items() if not tag.startswith("time/")} for record in run.read_metrics()]


def checkpoints(run: RunDirectory) -> list[str]:
    """Checkpoints, and what the links among them point at."""
    return sorted(
        f"{path.relative_to(run.path)} {path.readlink() if path.is_symlink() else ''}"
        for phase in ("mle", "rl")
        for path in (run.path / "checkpoints" / phase).iterdir()
    )


def final(run: RunDirectory) -> tuple[Tensors, Record, list[Record], list[str]]:
    """The newest checkpoint's state and counters, the log, and which checkpoints there are."""
    latest = run.latest()
    assert latest is not None
    checkpoint = load_checkpoint(latest, resume=True)
    assert checkpoint.state is not None
    meta = {key: value for key, value in checkpoint.meta.items() if key != "trainer"}
    progress = checkpoint.meta["trainer"]
    progress["sums"] = {tag: v for tag, v in progress["sums"].items() if not tag.startswith("time/")}
    assert progress.pop("mle_seconds") > 0.0 and progress.pop("peak_memory_mib") > 0.0
    assert progress.pop("cpu_seconds")["mle"] > 0.0
    return checkpoint.state, meta | progress, metrics(run), checkpoints(run)


def assert_same(ours: Any, theirs: Any) -> None:
    for name, value in theirs[0].items():
        assert np.array_equal(ours[0][name], value), name
    assert ours[0].keys() == theirs[0].keys()
    assert ours[1:] == theirs[1:]


@pytest.mark.parametrize(("task", "stride"), [("reverse", 1), ("hull", 5), ("redrawn", 5), ("text", 5)])
def test_a_run_killed_anywhere_ends_as_if_it_had_not_been(task: str, stride: int, tmp_path: Path) -> None:
    settings = config(task)
    run = RunDirectory.create(settings, path=tmp_path / "whole")
    copies = Copies(run, tmp_path / "killed")
    trainer_in(run, engine_of(settings), copies).train()
    expected = final(run)
    assert expected[1]["update"] == 21 and expected[1]["phase"] == "rl" and copies.taken >= 25
    resumed = 0
    for index in range(0, copies.taken, stride):
        killed = RunDirectory.open(tmp_path / "killed" / f"{index:03d}")
        if killed.latest() is not None:
            torch.manual_seed(index)
            trainer_in(killed, engine_of(killed.config)).resume()
            assert_same(final(killed), expected)
            resumed += 1
        killed.close()
    assert resumed > copies.taken // stride - 5
    assert {Path(directory).parts[1] for directory in expected[3] if "best" in directory} == {"mle", "rl"}


def test_a_finished_run_has_nothing_to_resume(tmp_path: Path) -> None:
    settings = config("hull")
    run = RunDirectory.create(settings, path=tmp_path / "run")
    trainer_in(run, engine_of(settings)).train()
    expected = final(run)
    run.close()
    again, engine = RunDirectory.open(run.path), engine_of(settings)
    engine.update = lambda requests: pytest.fail("an update after the end")  # type: ignore[method-assign]
    trainer_in(again, engine).resume()
    assert_same(final(again), expected)


class Watched(PlainEngine):
    """Notes weights and optimiser at the start of each phase."""

    def start_phase(self, phase: Phase) -> None:
        super().start_phase(phase)
        if not hasattr(self, "starts"):
            self.starts: dict[str, Tensors] = {}
            self.requests: list[UpdateRequest] = []
        self.starts[phase] = self.get_state()

    def update(self, requests: list[UpdateRequest]) -> list[dict[str, float]]:
        self.requests += requests
        return super().update(requests)


def test_rl_starts_from_the_best_mle_weights_and_a_fork_from_any(tmp_path: Path) -> None:
    settings = config("hull")
    env = make_vector_env(settings.task)
    run, engine, recorder = (
        RunDirectory.create(settings, path=tmp_path / "run"),
        Watched(settings, env.task, env.rollout),
        Recorder(),
    )
    trainer_in(run, engine, recorder).train()
    best = load_checkpoint(run.checkpoint("mle", "best")).weights
    start = engine.starts["rl"]
    assert not any(name.startswith("optimizer/") for name in start)
    for prefix in ("policy", "average", "reference"):
        assert all(np.array_equal(start[f"{prefix}/{name}"], value) for name, value in best.items())
    assert [request.update for request in engine.requests] == list(range(21))
    for phase in ("mle", "rl"):
        kept = load_checkpoint(run.checkpoint(phase, "best")).meta["metrics"]
        assert kept["accuracy"] == max(recorder.scores(phase))
    assert max(recorder.scores("rl")) >= recorder.scores("rl")[0] == max(recorder.scores("mle"))

    forked, other = RunDirectory.create(settings, path=tmp_path / "fork"), Watched(settings, env.task, env.rollout)
    source = load_checkpoint(run.checkpoint("rl", 18))
    trainer_in(forked, other).fork(source, "rl")
    assert not any(name.startswith("optimizer/") for name in other.starts["rl"])
    assert all(np.array_equal(other.starts["rl"][f"policy/{name}"], value) for name, value in source.weights.items())
    assert [request.update for request in other.requests] == list(range(18, 28))
    assert metrics(forked)[0]["update"] == 18 and "eval/accuracy" in metrics(forked)[0]
