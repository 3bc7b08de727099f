"""Trainings on Ray clusters of two nodes, and what goes wrong with clusters."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rlseq.config.load import dump_config
from rlseq.training.checkpoint import load_checkpoint
from tests.clusters import RayCluster
from tests.rllib.tools import assert_equal
from tests.support import tiny_config

SUITE = "Clusters"
HOLDS_WHEN = "the weights are those of a run in one process, to the bit, or one message names the place and a remedy"
UPDATES = 60


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose learner is in the driver, so that runners may be anywhere."""
    phase = {"updates": 6, "validate_every": 6, "batch_size": 8}
    path = tmp_path_factory.mktemp("configuration") / "small.yaml"
    settings = tiny_config(
        mle=phase,
        rl=phase | {"updates": UPDATES, "validate_every": UPDATES},
        compute={"threads": 1, "shard_size": 2, "device": "cpu"},
    )
    path.write_text(dump_config(settings))
    return path


@pytest.fixture(scope="module")
def alone(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    return trained_alone(small, tmp_path_factory.mktemp("alone") / "run")


def trained_alone(small: Path, run: Path, *keys: str) -> Path:
    command = [sys.executable, "-m", "rlseq", "train", str(small), *keys, "--run", str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run


@pytest.fixture(scope="module")
def shared() -> Iterator[RayCluster]:
    """Two nodes that no test harms."""
    with RayCluster(2, 1) as cluster:
        yield cluster


def output_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def assert_same(run: Path, alone: Path) -> None:
    """Everything that the last checkpoints hold is equal to the bit."""
    ours, theirs = (load_checkpoint(at / "checkpoints" / "rl" / "latest", resume=True) for at in (run, alone))
    assert ours.meta["update"] == theirs.meta["update"]
    assert_equal(ours.weights, theirs.weights)
    assert ours.state is not None and theirs.state is not None
    assert_equal(ours.state, theirs.state)


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# ------------------------------------------------------------------------------------------------ it goes as it should
JOINED: dict[str, tuple[list[str], dict[str, str]]] = {
    "an address": (["compute.runners=2", "compute.address=ADDRESS"], {}),
    "address auto": (["compute.runners=1", "compute.address=auto"], {"RAY_ADDRESS": "ADDRESS"}),
    "RAY_ADDRESS": (["compute.runners=2"], {"RAY_ADDRESS": "ADDRESS"}),
    "RAY_ADDRESS without workers": ([], {"RAY_ADDRESS": "ADDRESS"}),
    "RAY_ADDRESS of nothing, address local": (
        ["compute.runners=1", "compute.address=local"],
        {"RAY_ADDRESS": "127.0.0.1:1"},
    ),
    "another RAY_AUTH_MODE": (["compute.runners=1", "compute.address=ADDRESS"], {"RAY_AUTH_MODE": "disabled"}),
    "RAY_AUTH_TOKEN": (["compute.runners=1", "compute.address=ADDRESS"], {"RAY_AUTH_TOKEN": "TOKEN", "HOME": "EMPTY"}),
}  # fmt: skip


@pytest.mark.cases(JOINED, sample=1)
def test_joined(
    case: tuple[list[str], dict[str, str]], shared: RayCluster, small: Path, alone: Path, tmp_path: Path
) -> None:
    token = (shared.home / ".ray" / "auth_token").read_text()
    keys = [key.replace("ADDRESS", shared.address) for key in case[0]]
    places = {"ADDRESS": shared.address, "TOKEN": token, "EMPTY": str(tmp_path)}
    variables = {name: places.get(value, value) for name, value in case[1].items()}
    code, output = output_of(shared.run("train", str(small), *keys, "--run", str(tmp_path / "run"), **variables))
    assert code == 0, output
    assert_same(tmp_path / "run", alone)


# ------------------------------------------------------------------------------------------------------- it is refused
REFUSED: dict[str, tuple[list[str], dict[str, str], str]] = {
    "nothing answers": (["compute.address=127.0.0.1:1"], {}, "compute.address=127.0.0.1:1: no Ray cluster answers"),
    "RAY_ADDRESS of nothing": ([], {"RAY_ADDRESS": "127.0.0.1:1"}, "RAY_ADDRESS=127.0.0.1:1: no Ray cluster answers"),
    "no such host": (["compute.address=nowhere.invalid:6379"], {}, "nowhere.invalid:6379: no Ray cluster"),
    "no port": (["compute.address=somewhere"], {}, "give HOST:PORT"),
    "an address of Ray Client": (["compute.address=ray://127.0.0.1:10001"], {}, "give HOST:PORT"),
    "a dashboard's address": (["compute.address=http://127.0.0.1:8265"], {}, "rlseq submit"),
    "what answers is not Ray": (["compute.address=SERVER"], {}, "no Ray cluster answers at"),
    "no token": (["compute.address=ADDRESS"], {"HOME": "EMPTY"}, "the cluster demands a token and there is none here"),
    "another token": (["compute.address=ADDRESS"], {"RAY_AUTH_TOKEN": "0" * 64}, "refuses the token in RAY_AUTH_TOKEN"),
    "a token's path with nothing": (["compute.address=ADDRESS"], {"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "token"),
    "too many runners": (
        ["compute.address=ADDRESS", "compute.runners=9"],
        {},
        "compute.runners=9 and compute.learners=0 need 9 CPUs, the cluster has 3 CPUs",
    ),
    "too many learners": (
        ["compute.address=ADDRESS", "compute.learners=4"],
        {},
        "compute.runners=1 and compute.learners=4 need 5 CPUs, the cluster has 3 CPUs",
    ),
    "no GPUs": (["compute.address=ADDRESS", "compute.runner_gpus=1"], {}, "1 CPUs and 1 GPUs, the cluster has"),
}  # fmt: skip


@pytest.mark.cases(REFUSED, sample=2)
def test_refused(case: tuple[list[str], dict[str, str], str], shared: RayCluster, small: Path, tmp_path: Path) -> None:
    """With a message, exit code 2, and no run directory."""
    keys, variables, message = case
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        places = {"ADDRESS": shared.address, "SERVER": f"127.0.0.1:{server.server_port}", "EMPTY": str(tmp_path)}
        for name, place in places.items():
            keys = [key.replace(f"={name}", f"={place}") for key in keys]
            variables = {key: place if value == name else value for key, value in variables.items()}
        keys = ["compute.runners=1", "compute.timeout=8", *keys]
        code, output = output_of(shared.run("train", str(small), *keys, "--run", str(tmp_path / "run"), **variables))
        server.shutdown()
    assert code == 2 and message in output, output
    assert "Traceback" not in output and len(output.splitlines()) <= 4, output
    assert not (tmp_path / "run").exists()


# --------------------------------------------------------------------------------------------------- it is lost midway
def a_node_is_lost(cluster: RayCluster, run: Path) -> str:
    raylets = cluster.pids("/raylet/raylet")
    os.kill(max(raylets), signal.SIGKILL)  # the one that joined
    return ""


def runners_are_lost(cluster: RayCluster, run: Path) -> str:
    for pid in cluster.pids():
        with suppress(OSError):
            if b"SequenceEnvRunner" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    return ""


def a_learner_is_lost(cluster: RayCluster, run: Path) -> str:
    for pid in cluster.pids():
        with suppress(OSError):
            if b"_WrappedExecutable" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    return ""


def the_head_is_lost(cluster: RayCluster, run: Path) -> str:
    cluster.kill("/gcs_server")
    return "the head of the Ray cluster at"


def the_drivers_machine_loses_ray(cluster: RayCluster, run: Path) -> str:
    cluster.kill("/raylet/raylet")
    return "Ray was lost on this machine; go on with: rlseq train --resume"


def the_only_node_with_room_is_lost(cluster: RayCluster, run: Path) -> str:
    a_node_is_lost(cluster, run)
    return "no room in 60 seconds (compute.timeout)"


RUNNERS, BOTH = ["compute.runners=2"], ["compute.runners=1", "compute.learners=1"]
LOST = {  # who is lost, the workers, and the CPUs of each node
    "a node is lost": (a_node_is_lost, RUNNERS, (1, 1)),
    "runners are lost": (runners_are_lost, RUNNERS, (1, 1)),
    "the head is lost": (the_head_is_lost, RUNNERS, (1, 1)),
    "the driver's machine loses Ray": (the_drivers_machine_loses_ray, RUNNERS, (1, 1)),
    "a learner is lost": (a_learner_is_lost, BOTH, (1, 1)),
    "a runner beside a learner is lost": (runners_are_lost, BOTH, (1, 1)),
    "a learner is lost, and there is no room": (the_only_node_with_room_is_lost, BOTH, (0, 2)),
    "the head is lost, with a learner": (the_head_is_lost, BOTH, (1, 1)),
}
Loss = Callable[[RayCluster, Path], str]


@pytest.mark.cases(LOST, sample=1)
def test_lost(case: tuple[Loss, list[str], tuple[int, int]], small: Path, alone: Path, tmp_path: Path) -> None:
    """Survived, or said and resumed in one process; either way as if nothing had happened."""
    run, (lose, workers, cpus) = tmp_path / "run", case
    if lose is the_head_is_lost:  # Ray notices that after a minute
        workers = [*workers, "rl.updates=1500", "rl.validate_every=1500"]
        alone = trained_alone(small, tmp_path / "alone", *workers[-2:])
    with RayCluster(*cpus) as cluster:
        keys = [*workers, "compute.timeout=60", f"compute.address={cluster.address}", "log_every=1"]
        process = cluster.run("train", str(small), *keys, "checkpoint.every=5", "--run", str(run))
        wait_until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("rl") > 9)
        message = lose(cluster, run)
        code, output = output_of(process)
    if message:
        assert code == 1 and message in output, output
        assert message in (run / "train.log").read_text()
        command = [sys.executable, "-m", "rlseq", "train", "--resume", str(run), "compute.runners=0"]
        subprocess.run([*command, "compute.learners=0", "compute.address=null"], check=True, stdout=subprocess.DEVNULL)
    else:
        assert code == 0, output
    assert_same(run, alone)


# ------------------------------------------------------------------------------------------------------ two more kinds
def waiting_for_room_is_interrupted(shared: RayCluster, small: Path, alone: Path, place: Path) -> None:
    keys = ["compute.runners=9", f"compute.address={shared.address}", "--run", str(place / "run")]
    process = shared.run("train", str(small), *keys)
    assert process.stdout is not None
    assert "starting workers" in process.stdout.readline()
    assert "waiting for room" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, output = output_of(process)
    assert code == 130 and "Traceback" not in output, output


def a_token_of_another_cluster_lies_there(shared: RayCluster, small: Path, alone: Path, place: Path) -> None:
    (place / ".ray").mkdir()
    (place / ".ray" / "auth_token").write_text("0" * 64)
    with RayCluster(1, token=False) as cluster:
        keys = ["compute.runners=1", f"compute.address={cluster.address}", "--run", str(place / "run")]
        code, output = output_of(cluster.run("train", str(small), *keys, HOME=str(place)))
    assert code == 0, output
    assert_same(place / "run", alone)


MORE = {
    case.__name__.replace("_", " "): case
    for case in (waiting_for_room_is_interrupted, a_token_of_another_cluster_lies_there)
}


@pytest.mark.cases(MORE, sample=1)
def test_more(
    case: Callable[[RayCluster, Path, Path, Path], None],
    shared: RayCluster,
    small: Path,
    alone: Path,
    tmp_path: Path,
) -> None:
    case(shared, small, alone, tmp_path)
