"""A study that is killed again and again, wherever it is, ends with what it would have come to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TINY = [
    *("task.validation_size=20", "task.test_size=30", "task.train_size=64", "task.rl_generated=true"),
    *("policy.hidden_size=8", "mle.updates=40", "mle.batch_size=8", "mle.validate_every=10", "rl.updates=30"),
    *("rl.batch_size=4", "rl.validate_every=10", "log_every=5", "evaluation.samples_shown=1", "checkpoint.every=5"),
]
OPTIONS = ["--seeds", "1", "--controls", "shuffled_reward,equal_time", "--equal-time-updates", "60", "--jobs", "2"]


def begin(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "rlseq", "study", *arguments], stdout=output, stderr=subprocess.STDOUT
        )


def outcome(study: Path) -> Any:
    """What does not depend on the time that things took."""
    found = json.loads((study / "report" / "comparison.json").read_text())
    for arm in found["arms"]:
        for name in ("seconds", "cost", "checkpoints"):
            arm.pop(name)
    return found


@pytest.mark.timeout(900)
def test_killed_three_times_at_random(tmp_path: Path) -> None:
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    generator = np.random.default_rng(0)
    process = begin(["hull", *TINY, *OPTIONS, "--run", str(killed)], log)
    for signal_number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        time.sleep(float(generator.uniform(4.0, 12.0)))
        os.kill(process.pid, signal_number)
        process.wait()
        process = begin(["--resume", str(killed)], log)
    assert process.wait() == 0, log.read_text()
    assert begin(["hull", *TINY, *OPTIONS, "--run", str(whole)], log).wait() == 0, log.read_text()
    assert outcome(killed) == outcome(whole)
