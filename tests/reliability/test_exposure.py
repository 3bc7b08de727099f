"""Who can reach a run: every socket on which any of its processes accepts connections, in each mode."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

import pytest

from rlseq.config.load import dump_config
from tests.sockets import family, is_loopback, listening
from tests.support import tiny_config

SUITE = "Exposure"
HOLDS_WHEN = "everything listens on loopback alone, secrets are the user's alone, and no daemon or directory is left"

STUDY = ["study", "--seeds", "1", "--controls", "none"]
MODES: dict[str, list[str]] = {  # the test extra has ray[default], whose agent serves HTTP beside the workers
    "plain": ["train"],
    "one runner": ["train", "compute.runners=1"],
    "two runners": ["train", "compute.runners=2"],
    "one learner": ["train", "compute.learners=1"],
    "two learners": ["train", "compute.learners=2"],
    "runners and learners": ["train", "compute.runners=2", "compute.learners=2"],
    "RAY_ADDRESS set, address local": ["train", "compute.runners=1", "compute.address=local"],
    "a reward of the user's": ["train", "task.reward={valid: 1.0, mine:worth: 1.0}"],
    "study": STUDY,
    "study with learners": [*STUDY, "compute.learners=1"],
    "sweep": ["sweep", "--trials", "2", "rl.samples=choice(2, 3)"],
}
MINE = "import numpy as np\n\n\ndef worth(points, counts, sequences, lengths, ids):\n    return np.ones(len(ids))\n"


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
    home = tmp_path / "home"
    home.mkdir()
    directory = Path(mkdtemp(prefix="e-", dir="/tmp"))  # Ray's sockets need a short path
    (directory / "mine.py").write_text(MINE)
    command, *keys = case
    try:
        seen, wrong, code = watched([command, str(small), *keys, "--run", str(tmp_path / "run")], directory, home)
        log = (directory / "log").read_text()
    finally:
        shutil.rmtree(directory)
    assert code == 0, log
    assert {address: name for address, name in seen.items() if not is_loopback(address)} == {}
    assert wrong == []
    with_ray = command == "sweep" or any("runners" in key or "learners" in key for key in keys)
    assert bool(seen) == with_ray, json.dumps(seen)
    assert "ray-dashboard" not in " ".join(seen.values())


def test_what_would_be_seen() -> None:
    """A process that listens everywhere, for connections or datagrams, is found: the suite can fail."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=kind) as server:
            server.bind(("0.0.0.0", 0))
            if kind == socket.SOCK_STREAM:
                server.listen()
            address = f"0.0.0.0:{server.getsockname()[1]}"
            assert address in listening(family(os.getpid())) and not is_loopback(address)
