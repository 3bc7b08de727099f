"""The cluster that is started for one machine: a fresh process starts it and reports what it sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rlseq.config.errors import UserError
from rlseq.config.schema import ComputeConfig
from rlseq.rllib import cluster
from rlseq.rllib.joining import Place

REPORT = """
import json, os, signal, socket, sys
from pathlib import Path
handlers = {number: (lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
for number, handler in handlers.items():
    signal.signal(number, handler)
from rlseq.config.schema import ComputeConfig
from rlseq.rllib import cluster
import ray

token = cluster.token_path()
token.parent.mkdir(parents=True)
mask = os.umask(0o022)
first, second = cluster.start(ComputeConfig(runners=2)), cluster.start(ComputeConfig(runners=2))
report = {
    'started': [first, second],
    'handlers': [signal.getsignal(number) is handler for number, handler in handlers.items()],
    'token': oct(token.stat().st_mode & 0o777),
    'umask': oct(os.umask(mask)),
    'dashboard': ray._private.worker._global_node.webui_url,
    'cpus': ray.cluster_resources()['CPU'],
}
cluster.stop()
report['stopped'] = not ray.is_initialized()
report['handlers'] += [signal.getsignal(number) is handler for number, handler in handlers.items()]
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH") and k != "RAY_ADDRESS"}
    environment["HOME"] = str(tmp_path_factory.mktemp("home"))
    done = subprocess.run(
        [sys.executable, "-c", REPORT], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_signal_handlers_are_those_of_before(report: dict[str, Any]) -> None:
    """Ray puts its own SIGTERM handler in their place."""
    assert report["handlers"] == [True] * 4


def test_only_the_owner_can_read_the_token(report: dict[str, Any]) -> None:
    assert report["token"] == "0o600"
    assert report["umask"] == "0o22"


def test_there_is_no_dashboard(report: dict[str, Any]) -> None:
    assert not report["dashboard"]


def test_it_is_started_once_with_room_for_every_worker_and_ends(report: dict[str, Any]) -> None:
    assert report["started"] == [True, False]
    assert report["cpus"] >= 3
    assert report["stopped"]


def test_a_token_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    token = tmp_path / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    cluster._make_token(token)
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() == "secret"


def test_processes_that_start_at_once_agree_on_one_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: cluster._make_token(path) or path.read_text(), range(8)))
    assert len(tokens) == 1 and len(tokens.pop()) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_directories_of_killed_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(UserError, match=r"RAY_TMPDIR=.* at most"), cluster.temporary_directory():
        pass
    monkeypatch.setattr(cluster, "LONGEST_PLACE", 1000)
    left = tmp_path / "rlseq-left"
    left.mkdir()
    (left / "held").touch()
    with cluster.temporary_directory() as first, cluster.temporary_directory() as second:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([first.name, second.name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address, variable, place",
    [
        (None, None, None),
        ("local", "10.0.0.1:6379", None),
        (None, "10.0.0.1:6379", Place("10.0.0.1:6379", "RAY_ADDRESS")),
        ("auto", "10.0.0.1:6379", Place("10.0.0.1:6379", "RAY_ADDRESS")),
        ("auto", None, Place("auto", "compute.address")),
        ("10.0.0.2:6379", "10.0.0.1:6379", Place("10.0.0.2:6379", "compute.address")),
        (None, "local", None),
    ],
)
def test_which_cluster_is_meant(
    address: str | None, variable: str | None, place: Place | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert cluster.place_of(ComputeConfig(runners=1, address=address)) == place


def test_a_cluster_is_needed_when_anything_runs_elsewhere() -> None:
    assert not cluster.needs_cluster(ComputeConfig())
    assert not cluster.needs_cluster(ComputeConfig(address="local"))
    for compute in (ComputeConfig(runners=1), ComputeConfig(learners=1), ComputeConfig(address="auto")):
        assert cluster.needs_cluster(compute)
