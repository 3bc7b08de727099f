"""From a path to a checkpoint, while the run it belongs to may be trained."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rlseq.config.phases import PHASES, Phase
from rlseq.training.checkpoint import MANIFEST, Checkpoint, CheckpointError, copy_artifacts, load_checkpoint
from rlseq.training.files import TEMPORARY
from rlseq.training.index import best_update, checkpoints_in, is_update
from rlseq.training.remote import changes_soon, display_path, fetched

Read = TypeVar("Read")


def best_or_latest(place: Path, which: str) -> Path | None:
    """A phase's best checkpoint, None before the first; or the newest of all.

    Raises:
        CheckpointError: The best is not where it was: another one in its place would be a silent change.
    """
    found = checkpoints_in(place)
    if which == "latest":
        return next(reversed(found.values()), None)
    best = best_update(place)
    if best is not None and best not in found:
        others = ", ".join(map(str, found)) or "none"
        raise CheckpointError(
            f"{place / str(best)}, the best checkpoint, is not there: copy it again from where it came, or "
            f"give another one of {place}: {others}"
        )
    return found.get(best) if best is not None else None


def last_checkpoint(run: Path, phase: Phase | None = None) -> Path | None:
    """The newest checkpoint of a run, or of one of its phases; None before the first."""
    phases = reversed(PHASES) if phase is None else [phase]
    found = [best_or_latest(run / "checkpoints" / each, "latest") for each in phases]
    return next(filter(None, found), None)


def run_of(checkpoint: Path) -> Path | None:
    """The run that a checkpoint lies in; None if it was copied out of one."""
    place = checkpoint.absolute()
    return place.parents[2] if place.parent.parent.name == "checkpoints" else None


def resolve_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the best one of a run, rl before mle, or of one of its phases.

    A run that trains may delete it at any time: read it by ``read_checkpoint``.

    Raises:
        CheckpointError: There is none.
    """
    return read_checkpoint(path, lambda checkpoint: checkpoint)


def read_checkpoint(path: Path, read: Callable[[Path], Read]) -> Read:
    """What ``read`` makes of the checkpoint that a path means.

    A run under a URI is fetched first. One may be trained meanwhile: a checkpoint may be replaced or deleted while it
    is read. Then what the path means is looked up and read again. So readers need no lock, and writers keep no
    checkpoint longer for their sake.

    Args:
        path: As of ``resolve_checkpoint``.
        read: Reads all it needs from the directory it is given; may be called more than once.

    Raises:
        CheckpointError: There is none; besides whatever ``read`` raises of a checkpoint that stayed as it was.
        UserError: It is a URI that cannot be read.
    """
    told, path = path, fetched(path)
    named = path.name in ("best", "latest")  # a link, which is not followed: the index says what it means
    path = path.parent.resolve() / path.name if named else path.resolve()
    while True:
        before = _listing(path)
        try:
            checkpoint = _find(path, told)
            found = read(checkpoint)
        except Exception:
            if not changes_soon(told) and _listing(path) == before:
                raise
        else:
            now = _listing(path)
            if checkpoint not in before or before[checkpoint] == now.get(checkpoint):
                return found


@contextmanager
def held_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Read the checkpoint that a path means and hold it: weights in memory, artifacts in a copy.

    Its run may be trained meanwhile and delete it. Raises as ``read_checkpoint``.
    """
    with tempfile.TemporaryDirectory() as held:

        def read(place: Path) -> Checkpoint:
            checkpoint, artifacts = load_checkpoint(place), Path(held) / f"{place.name}-{os.urandom(4).hex()}"
            if checkpoint.artifacts.is_dir():
                copy_artifacts(checkpoint.artifacts, artifacts)
            return replace(checkpoint, artifacts=artifacts)

        yield read_checkpoint(path, read)


def _listing(path: Path) -> dict[Path, int]:
    """Every checkpoint near a path with the number of its directory, which another one of its name does not have."""
    inside = path / "checkpoints"
    places = [inside / phase for phase in PHASES] + [path / phase for phase in PHASES] + [path, path.parent]
    found = {}
    for place in places:
        with suppress(OSError):
            for entry in os.scandir(place):
                with suppress(OSError):
                    if is_update(entry.name) or (entry.name.startswith(".") and not entry.name.startswith(TEMPORARY)):
                        found[Path(entry.path)] = entry.inode()
    return found


def _find(path: Path, told: Path) -> Path:
    if path.name in ("best", "latest") and path.parent.name in PHASES:
        found = best_or_latest(path.parent, path.name)
        if found is not None:
            return found
    if (path / MANIFEST).is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{display_path(told)}: no such checkpoint or run directory")
    inside = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    phases = [inside / phase for phase in reversed(PHASES) if (inside / phase).is_dir()] or [path]
    found_ones = (best_or_latest(place, which) for which in ("best", "latest") for place in phases)
    checkpoint = next(filter(None, found_ones), None)
    if checkpoint is None:
        raise CheckpointError(
            f"{display_path(told)} holds no checkpoint: give a run directory or one of its checkpoints/<phase>/<update>"
        )
    return checkpoint
