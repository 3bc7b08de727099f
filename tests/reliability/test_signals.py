"""Signals to a training whose console is gone: while it updates, samples, validates, or a reward hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from rlseq.api import training
from rlseq.cli import app
from rlseq.config.load import load_config
from rlseq.rllib import cluster
from rlseq.training import draw, trainee, trainer
from rlseq.training.checkpoint import load_checkpoint
from rlseq.training.finding import last_checkpoint
from rlseq.training.run_directory import RunDirectory
from tests.support import process_of

SUITE = "Signals and consoles"
HOLDS_WHEN = (
    "the training ends in seconds with exit code 130 and what was done saved, train.log and report/status.json name "
    "the signal and the command that goes on, and no process stays behind; before it has begun, nothing is left but a "
    "word about it"
)

TINY = [
    *("task.min_points=5", "task.max_points=5", "task.validation_size=8", "task.test_size=8", "policy.hidden_size=8"),
    *("mle.updates=40", "mle.batch_size=4", "rl.updates=40", "rl.batch_size=2", "rl.samples=2", "log_every=2"),
    *("mle.validate_every=4", "rl.validate_every=4", "evaluation.samples_shown=0", "compute.threads=1"),
]
HANGS = """
import pathlib, time
import numpy as np

calls = 0


def worth(points, counts, sequences, lengths, ids):
    global calls
    calls += 1
    if calls > 5:
        pathlib.Path("there").touch()
        time.sleep(1000)
    return np.ones(len(ids))
"""


def _slowly(owner: Any, name: str, calls: int) -> None:
    """After some calls, the function takes long, says that it is there, and looks at no flag."""
    function, made = getattr(owner, name), 0

    def call(*args: Any, **keys: Any) -> Any:
        nonlocal made
        made += 1
        if made > calls:
            Path("there").touch()
            for _ in range(20 if name == "step" else 2000):
                time.sleep(0.05)
        return function(*args, **keys)

    setattr(owner, name, call)


PLACES: dict[str, Callable[[], None]] = {
    "an update of mle": lambda: _slowly(trainee.Trainee, "step", 6),
    "sampling": lambda: _slowly(draw, "rl_batch", 3),
    "a validation": lambda: _slowly(trainer, "measure", 2),
    "a reward that hangs": lambda: None,
}


def _reader_gone() -> None:
    """Standard output and standard error are a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    os.dup2(writing, 2)


def _nowhere() -> None:
    """They lead nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)


CONSOLES = {"the reader of the pipe is gone": _reader_gone, "output leads nowhere": _nowhere}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Case:
    place: str
    number: signal.Signals
    console: str


CASES = {
    f"{number.name} in {place}, {console}": Case(place, number, console)
    for place in PLACES
    for number in SIGNALS
    for console in CONSOLES
}


def _train(case: Case, place: Path) -> NoReturn:
    """In a process of its own."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(place)
    CONSOLES[case.console]()
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
    PLACES[case.place]()
    hangs = ["task.reward={valid: 1.0, hanging_reward:worth: 1.0}"] if "hangs" in case.place else []
    try:
        app(["train", "hull", *hangs, *TINY, "--run", "run"], prog_name="rlseq")
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:
        os._exit(99)
    os._exit(98)


SET_UP: dict[str, Callable[[], None]] = {
    "the data are read": lambda: _slowly(training, "prepare_task", 0),
    "the policy is made": lambda: _slowly(training, "check_policy", 0),
    "Ray starts": lambda: _slowly(cluster, "_start_local", 0),
    "a run is opened": lambda: _slowly(training, "prepare_task", 0),
}


@dataclass(frozen=True)
class Early:
    place: str
    number: signal.Signals


EARLY = {f"{number.name} while {place}": Early(place, number) for place in SET_UP for number in SIGNALS}


