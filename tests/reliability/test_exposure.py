"""Who can reach a run: every socket on which any of its processes accepts connections, in each mode."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from rlseq.config.load import dump_config
from tests.sockets import family, is_loopback, listening
from tests.support import tiny_config

SUITE = "Exposure"
HOLDS_WHEN = "everything listens on loopback alone, secrets are the user's alone, and no daemon or directory is left"

MODES: dict[str, list[str]] = {
    "plain": [],
    "one runner": ["compute.runners=1"],
    "two runners": ["compute.runners=2"],
    "one learner": ["compute.learners=1"],
    "two learners": ["compute.learners=2"],
    "runners and learners": ["compute.runners=2", "compute.learners=2"],
    "RAY_ADDRESS set, address local": ["compute.runners=1", "compute.address=local"],
    "study": ["--seeds", "1", "--controls", "none"],
    "study with learners": ["--seeds", "1", "--controls", "none", "compute.learners=1"],
}


def watched(arguments: list[str], directory: Path, home: Path) -> tuple[dict[str, str], list[str], int]:
    """All sockets a command's processes listened on from start to end, what else was wrong, and its exit code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment |= {"HOME": str(home), "RAY_TMPDIR": str(directory), "RAY_ADDRESS": ""}
    if "compute.address=local" in arguments:
        environment["RAY_ADDRESS"] = "127.0.0.1:1"
    command = [sys.executable, "-m", "rlseq", *arguments]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
        seen: dict[str, str] = {}
        pids: set[int] = set()
        open_to_others: list[str] = []
        while process.poll() is None:
            pids |= family(process.pid)
            seen |= listening(pids)
            open_to_others += [str(path) for path in directory.glob("rlseq-*") if _open(path)]
            time.sleep(0.2)
    left = [f"left behind: {path}" for path in directory.glob("*rlseq-*")]
    token = home / ".ray" / "auth_token"
    shown = [f"others can read {path}" for path in {*open_to_others, *([str(token)] if _open(token) else [])}]
    return seen, left + shown, process.returncode


def _open(path: Path) -> bool:
    return path.exists() and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phase = {"updates": 4, "validate_every": 4}
    path = tmp_path_factory.mktemp("configuration") / "small.yaml"
    path.write_text(dump_config(tiny_config(mle=phase, rl=phase)))
    return path


@pytest.mark.cases(MODES, sample=2)
def test_loopback_only(case: list[str], small: Path, tmp_path: Path) -> None:
    command = "study" if "--seeds" in case else "train"
    home = tmp_path / "home"
    home.mkdir()
    directory = Path(mkdtemp(prefix="e-", dir="/tmp"))  # Ray's sockets need a short path
    try:
        seen, wrong, code = watched([command, str(small), *case, "--run", str(tmp_path / "run")], directory, home)
        log = (directory / "log").read_text()
    finally:
        shutil.rmtree(directory)
    assert code == 0, log
    assert {address: name for address, name in seen.items() if not is_loopback(address)} == {}
    assert wrong == []
    assert bool(seen) == any("runners" in key or "learners" in key for key in case), json.dumps(seen)
    assert "ray-dashboard" not in " ".join(seen.values())


def test_what_would_be_seen(tmp_path: Path) -> None:
    """A process that listens everywhere is found: the suite can fail."""
    import socket

    with socket.create_server(("0.0.0.0", 0)) as server:
        found: dict[str, Any] = listening(family(os.getpid()))
        assert not is_loopback(f"0.0.0.0:{server.getsockname()[1]}")
        assert f"0.0.0.0:{server.getsockname()[1]}" in found
