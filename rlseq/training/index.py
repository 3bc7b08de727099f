"""Which checkpoints a phase has, and which is its best: ``checkpoints/<phase>/index.json`` says so.

The index is written as a whole, after the checkpoint it names and before older ones are deleted. So three cases are
left for a reader:

* a checkpoint is newer than the index, because a kill came in between: its own meta.json says whether it is the best;
* the run is of a version that wrote no index: there, ``best`` was a link, which some copies turn into a directory;
* neither is there: the newest checkpoint that was the best when it was written is the best.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlseq.training.checkpoint import MANIFEST, META, load_meta
from rlseq.training.files import ASIDE, link, write_text

INDEX = "index.json"


def checkpoints_in(place: Path) -> dict[int, Path]:
    """The checkpoints of a phase by update, ascending.

    One that is being replaced at this moment, or was when its writer was killed, is found where it was put aside.
    """
    found: dict[int, Path] = {}
    for entry in sorted(place.iterdir(), reverse=True) if place.is_dir() else []:  # those put aside come last
        aside = entry.name.startswith(ASIDE)
        name = entry.name.removeprefix(ASIDE).rsplit("-", 2)[0] if aside else entry.name
        if is_update(name) and (entry / MANIFEST).is_file():
            found.setdefault(int(name), entry)
    return dict(sorted(found.items()))


def is_update(name: str) -> bool:
    """Whether a file's name is the number of an update."""
    return name.isascii() and name.isdigit() and (name == "0" or name[0] != "0") and len(name) < 20


def best_update(place: Path) -> int | None:
    """The update of a phase's best checkpoint; None if it has none yet.

    Raises:
        CheckpointError: A checkpoint that may be the best cannot be read.
    """
    known, best = _read_index(place) or _read_followed_link(place) or (-1, None)
    newer = [path for update, path in checkpoints_in(place).items() if update > known]
    said = (int(path.name) for path in reversed(newer) if is_update(path.name) and load_meta(path).get("best") is True)
    return next(said, best)


def write_index(place: Path, latest: int, best: int | None) -> None:
    """Name the newest and the best checkpoint of a phase; links of these names are for people, nothing reads them."""
    write_text(place / INDEX, json.dumps({"latest": latest, "best": best}) + "\n")
    with suppress(OSError):  # not every file system has links
        link(place / "latest", str(latest))
        if best is not None:
            link(place / "best", str(best))


def _read_index(place: Path) -> tuple[int, int | None] | None:
    found = _read_object(place / INDEX)
    latest, best = found.get("latest"), found.get("best")
    return (latest, best) if type(latest) is int and (best is None or type(best) is int) else None


def _read_followed_link(place: Path) -> tuple[int, int] | None:
    best = _read_object(place / "best" / META).get("update")
    return (best, best) if type(best) is int and best in checkpoints_in(place) else None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
