"""The trainings of a study, side by side, each in a process of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from rlseq.training.run_directory import is_being_written
from rlseq.training.study import Job, finished
from rlseq.training.trust import VARIABLE

POLL_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1


class Launched(Protocol):
    """A training that was started."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def stop(self) -> None:
        """Have it save and end; returns at once."""


Launch = Callable[[list[str], Path], Launched]  # the arguments of rlseq, and the log of what it prints


class LocalProcess:
    """A training on this machine. It saves and ends if this process dies, so that a study may be killed.

    Args:
        arguments: Of ``rlseq``.
        log: Its output is appended to it.
        trusted: What its environment has as ``rlseq.training.trust.VARIABLE``.
    """

    def __init__(self, arguments: list[str], log: Path, trusted: str = "") -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        libc, parent = ctypes.CDLL(None), os.getpid()

        def end_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment |= {VARIABLE: trusted}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rlseq", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C reaches this process alone, which passes it on once
                preexec_fn=end_with_parent,
            )

    def poll(self) -> int | None:
        """See ``Launched``."""
        return self._process.poll()

    def stop(self) -> None:
        """See ``Launched``."""
        self._process.send_signal(signal.SIGTERM)


def run_jobs(jobs: Sequence[Job], launch: Launch, width: int, logs: Path, tell: Callable[[str], None]) -> list[Job]:
    """Do the jobs that are not finished, at most ``width`` at once, each after those it waits for.

    Args:
        jobs: In the order that they are begun in.
        launch: Starts one.
        width: How many run at once.
        logs: Directory of their output.
        tell: Told what begins, ends and fails.

    Returns:
        Those that failed. What waits for them was not begun.
    """
    waiting = [job for job in jobs if not finished(job.run)]
    running: dict[Job, tuple[Launched, float]] = {}
    failed: list[Job] = []
    if len(waiting) < len(jobs):
        tell(f"{len(jobs) - len(waiting)} of {len(jobs)} trainings are finished already")
    try:
        while True:
            for job in [job for job, (launched, _) in running.items() if launched.poll() is not None]:
                launched, started = running.pop(job)
                code, minutes = launched.poll(), (time.monotonic() - started) / 60
                tell(f"{job.name}: {'done' if code == 0 else f'failed with exit code {code}'}, {minutes:.1f} min")
                if code != 0:
                    failed.append(job)
            ready = [job for job in waiting if all(map(finished, job.after)) and not is_being_written(job.run)]
            for job in ready[: width - len(running)]:
                waiting.remove(job)
                arguments = job.command()
                tell(f"{job.name}: rlseq {' '.join(arguments)}")
                running[job] = launch(arguments, logs / f"{job.name}.log"), time.monotonic()
            if not running and not any(is_being_written(job.run) for job in waiting):
                return failed
            time.sleep(POLL_SECONDS)
    finally:
        for launched, _ in running.values():
            launched.stop()
        while any(launched.poll() is None for launched, _ in running.values()):
            time.sleep(POLL_SECONDS)
