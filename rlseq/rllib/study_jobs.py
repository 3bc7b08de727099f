"""The trainings of a study as tasks on a Ray cluster, whose machines share the study's directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import ray

from rlseq.config.schema import ComputeConfig
from rlseq.rllib import cluster
from rlseq.training.jobs import POLL_SECONDS, Launch, LocalProcess

# Exit codes of a task that trains nothing: its machine does not have the study's directory; it was stopped before.
NOT_SHARED, STOPPED = 2, 130


@ray.remote(max_retries=0)
def _train(arguments: list[str], log: str, directory: str, trusted: str) -> int:
    """The exit code of ``rlseq`` with these arguments, in the driver's working directory."""
    if not Path(log).parents[1].is_dir() or not Path(directory).is_dir():
        return NOT_SHARED
    os.chdir(directory)
    asked, stopped = _asked_to_stop(Path(log)), False
    if asked.exists():  # before there was room for it
        return STOPPED
    process = LocalProcess(arguments, Path(log), trusted)
    while (code := process.poll()) is None:
        if asked.exists() and not stopped:
            process.stop()
            stopped = True
        time.sleep(POLL_SECONDS)
    return code


def _asked_to_stop(log: Path) -> Path:
    """The file that asks a training to save and end: storage is shared anyway, and Ray may lose a cancellation."""
    return log.with_suffix(".stop")


class ClusterTask:
    """A training on some machine of the cluster."""

    def __init__(self, arguments: list[str], log: Path, cpus: int, trusted: str = "") -> None:
        self._log = log
        _asked_to_stop(log).unlink(missing_ok=True)
        local = [*arguments, f"compute.address={cluster.LOCAL}"]  # the task has its machine; it connects to no cluster
        place = (str(log.absolute()), os.getcwd())
        self._result = _train.options(num_cpus=cpus).remote(local, *place, trusted)

    def poll(self) -> int | None:
        """See ``Launched``. A machine that was lost counts as a failure."""
        if not ray.wait([self._result], timeout=0)[0]:
            return None
        try:
            code: int = ray.get(self._result)
        except ray.exceptions.RayError:
            return 1
        return code

    def stop(self) -> None:
        """See ``Launched``."""
        _asked_to_stop(self._log).touch()


def cluster_launch(compute: ComputeConfig, trusted: str = "") -> Launch:
    """Connect to ``compute.address``; what starts a training there, which takes as many CPUs as it has threads."""
    cluster.start(compute)
    cpus = compute.threads or 1
    return lambda arguments, log: ClusterTask(arguments, log, cpus, trusted)
