"""Trainings as jobs of a Ray cluster, as users submit, follow, stop and resume them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rlseq.config.load import dump_config
from rlseq.training.run_directory import read_metrics
from tests.clusters import RayCluster
from tests.support import tiny_config

SUITE = "Jobs"
HOLDS_WHEN = (
    "the job ends with the exit code of the training, nothing that was trained is lost, and errors name a remedy"
)


class Workplace:
    """A cluster, and the directory that trainings are submitted from."""

    def __init__(self, cluster: RayCluster, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory

    def rlseq(self, *arguments: str, home: Path | None = None, address: bool = True) -> tuple[int, str]:
        """Exit code and output of a command."""
        place = ["--address", self.cluster.dashboard] if address else []
        return self.finish(self.start(*arguments, *place, home=home))

    def start(self, *arguments: str, home: Path | None = None) -> subprocess.Popen[str]:
        return self.cluster.run(*arguments, **({"HOME": str(home)} if home else {}))

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def submit(self, run: Path, *keys: str) -> str:
        """The ID of a job that is not followed."""
        code, output = self.rlseq("submit", "small.yaml", *keys, "--run", str(run), "--detach")
        assert code == 0, output
        return output.split()[1].rstrip(",")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    directory = tmp_path_factory.mktemp("submitted")
    phase = {"updates": 4, "validate_every": 4, "batch_size": 4}
    (directory / "small.yaml").write_text(
        dump_config(tiny_config(mle=phase, rl=phase, evaluation={"max_instances": 8}))
    )
    with pytest.MonkeyPatch.context() as patch, RayCluster(3, dashboard=True) as cluster:
        patch.chdir(directory)
        yield Workplace(cluster, directory)


def wait_until(done: Callable[[], object], seconds: float = 200.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


# ------------------------------------------------------------------------------------------------------- the cases
def followed(place: Workplace, run: Path) -> None:
    code, output = place.rlseq("submit", "small.yaml", "compute.runners=1", "--run", str(run))
    assert code == 0 and "starting workers: 1 runners" in output and "run directory:" in output, output
    assert (run / "report" / "comparison.json").exists()


def wrong_input(place: Workplace, run: Path) -> None:
    code, output = place.rlseq("submit", "small.yaml", "mle.updatez=1", "--run", str(run))
    assert code == 2 and "did you mean 'updates'" in output, output
    code, output = place.rlseq("submit", "small.yaml", "mle.batch_size=1", "compute.learners=2", "--run", str(run))
    assert code == 2 and "compute.learners 2" in output, output  # found by the job, whose exit code it is
    assert not run.exists()


def stopped_and_resumed(place: Workplace, run: Path) -> None:
    job = place.submit(run, "rl.updates=100000")
    wait_until(lambda: any(run.glob("checkpoints/rl/*")))
    code, output = place.rlseq("jobs", "stop", job)
    assert code == 0 and "stopped" in output, output
    saved = max(int(path.name) for path in run.glob("checkpoints/rl/[0-9]*"))
    assert "stopped at update" in place.rlseq("jobs", "logs", job)[1]
    again = place.submit(run, "rl.updates=100000")
    wait_until(lambda: f"resumed after update {saved}" in (run / "train.log").read_text())
    assert place.rlseq("jobs", "stop", again)[0] == 0
    assert place.rlseq("jobs", "logs", again, "--follow")[0] == 130


def retried_after_a_killed_driver(place: Workplace, run: Path) -> None:
    keys = ["mle.updates=400", "checkpoint.every=10", "--retries", "1", "--run", str(run)]
    process = place.start("submit", "small.yaml", *keys, "--address", place.cluster.dashboard)
    wait_until(lambda: any(run.glob("checkpoints/mle/*/manifest.json")))
    killed = 0
    for pid in place.cluster.pids():
        with suppress(OSError):  # it ended meanwhile
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"train" in command and str(run).encode() in command:
                os.kill(pid, signal.SIGKILL)
                killed += 1
    assert killed == 1
    code, output = place.finish(process)
    assert code == 0 and "exit code -9; 1 retries left" in output and "resumed after update" in output, output
    updates = [record["update"] for record in read_metrics(run / "metrics.jsonl")]
    assert updates == sorted(updates)


def token(place: Workplace, run: Path) -> None:
    elsewhere = run.parent / "home"
    (elsewhere / ".ray").mkdir(parents=True)
    code, output = place.rlseq("submit", "small.yaml", "--run", str(run), home=elsewhere)
    assert code == 2 and "demands a token and there is none here" in output, output
    (elsewhere / ".ray" / "auth_token").write_text("0" * 64)
    code, output = place.rlseq("jobs", home=elsewhere)
    assert code == 2 and "refuses the token in ~/.ray/auth_token" in output, output


def modules_of_the_user(place: Workplace, run: Path) -> None:
    (place.directory / "mine.py").write_text(
        "from rlseq_envs.tasks.convex_hull import ConvexHullTask\nimport rlseq_envs\n"
        "rlseq_envs.register('mine/Hull-v0', ConvexHullTask)\n"
    )
    keys = ["task={type: custom, id: 'mine:mine/Hull-v0'}", "compute.runners=1", "compute.learners=1"]
    code, output = place.rlseq("submit", "small.yaml", *keys, "--run", str(run))
    assert code == 0, output


def shared_path(place: Workplace, run: Path) -> None:
    job = place.submit(Path("relative") / run.name)
    code, output = place.rlseq("jobs", "logs", job, "--follow")
    assert code == 0, output
    assert (place.directory / "relative" / run.name / "config.yaml").exists()
    code, output = place.rlseq("jobs", "status", job)
    assert output.splitlines()[-3:] == [
        "succeeded",
        "exit code: 0",
        f"run directory: {place.directory}/relative/{run.name}",
    ]


def nothing_there(place: Workplace, run: Path) -> None:
    for address in ("http://127.0.0.1:1", "127.0.0.1:8265", f"http://{place.cluster.address}"):
        code, output = place.finish(place.start("jobs", "--address", address))
        assert code == 2 and address in output, output
    code, output = place.rlseq("jobs", "status", "raysubmit_none")
    assert code == 2 and "there is no job raysubmit_none" in output, output
    code, output = place.rlseq("submit", "/elsewhere/small.yaml")
    assert code == 2 and "--run DIR" in output and "outside the working directory" in output, output


CASES = {
    case.__name__.replace("_", " "): case
    for case in (
        followed,
        wrong_input,
        stopped_and_resumed,
        retried_after_a_killed_driver,
        token,
        modules_of_the_user,
        shared_path,
        nothing_there,
    )
}


@pytest.mark.cases(CASES, sample=1)
def test_job(case: Callable[[Workplace, Path], None], place: Workplace, tmp_path: Path) -> None:
    case(place, tmp_path / "run")
