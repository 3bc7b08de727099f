"""A training that something befalls every minute ends with the weights of one that was left alone.

    python scripts/soak.py --minutes 30
    python scripts/soak.py --minutes 2 --every 15 --runs /tmp/soak

Two runs of one small experiment with two runners on Ray: one is left alone, the other is killed, stopped, copied, moved
and robbed of files, workers and its cluster, and resumed each time. The script prints what it does, writes soak.json
and ends with exit code 1 if a resumed run does not go on, or if the two runs differ in one bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlseq.training.checkpoint import POLICY, load_checkpoint
from rlseq.training.finding import last_checkpoint
from rlseq.training.index import is_update
from rlseq.training.provenance import environment
from rlseq.training.run_directory import read_metrics
from rlseq.training.study import last_meta

EXPERIMENT = [
    *("hull", "task.max_points=6", "task.train_size=500", "task.validation_size=40", "task.test_size=40"),
    "task.reward={edge_f1: 1.0}",
    *("policy.hidden_size=16", "mle.batch_size=16", "rl.batch_size=16", "rl.samples=2", "checkpoint.every=20"),
    *("mle.validate_every=40", "rl.validate_every=40", "compute.runners=2", "compute.timeout=20", "compute.threads=1"),
]
PROBE = 200  # updates that are timed to know how many fill the time
STOPPED = 130  # exit code of a training that a signal stopped
SILENT = 300  # seconds after which a run that says nothing has hung


# ------------------------------------------------------------------------------------------------ a run and its process
@dataclass
class Training:
    """A run, the process that trains it now, and the numbers by which faults choose."""

    run: Path
    updates: int
    generator: random.Random = field(default_factory=lambda: random.Random(0))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin the run, or go on with it if it has a configuration."""
        phases = [f"mle.updates={self.updates // 2}", f"rl.updates={self.updates - self.updates // 2}"]
        begun = (self.run / "config.yaml").exists()
        self.run.parent.mkdir(parents=True, exist_ok=True)
        if not begun and self.run.exists():  # killed before the configuration was written
            shutil.rmtree(self.run)
        arguments = ["--resume", str(self.run)] if begun else [*EXPERIMENT, *phases, "--run", str(self.run)]
        with self.run.with_name("console.log").open("ab") as console:
            command = [sys.executable, "-m", "rlseq", "train", *arguments]
            self.process = subprocess.Popen(command, stdout=console, stderr=console, start_new_session=True)

    def update(self) -> int:
        """The last update that the run has written of."""
        records = read_metrics(self.run / "metrics.jsonl")
        return int(records[-1]["update"]) if records else 0

    def wait(self, seconds: float = 600.0) -> int:
        """The exit code of the process; it is an error if it does not end."""
        assert self.process is not None
        return self.process.wait(seconds)

    def processes(self, name: str) -> list[int]:
        """Processes that this training started, directly or not, whose command line has this in it."""
        assert self.process is not None
        found = []
        for pid in _descendants(self.process.pid):
            with suppress(OSError):  # it has ended
                if name in Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(pid)
        return sorted(found)

    def signalled(self, number: signal.Signals) -> int:
        """Signal the training and wait for its end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()


def _descendants(pid: int) -> Iterator[int]:
    """Children of a process, theirs, and so on."""
    for place in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, place.read_text().split()):
                yield child
                yield from _descendants(child)


# ------------------------------------------------------------------------------------------------------ what befalls it
def killed(training: Training) -> None:
    """Its process is killed."""
    training.signalled(signal.SIGKILL)


def stopped(training: Training) -> None:
    """A signal asks it to stop; it saves."""
    code = training.signalled(training.generator.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP]))
    if code not in (STOPPED, 0):
        raise AssertionError(f"stopped by a signal, and the exit code is {code}")


def moved(training: Training) -> None:
    """It is stopped, and its directory gets another name."""
    stopped(training)
    place = training.run.with_name(training.run.name + "-moved")
    training.run.rename(place)
    training.run = place


def copied_without_links(training: Training) -> None:
    """It is killed, and goes on in a copy that has no links and no empty directories."""
    killed(training)
    place = training.run.with_name(training.run.name + "-copied")
    for path in sorted(training.run.rglob("*")):
        if path.is_file() and not path.is_symlink() and not any(parent.is_symlink() for parent in path.parents):
            (place / path.relative_to(training.run)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place / path.relative_to(training.run))
    shutil.rmtree(training.run)
    training.run = place


def damaged(training: Training) -> None:
    """It is killed, and its newest checkpoint loses half of its weights."""
    killed(training)
    newest = last_checkpoint(training.run)
    sound = [path for path in (training.run / "checkpoints").glob("*/*") if is_update(path.name)]
    if newest is not None and len(sound) > 1:
        weights = (newest / POLICY).read_bytes()
        (newest / POLICY).write_bytes(weights[: len(weights) // 2])


def forgetful(training: Training) -> None:
    """It is killed, the last line it wrote is cut, and files are lost that nothing needs."""
    killed(training)
    metrics = training.run / "metrics.jsonl"
    if metrics.exists():
        metrics.write_bytes(metrics.read_bytes()[:-10])
    (training.run / "environment.json").unlink(missing_ok=True)
    shutil.rmtree(training.run / "tensorboard", ignore_errors=True)


def without_a_runner(training: Training) -> None:
    """One of its workers is killed."""
    for pid in training.processes("ray::SequenceEnvRunner")[-1:]:
        os.kill(pid, signal.SIGKILL)


def with_a_silent_runner(training: Training) -> None:
    """One of its workers says nothing any more."""
    for pid in training.processes("ray::SequenceEnvRunner")[:1]:
        os.kill(pid, signal.SIGSTOP)


def without_a_cluster(training: Training) -> None:
    """Ray's head is killed: the training ends by itself, and says so."""
    heads = training.processes("gcs_server")
    for pid in heads:
        os.kill(pid, signal.SIGKILL)
    if heads and training.wait() == 0 and training.update() < training.updates:
        raise AssertionError("Ray's head was lost, and the training ended as if it were done")


