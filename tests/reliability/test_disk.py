"""Disks that are full, read-only or broken while a training saves, and reports that fail."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlseq.config.errors import StorageError
from rlseq.data.tasks import make_vector_env
from rlseq.report.console import PlainConsole
from rlseq.report.files import CurvesFile, LogFile, MetricsFile, SampleFiles
from rlseq.report.reporter import Reporter
from rlseq.report.sink import Sink
from rlseq.report.tensorboard import TensorBoard
from rlseq.training import checkpoint as checkpoints
from rlseq.training.checkpoint import load_checkpoint
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from tests.reliability.test_resume import settings
from tests.small_runs import digest, trainer_in

SUITE = "Disk full, read-only, failing sinks"
HOLDS_WHEN = (
    "a checkpoint that cannot be saved is one error that names the file and the remedy, what was saved before is "
    "whole, and the run goes on to the same bits; a report that fails is one warning and changes nothing"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a run that nothing happened to."""
    run = RunDirectory.create(settings("hull", "running mean"), path=tmp_path_factory.mktemp("whole") / "run")
    trainer_in(run)[0].train()
    run.close()
    return digest(run.path)


# --------------------------------------------------------------------------------------------------------- checkpoints
CALLS: dict[str, tuple[Any, str]] = {
    "open": (io, "open"),
    "write": (checkpoints, "save_file"),
    "fsync": (os, "fsync"),
    "rename": (os, "rename"),
    "replace": (os, "replace"),
    "mkdir": (os, "mkdir"),
}
ERRORS = {
    "full": (errno.ENOSPC, "make room there"),
    "over the quota": (errno.EDQUOT, "make room in your quota there"),
    "read-only": (errno.EROFS, "give a place that can be written"),
}
SAVES = {"the first save": 0, "a save of mle": 2, "a save of rl": 6}
CHECKPOINTS = {
    f"{call} at {save}: {error}": (CALLS[call], SAVES[save], *ERRORS[error])
    for number, call in enumerate(CALLS)
    for turn, error in enumerate(ERRORS)
    for save in [list(SAVES)[(number + turn) % len(SAVES)]]
}


@pytest.mark.cases(CHECKPOINTS, sample=3)
def test_a_checkpoint_that_cannot_be_saved(
    case: tuple[tuple[Any, str], int, int, str], whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (module, name), at, number, remedy = case
    run = RunDirectory.create(settings("hull", "running mean"), path=tmp_path / "run")
    trainer, _ = trainer_in(run)
    save, saves, failing = run.save, 0, False
    genuine: Callable[..., Any] = getattr(module, name)

    def counting(*args: Any, **keys: Any) -> Any:
        nonlocal saves, failing
        failing, saves = saves >= at, saves + 1
        try:
            return save(*args, **keys)
        finally:
            failing = False

    def call(*args: Any, **keys: Any) -> Any:
        if failing:
            raise OSError(number, os.strerror(number))
        return genuine(*args, **keys)

    run.save = counting  # type: ignore[method-assign]
    monkeypatch.setattr(module, name, call)
    with pytest.raises(StorageError) as error:
        trainer.train()
    monkeypatch.undo()
    run.close()
    text = str(error.value)
    assert "\n" not in text and str(run.path) in text and os.strerror(number) in text and remedy in text
    if run.latest() is None:
        assert at == 0
        return
    again = RunDirectory.open(run.path)
    assert not list(run.path.glob("checkpoints/*/.*"))
    latest = again.latest()
    assert latest is not None and load_checkpoint(latest, resume=True).state
    trainer_in(again)[0].resume()
    assert digest(again.path) == whole
    again.close()


@pytest.mark.cases({f"no links: {error}": number for error, (number, _) in ERRORS.items()}, sample=1)
def test_links_that_cannot_be_made(case: int, whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are for people alone: not every file system has them."""

    def fail(*args: Any, **keys: Any) -> None:
        raise OSError(case, os.strerror(case))

    monkeypatch.setattr(os, "symlink", fail)
    run = RunDirectory.create(settings("hull", "running mean"), path=tmp_path / "run")
    trainer_in(run)[0].train()
    run.close()
    assert digest(run.path) == whole and not [path for path in run.path.rglob("*") if path.is_symlink()]


# --------------------------------------------------------------------------------------------------------------- sinks
SINKS: dict[str, tuple[str, ...]] = {
    "PlainConsole": ("start", "phase", "updates", "validation"),
    "LogFile": ("start", "phase", "updates", "validation"),
    "MetricsFile": ("updates", "validation"),
    "SampleFiles": ("start", "validation"),
    "TensorBoard": ("start", "updates", "validation", "finish"),
    "CurvesFile": ("start", "validation", "finish"),
}
FAILURES = (
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)),
    ValueError("I/O operation on closed file"),
    RuntimeError("a library of drawings is not in order"),
)
REPORTS = {
    f"{sink}.{event}: {type(FAILURES[number % 4]).__name__}": (sink, event, FAILURES[number % 4])
    for number, (sink, event) in enumerate((sink, event) for sink, events in SINKS.items() for event in events)
}


class Warnings(Sink):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str, level: str) -> None:
        if level == "warning":
            self.texts.append(text)


@pytest.mark.cases(REPORTS, sample=4)
def test_a_report_that_fails(case: tuple[str, str, Exception], whole: str, tmp_path: Path) -> None:
    name, event, failure = case
    told = Warnings()
    place = Path("report/curves.png")
    sinks = [
        PlainConsole(io.StringIO()),
        LogFile(),
        MetricsFile(),
        SampleFiles(),
        TensorBoard(),
        CurvesFile(place),
        told,
    ]
    (failing,) = (sink for sink in sinks if type(sink).__name__ == name)

    def fail(*args: Any) -> None:
        raise failure

    setattr(failing, event, fail)
    run = RunDirectory.create(settings("hull", "running mean"), path=tmp_path / "run")
    env = make_vector_env(run.config.task)
    engine = PlainEngine(run.config, env.task, env.rollout)
    Trainer(run.config, env.task, engine, run, Reporter(sinks)).train()
    run.close()
    assert digest(run.path) == whole
    (text,) = [text for text in told.texts if "training goes on without it" in text]
    assert name in text and str(failure.args[-1]) in text
    if name != "LogFile":
        assert text in (run.path / "train.log").read_text()
