"""A process that is killed while it saves: at random, and at every kind of call that touches a file."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from safetensors.numpy import save_file

from rlseq.config.errors import UserError
from rlseq.config.load import load_config
from rlseq.training import checkpoint, run_directory
from rlseq.training.checkpoint import Tensors, load_checkpoint
from rlseq.training.finding import resolve_checkpoint
from rlseq.training.index import checkpoints_in
from rlseq.training.run_directory import RunDirectory
from tests.support import checkpoint_meta, process_of

SUITE = "SIGKILL while saving"
HOLDS_WHEN = (
    "every checkpoint that is there loads with the contents of one save, the newest and the best that were "
    "acknowledged are kept, nothing half done is left, and a save without these cares is found out"
)
PLACES = 60
BEFORE = 8  # saves before the one that is killed: enough that old checkpoints are deleted


# ----------------------------------------------------------------------------------------------- the process that saves
def saves(run: RunDirectory, first: int) -> Iterator[tuple[int, int | None]]:
    """Save for ever; the number of each save that is through, and of the best one.

    Every second save replaces the checkpoint of the one before, which is the harder case.
    """
    best = None
    for number in range(first, first + 10**6):
        tensors = {name: np.full((100, 100), number, np.float32) for name in ("policy/a", "optimizer/a")}
        meta = checkpoint_meta("mle", number)
        run.append_metrics({"update": number, "phase": "mle"})
        run.save("mle", number // 2, tensors, meta, best=number % 3 == 0)
        best = number if number % 3 == 0 else None if best is None or best // 2 == number // 2 else best
        yield number, best


def save_naively(directory: Path, *, tensors: Tensors, meta: dict[str, Any], artifacts: Callable[[Path], None]) -> None:
    """What one writes at first: each file in its place, one after the other."""
    (directory / checkpoint.ARTIFACTS).mkdir(parents=True, exist_ok=True)
    artifacts(directory / checkpoint.ARTIFACTS)
    weights = {name: array for name, array in tensors.items() if name.startswith("policy/")}
    files = {checkpoint.POLICY: {name.removeprefix("policy/"): array for name, array in weights.items()}}
    files[checkpoint.STATE] = {name: array for name, array in tensors.items() if name not in weights}
    for name, arrays in files.items():
        with (directory / name).open("wb"):  # truncated, as a library that writes in place does
            pass
        save_file(arrays, directory / name)
    (directory / checkpoint.META).write_text(json.dumps({**meta, "weights": "policy/"}))
    entries = {name: checkpoint._entry(directory / name) for name in (*files, checkpoint.META)}
    (directory / checkpoint.MANIFEST).write_text(json.dumps({"format": checkpoint.FORMAT, "files": entries}))


def work(path: Path, acknowledge: Connection, place: int | None, naive: bool) -> NoReturn:
    """Save until killed; with a place, by this process's own hand at that part of all calls of one save."""
    if naive:
        vars(run_directory)["save_checkpoint"] = save_naively
    run = RunDirectory.open(path)
    calls = die_at = 0

    def count(event: str, _: tuple[Any, ...]) -> None:
        nonlocal calls
        if event == "open" or event.startswith(("os.", "shutil.")):
            calls += 1
            if calls == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if place is not None:
        sys.addaudithook(count)
    of_a_save = [0, 0]
    acknowledge.send("ready")
    for turn, (number, best) in enumerate(saves(run, 2)):
        acknowledge.send((number, best))
        of_a_save[number % 2], calls = calls, 0
        if place is not None and turn == BEFORE + place % 2:  # the next save is of the other kind
            die_at = 1 + place * of_a_save[(number + 1) % 2] // PLACES
    os._exit(1)


def killed(
    path: Path, *, seconds: float = 0.0, place: int | None = None, naive: bool = False
) -> tuple[int, int | None]:
    """Have a process save and die; the last save that it acknowledged, and which was the best."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = process_of(work, path, sender, place, naive)
    sender.close()
    assert receiver.recv() == "ready"
    if place is None:
        time.sleep(seconds)
        process.kill()
    last: tuple[int, int | None] = (-1, None)
    try:
        while True:
            last = receiver.recv()
    except EOFError:
        pass
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return last


# ------------------------------------------------------------------------------------------------------ what is left
def shortcomings(path: Path, acknowledged: int, best: int | None) -> list[str]:
    """What a process that comes afterwards finds wrong."""
    wrong = []

    def number_of(place: Path) -> int:
        """The save whose contents a checkpoint has."""
        loaded = load_checkpoint(place, resume=True)
        number = int(loaded.meta["update"])
        assert loaded.state is not None
        if not all((loaded.state[name] == number).all() for name in ("policy/a", "optimizer/a")):
            wrong.append(f"{place.name} has parts of several saves")
        return number

    try:
        place = path / "checkpoints" / "mle"
        found = {number_of(directory) for directory in checkpoints_in(place).values()}  # as a reader of a dead run
        run = RunDirectory.open(path)
        wrong += run.passed_over
        found = {number_of(directory) for directory in checkpoints_in(place).values()}
        newest = run.latest()
        run.close()
        if acknowledged >= 0 and (newest is None or number_of(newest) < acknowledged):
            wrong.append(f"the newest is older than save {acknowledged}, which was acknowledged")
        if best is not None and max(found) <= acknowledged:  # nothing newer that may be the best, or replace it
            if number_of(resolve_checkpoint(path)) != best:
                wrong.append(f"the best is not save {best}")
        wrong += [f"{leftover.name} is left" for leftover in place.glob(".*")]
    except (UserError, OSError) as error:
        wrong.append(str(error))
    return wrong


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = RunDirectory.create(load_config("hull", ["checkpoint.keep=2"]), path=tmp_path / "run")
    made.artifacts.mkdir(exist_ok=True)
    (made.artifacts / "words.txt").write_text("a\nb\n" * 100)
    made.close()
    return made.path


@pytest.mark.cases({f"at random, {number}": number for number in range(200)}, sample=8)
def test_killed_at_random(case: int, run: Path) -> None:
    assert shortcomings(run, *killed(run, seconds=random.Random(case).uniform(0, 0.25))) == []


CALLS = {
    f"{'replacing' if place % 2 else 'new'}, after {place} of {PLACES} of its calls": place for place in range(PLACES)
}


@pytest.mark.cases(CALLS, sample=6)
def test_killed_at_a_call(case: int, run: Path) -> None:
    acknowledged, best = killed(run, place=case)
    assert acknowledged >= BEFORE and shortcomings(run, acknowledged, best) == []


def test_a_naive_save_is_found_out(run: Path) -> None:
    """If the suite held for this save too, it would prove nothing."""
    fell_short = {}
    places = range(0, PLACES, 6)
    for place in places:
        copy = Path(shutil.copytree(run, run.with_name(f"copy-{place}")))
        if wrong := shortcomings(copy, *killed(copy, place=place, naive=True)):
            fell_short[place] = wrong
    assert len(fell_short) >= len(places) // 4, fell_short
