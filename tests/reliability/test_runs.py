"""Copies of a run, and readers of a run that is trained, find the same checkpoints."""

from __future__ import annotations

import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlseq.config.load import load_config
from rlseq.training.checkpoint import Checkpoint, load_checkpoint
from rlseq.training.finding import held_checkpoint, last_checkpoint, read_checkpoint
from rlseq.training.index import INDEX
from rlseq.training.run_directory import RunDirectory
from tests.support import checkpoint_meta

SUITE = "Copies and readers"
HOLDS_WHEN = "a copy has the best and newest checkpoint of its original, and keeps the best; no read fails"


def save(run: RunDirectory, update: int, best: bool) -> None:
    meta = checkpoint_meta("mle", update)
    run.save("mle", update, {"policy/a": np.full(500, update, np.float32)}, meta, best=best)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Best at 20, newest at 50; only two are kept beside the best."""
    made = RunDirectory.create(load_config("hull", ["checkpoint.keep=2"]), path=tmp_path / "run")
    for update in (10, 20, 30, 40, 50):
        save(made, update, best=update == 20)
    made.close()
    return made.path


def without(*names: str) -> Callable[[Path, Path], object]:
    def copy(source: Path, target: Path) -> None:
        shutil.copytree(source, target, symlinks=True)
        for path in [path for name in names for path in target.rglob(name)]:
            path.unlink()

    return copy


def without_empty_directories(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file() and not any(parent.is_symlink() for parent in path.parents):
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / path.relative_to(source))


def zipped(source: Path, target: Path) -> None:
    archive = shutil.make_archive(str(target) + "-archive", "zip", source)
    zipfile.ZipFile(archive).extractall(target)


def tarred(source: Path, target: Path) -> None:
    shutil.unpack_archive(shutil.make_archive(str(target) + "-archive", "gztar", source), target, filter="data")


def links_as_text(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
    for link in [path for path in target.rglob("*") if path.is_symlink()]:
        leads_to = str(link.readlink())
        link.unlink()
        link.write_text(leads_to)


def stale_links(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
    for name in ("best", "latest"):
        link = target / "checkpoints" / "mle" / name
        link.unlink()
        link.symlink_to("40")


def littered(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
    for directory in [target, *(path for path in target.rglob("*") if path.is_dir() and not path.is_symlink())]:
        for name in (".DS_Store", "Thumbs.db", "._meta.json", "desktop.ini"):
            (directory / name).write_bytes(b"\0litter")


def moved(source: Path, target: Path) -> None:
    source.rename(target)


COPIES: dict[str, Callable[[Path, Path], object]] = {
    "whole": lambda source, target: shutil.copytree(source, target, symlinks=True) and None,
    "links followed": lambda source, target: shutil.copytree(source, target) and None,
    "without links": without("best", "latest"),
    "without index": without(INDEX),
    "without links and index": without("best", "latest", INDEX),
    "without empty directories": without_empty_directories,
    "without environment and metrics": without("environment.json", "metrics.jsonl", ".lock"),
    "zip": zipped,
    "tar": tarred,
    "links as text": links_as_text,
    "stale links": stale_links,
    "littered": littered,
    "moved": moved,
}


@pytest.mark.cases(COPIES, sample=13)
def test_a_copy_is_the_same_run(case: Callable[[Path, Path], object], run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "renamed"
    copy.parent.mkdir()
    case(run, copy)
    for path in (copy, copy / "checkpoints", copy / "checkpoints" / "mle", copy / "checkpoints" / "mle" / "best"):
        assert read_checkpoint(path, load_checkpoint).meta["update"] == 20
    newest = last_checkpoint(copy)
    assert newest is not None and newest.name == "50"
    opened = RunDirectory.open(copy)
    assert not opened.passed_over
    for update in (60, 70, 80):
        save(opened, update, best=False)
    opened.close()
    assert read_checkpoint(copy, load_checkpoint).meta["update"] == 20
    assert sorted(p.name for p in (copy / "checkpoints" / "mle").iterdir() if p.name.isdigit()) == ["20", "70", "80"]


READERS: dict[str, int] = {f"read {1 + part * 250} to {(part + 1) * 250}": part for part in range(20)}


@pytest.mark.cases(READERS, sample=1)
def test_no_read_fails_while_the_run_is_trained(case: int, run: Path) -> None:
    """The writer replaces the best each time, and every second save is of the update before."""
    stop, update = threading.Event(), 100 + case

    def train() -> None:
        nonlocal update
        opened = RunDirectory.open(run)
        while not stop.is_set():
            update += 1
            save(opened, update // 2, best=True)
        opened.close()

    def held() -> Checkpoint:
        with held_checkpoint(run) as checkpoint:
            return checkpoint

    writer = threading.Thread(target=train)
    writer.start()
    try:
        seen = 0
        for number in range(250):
            found = held() if number % 5 == 0 else read_checkpoint(run, load_checkpoint)
            assert (found.weights["a"] == found.meta["update"]).all() and found.meta["update"] >= seen
            seen = found.meta["update"]
    finally:
        stop.set()
        writer.join()
    assert update > 100 + case