FAULTS: tuple[Callable[[Training], None], ...] = (
    killed,
    stopped,
    without_a_runner,
    damaged,
    moved,
    with_a_silent_runner,
    forgetful,
    without_a_cluster,
    copied_without_links,
)


# ------------------------------------------------------------------------------------------------------------- the soak
def left_alone(place: Path, updates: int) -> tuple[Path, float]:
    """Train without a fault; the run, and its seconds."""
    begun = time.monotonic()
    training = Training(place / "run", updates)
    training.start()
    if code := training.wait(24 * 3600):
        raise SystemExit(f"the run that was left alone ended with exit code {code}: see {place}/console.log")
    return training.run, time.monotonic() - begun


def befallen(training: Training, every: float) -> Iterator[str]:
    """Train to the end while a fault comes every so many seconds; yields each as it comes."""
    queue: list[Callable[[Training], None]] = []
    training.start()
    due, heard, seen, at_the_last = time.monotonic() + every, time.monotonic(), -1, 0
    while True:
        time.sleep(0.2)
        assert training.process is not None
        code = training.process.poll()
        if code == 0:
            return
        if code is not None:  # whatever ended it: it goes on
            training.start()
        if (now := training.update()) != seen:
            seen, heard = now, time.monotonic()
        if time.monotonic() - heard > SILENT:
            raise AssertionError(f"nothing was heard of the run for {SILENT} s, at update {seen}")
        if time.monotonic() >= due and seen > at_the_last:  # else it would never get on
            queue = queue or training.generator.sample(FAULTS, len(FAULTS))
            fault = queue.pop()
            fault(training)
            yield fault.__doc__ or fault.__name__
            due, at_the_last = time.monotonic() + every, training.update()


def differing(one: Path, other: Path) -> list[str]:
    """Names of arrays of the last checkpoints that are not equal to the bit."""
    states = []
    for run in (one, other):
        newest = last_checkpoint(run)
        assert newest is not None
        loaded = load_checkpoint(newest, resume=True)
        assert loaded.state is not None
        states.append(loaded.state | {"update": np.array(loaded.meta["update"])})
    names = states[0].keys() | states[1].keys()
    same = {n for n in states[0].keys() & states[1].keys() if states[0][n].tobytes() == states[1][n].tobytes()}
    return sorted(names - same)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the run that is left alone takes, about")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two faults")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--runs", type=Path, default=Path("runs/soak"), help="a directory that is not there yet")
    options = parser.parse_args(arguments)
    # What nohup, and shells in the background, have this process ignore, its trainings would ignore, too.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    probe, _ = left_alone(options.runs / "probe", PROBE)
    updates = max(PROBE, round(options.minutes * 60 * PROBE / sum(last_meta(probe)["trainer"]["cpu_seconds"].values())))
    print(f"{updates} updates", flush=True)
    calm, seconds = left_alone(options.runs / "calm", updates)
    print(f"left alone: {seconds:.0f} s", flush=True)
    storm = Training(options.runs / "storm" / "run", updates, random.Random(options.seed))
    begun, counts = time.monotonic(), dict.fromkeys((fault.__doc__ or "" for fault in FAULTS), 0)
    for what in befallen(storm, options.every):
        counts[what] += 1
        print(f"{time.monotonic() - begun:6.0f} s, update {storm.update()}: {what}", flush=True)
    wrong = differing(calm, storm.run)
    times = {"alone": round(seconds), "befallen": round(time.monotonic() - begun)}
    record: dict[str, Any] = {"updates": updates, "faults": counts, "seconds": times, "differ": wrong}
    record["made_with"] = {key: value for key, value in environment().items() if key in ("commit", "versions", "host")}
    (options.runs / "soak.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{sum(counts.values())} faults; " + (f"{len(wrong)} arrays differ" if wrong else "equal to the bit"))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
