"""The cluster that is started for one machine: a fresh process starts it and reports what it sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from rlseq.config.schema import ComputeConfig
from rlseq.rllib import cluster

REPORT = """
import json, os, signal, socket, sys
from pathlib import Path
handlers = {number: (lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
for number, handler in handlers.items():
    signal.signal(number, handler)
from rlseq.config.schema import ComputeConfig
from rlseq.rllib import cluster
import ray

def listening():
    'Hexadecimal local addresses of this user namespace that accept connections.'
    rows = [line.split() for name in ('tcp', 'tcp6') for line in Path('/proc/net', name).read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == '0A'}

before = listening()
token = cluster.token_path()
token.parent.mkdir(parents=True)
mask = os.umask(0o022)
first, second = cluster.start(ComputeConfig(runners=2)), cluster.start(ComputeConfig(runners=2))
opened = listening() - before
report = {
    'started': [first, second],
    'handlers': [signal.getsignal(number) is handler for number, handler in handlers.items()],
    'token': oct(token.stat().st_mode & 0o777),
    'umask': oct(os.umask(mask)),
    'opened': sorted(opened),
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


def test_everything_listens_on_loopback_only(report: dict[str, Any]) -> None:
    assert report["opened"]
    loopback = ("0100007F:", "0000000000000000FFFF00000100007F:", "00000000000000000000000001000000:")
    assert [address for address in report["opened"] if not address.startswith(loopback)] == []
    assert not report["dashboard"]


def test_it_is_started_once_with_room_for_every_worker_and_ends(report: dict[str, Any]) -> None:
    assert report["started"] == [True, False]
    assert report["cpus"] >= 3
    assert report["stopped"]


def test_a_token_that_others_can_read_is_closed_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setattr(ray, "init", lambda **settings: None)
    monkeypatch.setenv(cluster.LOOPBACK_ONLY, "0")
    cluster._start_local(1)
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_running_cluster_is_joined_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Having a token is not enough: Ray sends it in one mode only, which must be set before."""
    calls: list[Any] = []
    monkeypatch.setattr(cluster, "maybe_enable_token_auth_if_token_available", lambda **_: calls.append("token"))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **settings: calls.append(settings["address"]))
    assert cluster.start(ComputeConfig(address="10.0.0.1:6379"))
    assert calls == ["token", "10.0.0.1:6379"]


def test_a_cluster_is_needed_when_anything_runs_elsewhere() -> None:
    assert not cluster.needs_cluster(ComputeConfig())
    for compute in (ComputeConfig(runners=1), ComputeConfig(learners=1), ComputeConfig(address="auto")):
        assert cluster.needs_cluster(compute)
