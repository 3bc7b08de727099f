"""Workers in processes of their own are handed what the driver has read of a corpus."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.data.tasks import make_task
from rlseq.rllib.engine import RllibEngine
from rlseq.training.engine import UpdateRequest
from rlseq_envs.task import SequenceTask
from tests.rllib.tools import runner_pids
from tests.support import SMALL_ATTENTION, tiny_config

PAIRS = 24


def experiment(place: Path, **compute: int) -> Config:
    for side in ("source", "target"):
        (place / side).write_text("\n".join(" ".join("abcdef"[i % 5 : 2 + i % 3 + i % 5]) for i in range(PAIRS)) + "\n")
    files = {f"{split}_{side}": str(place / side) for split in ("train", "validation") for side in ("source", "target")}
    task = {"type": "translation", "corpus": "files", "units": "word", **files}
    return tiny_config(
        task,
        SMALL_ATTENTION | {"dropout": 0.0},
        rl={"samples": 2, "baseline": "leave_one_out"},
        compute={"device": "cpu", "threads": 1, "shard_size": 3, **compute},
    )


def prepared(config: Config, place: Path) -> tuple[SequenceTask, Path]:
    """The task with everything read, and its vocabulary."""
    task, artifacts = make_task(config.task), place / "artifacts"
    task.prepare()
    artifacts.mkdir(exist_ok=True)
    task.save_artifacts(artifacts)
    return task, artifacts


def losses(engine: RllibEngine, updates: range) -> list[float]:
    """Of both phases, update by update."""
    phases: tuple[Phase, Phase] = ("mle", "rl")
    found = []
    for phase in phases:
        engine.start_phase(phase)
        for i in updates:
            ids = engine.algorithm.task.instances("train").ids(i, i + 9)
            found += [stats["train/loss"] for stats in engine.update([UpdateRequest(phase, i, i, ids, 0.001)])]
    return found


def test_workers_read_no_corpus_not_even_when_they_start_again(
    ray_cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = experiment(tmp_path, runners=1, learners=2)
    local = RllibEngine(experiment(tmp_path), *prepared(config, tmp_path))
    task, artifacts = prepared(config, tmp_path)
    for side in ("source", "target"):
        (tmp_path / side).unlink()
    engine = RllibEngine(config, task, artifacts)
    try:
        assert losses(engine, range(3)) == pytest.approx(losses(local, range(3)), rel=1e-3, abs=1e-4)
        assert "constructor arguments" not in capfd.readouterr().err, "Ray doubts that the runner can start again"
        for pid in runner_pids(engine):
            os.kill(pid, signal.SIGKILL)
        assert losses(engine, range(3, 4)) == pytest.approx(losses(local, range(3, 4)), rel=1e-3, abs=1e-4)
    finally:
        engine.close()