def _set_up(case: Early, place: Path, arguments: list[str]) -> NoReturn:
    """In a process of its own, which prints into a file."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(place)
    output = os.open("console", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
    SET_UP[case.place]()
    try:
        app(["train", *arguments], prog_name="rlseq")
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:
        os._exit(99)
    os._exit(98)


@pytest.mark.cases(EARLY, sample=3)
def test_a_signal_during_set_up_leaves_nothing_but_a_word(case: Early, tmp_path: Path) -> None:
    resumes, arguments = case.place == "a run is opened", ["hull", *TINY, "--run", "run"]
    if resumes:
        RunDirectory.create(load_config("hull", TINY), path=tmp_path / "run").close()
        arguments = ["--resume", "run"]
    if case.place == "Ray starts":
        arguments += ["compute.runners=1", "compute.address=local"]
    child = process_of(_set_up, case, tmp_path, arguments)
    assert child.pid is not None
    while not (tmp_path / "there").exists():
        assert child.is_alive(), (child.exitcode, (tmp_path / "console").read_text())
        time.sleep(0.05)
    os.kill(child.pid, case.number)
    child.join(30)
    told = (tmp_path / "console").read_text()
    assert child.exitcode == 130, told
    assert f"stopped by {case.number.name} before" in told
    assert ("rlseq train --resume run" in told) if resumes else not (tmp_path / "run").exists()
    if resumes:
        RunDirectory.open(tmp_path / "run").close()  # nobody holds it


STUDIES = {f"{number.name} to a study": number for number in (signal.SIGTERM, signal.SIGHUP)}


@pytest.mark.cases(STUDIES, sample=1)
def test_a_signal_ends_a_study_with_its_trainings_and_it_goes_on(case: signal.Signals, tmp_path: Path) -> None:
    begin = ["hull", *TINY, "mle.updates=4000", "mle.patience=null", "--seeds", "1", "--controls", "none"]
    command, made = [sys.executable, "-m", "rlseq", "study"], tmp_path / "made"
    with (tmp_path / "console").open("wb") as console:
        process = subprocess.Popen([*command, *begin, "--run", "made"], cwd=tmp_path, stdout=console, stderr=console)
        while not any(made.glob("*/*/checkpoints/*/*.json")):
            assert process.poll() is None, (tmp_path / "console").read_text()
            time.sleep(0.05)
        process.send_signal(case)
        code = process.wait(60)
    told = (tmp_path / "console").read_text()
    assert code == 130 and f"stopped by {case.name}; go on with: rlseq study --resume made" in told, told
    for _ in range(100):
        if not (left := [name for name in _processes() if str(tmp_path) in name]):
            break
        time.sleep(0.1)
    assert not left
    saved = [path for path in map(last_checkpoint, made.glob("seed*/*")) if path]
    assert saved and all(load_checkpoint(path, resume=True).state for path in saved)
    with (tmp_path / "again").open("wb") as console:  # it goes on with what is there: the same run is resumed
        process = subprocess.Popen([*command, "--resume", "made"], cwd=tmp_path, stdout=console, stderr=console)
        while not any("resumed" in log.read_text() for log in made.glob("*/*/train.log")):
            assert process.poll() is None, (tmp_path / "again").read_text()
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) == 130


SWEEPS = {
    f"{number.name} to {whom}, in {place}": (number, whom, place)
    for place in ("its mle", "its trials")
    for number, whom in (
        (signal.SIGTERM, "a sweep"),
        (signal.SIGTERM, "all processes of a sweep"),  # as batch systems do, Ray's daemons included
        (signal.SIGINT, "all processes of a sweep"),  # as a terminal does
        (signal.SIGHUP, "a sweep"),
    )
}


@pytest.mark.cases(SWEEPS, sample=1)
def test_a_signal_ends_a_sweep_with_its_trials_and_it_goes_on(
    case: tuple[signal.Signals, str, str], tmp_path: Path
) -> None:
    number, whom, place = case
    phase, where = ("mle", "mle") if place == "its mle" else ("rl", "trials/*")
    begin = ["hull", *TINY, f"{phase}.updates=100000", "mle.patience=null", "rl.samples=choice(2, 3)", "--trials", "2"]
    command, made, marker = [sys.executable, "-m", "rlseq", "sweep"], tmp_path / "made", f"RLSEQ_TEST_SWEEP={tmp_path}"
    environment = os.environ | dict([marker.split("=", 1)])

    def signalled(arguments: list[str], begun: Callable[[], bool]) -> str:
        """What it said until it had ended."""
        with (tmp_path / "console").open("wb") as console:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
            while not begun():
                assert process.poll() is None, (tmp_path / "console").read_text()
                time.sleep(0.05)
            if whom.startswith("all"):
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            assert process.wait(60) == 130, (tmp_path / "console").read_text()
        for _ in range(100):
            if not (left := [name for name in _processes("environ") if marker in name.split("\0")]):
                break
            time.sleep(0.1)
        assert not left
        return (tmp_path / "console").read_text()

    told = signalled([*begin, "--run", "made"], lambda: any(made.glob(f"{where}/checkpoints/{phase}/*/manifest.json")))
    assert told.splitlines()[-1] == f"stopped by {number.name}; go on with: rlseq sweep --resume made", told
    saved = [path for path in map(last_checkpoint, made.glob(where)) if path]
    assert saved and all(load_checkpoint(path, resume=True).state for path in saved)
    told = signalled(
        ["--resume", "made"], lambda: any("resumed" in log.read_text() for log in made.glob(f"{where}/train.log"))
    )
    assert "go on with: rlseq sweep --resume made" in told, told


@pytest.mark.cases(CASES, sample=4)
def test_a_signal_ends_a_training_with_all_saved(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hanging_reward.py").write_text(HANGS)
    monkeypatch.syspath_prepend(str(tmp_path))
    child = process_of(_train, case, tmp_path)
    pid = child.pid
    assert pid is not None
    while not (tmp_path / "there").exists():
        assert child.is_alive(), child.exitcode
        time.sleep(0.05)
    os.kill(pid, case.number)
    child.join(60)
    assert child.exitcode == 130
    log = (tmp_path / "run" / "train.log").read_text()
    status = json.loads((tmp_path / "run" / "report" / "status.json").read_text())
    assert case.number.name in log and "rlseq train --resume" in log
    assert status["state"] == "interrupted" and case.number.name in status["reason"]
    saved = last_checkpoint(tmp_path / "run")
    assert saved is not None and int(saved.name) == status["saved_update"]
    assert load_checkpoint(saved, resume=True).state
    for _ in range(200):  # a reward's process looks each second whether there is anyone it works for
        left = [name for name in _processes() if "own_process" in name and str(tmp_path) in name]
        if not left:
            break
        time.sleep(0.1)
    assert not left


def _processes(what: str = "cmdline") -> list[str]:
    """Command lines, or environments, of all processes."""
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{what}"):
        try:
            found.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return found
