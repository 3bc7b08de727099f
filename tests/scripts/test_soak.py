"""The program that has faults befall a training: what it does to a run, and that it sees a difference."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import soak
from rlseq.config.load import load_config
from rlseq.training.run_directory import RunDirectory
from tests.support import checkpoint_meta


@pytest.mark.slow
def test_a_training_on_which_faults_come_ends_as_one_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here without workers, and with a fault whenever the training has logged that it got on."""
    alone = [key.replace("compute.runners=2", "compute.runners=0") for key in soak.EXPERIMENT]
    monkeypatch.setattr(soak, "EXPERIMENT", [*alone, "log_every=60"])
    monkeypatch.setattr(soak, "FAULTS", (soak.damaged,))
    calm, _ = soak.left_alone(tmp_path / "calm", 120)
    storm = soak.Training(tmp_path / "storm" / "run", 120)
    assert set(soak.befallen(storm, every=0.0)) == {fault.__doc__ for fault in soak.FAULTS}
    assert soak.differing(calm, storm.run) == []
    assert "passed over" in (tmp_path / "storm" / "console.log").read_text()


def test_a_difference_of_one_bit_is_seen(tmp_path: Path) -> None:
    places: list[Path] = []
    for change in (0.0, 1e-7):
        run = RunDirectory.create(load_config("hull"), path=tmp_path / f"run{len(places)}")
        run.save("mle", 3, {"policy/a": np.array([1.0 + change, 2.0], np.float32)}, checkpoint_meta("mle", 3))
        run.close()
        places.append(run.path)
    assert soak.differing(places[0], places[0]) == []
    assert soak.differing(*places) == ["policy/a"]


def test_only_own_processes_are_found() -> None:
    """Else the faults would befall the runs of others."""
    training = soak.Training(Path("nowhere"), 1)
    # Not by name: a child has the command line of its parent until it runs.
    nested = "import os, subprocess; subprocess.run([os.environ['PROGRAM'], '60'])"
    other = subprocess.Popen(["sleep", "60"])
    training.process = subprocess.Popen([sys.executable, "-c", nested], env=os.environ | {"PROGRAM": "sleep"})
    try:
        while not (found := training.processes("sleep")):
            assert training.process.poll() is None
        assert len(found) == 1 and other.pid not in found and training.processes("python") == []
    finally:
        for pid in (*training.processes("sleep"), other.pid):
            os.kill(pid, signal.SIGKILL)
        other.wait()
        training.process.kill()
        training.process.wait()
