"""A study's trainings as tasks of a cluster."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rlseq.config.schema import ComputeConfig
from rlseq.rllib.study_jobs import NOT_SHARED, STOPPED, ClusterTask, cluster_launch


def result(task: ClusterTask) -> int:
    deadline = time.monotonic() + 120
    while (code := task.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return code


@pytest.fixture
def study(ray_cluster: None, tmp_path: Path) -> Path:
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


def test_a_training_runs_where_the_cluster_has_room_and_its_exit_code_comes_back(study: Path) -> None:
    launch = cluster_launch(ComputeConfig(address="auto", threads=1))  # connected already
    log = study / "logs" / "seed0-mle.log"
    arguments = ["train", "hull", "mle.updates=0", "rl.updates=0", "--phase", "rl"]
    assert result(launch(arguments, log)) == 2  # type: ignore[arg-type]
    assert "--phase rl starts from a checkpoint" in log.read_text()


def test_a_machine_without_the_studys_directory_says_so(study: Path) -> None:
    assert result(ClusterTask(["configs"], study.parent / "elsewhere" / "logs" / "a.log", 1)) == NOT_SHARED


def test_a_task_that_is_stopped_ends(study: Path) -> None:
    sizes = ["mle.updates=1000000", "task.validation_size=8", "task.test_size=8", "policy.hidden_size=8"]
    log = study / "logs" / "seed0-mle.log"
    run = study / "seed0" / "mle"
    task = ClusterTask(["train", "hull", *sizes, "--run", str(run)], log, 1)
    deadline = time.monotonic() + 120
    while not (run / "train.log").exists():
        assert time.monotonic() < deadline and task.poll() is None, log.read_text() if log.exists() else ""
        time.sleep(0.1)
    task.stop()
    assert result(task) == STOPPED
    assert "go on with" in log.read_text()
