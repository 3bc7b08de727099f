"""Checkpoints: safetensors for arrays, JSON for the rest, a manifest with the SHA-256 of each file; never a pickle.

```
<update>/
  manifest.json       format, and size and SHA-256 of every other file
  meta.json           configuration, shape, signature, counters, metrics, versions
  policy.safetensors  the weights to decode with: the moving average where there is one
  state.safetensors   the rest of what resuming needs: optimiser, reference, raw weights
  artifacts/          what the task needs to decode, such as a vocabulary
```
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from rlseq.config.errors import UserError
from rlseq.training import older_formats
from rlseq.training.files import TEMPORARY, publish, unique

FORMAT = 3
READABLE = (1, 2, 3)
MANIFEST, META, POLICY, STATE, ARTIFACTS = (
    "manifest.json",
    "meta.json",
    "policy.safetensors",
    "state.safetensors",
    "artifacts",
)

Tensors = dict[str, npt.NDArray[Any]]


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or of a format this version does not read."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose every file was verified.

    Attributes:
        directory: Where it is.
        weights: The policy's weights to decode with, by parameter name.
        state: What an engine's ``get_state`` gave, when loaded to resume; None otherwise.
        meta: Configuration, shape, signature, counters, metrics, versions.
        artifacts: The directory that the task is made with.
    """

    directory: Path
    weights: Tensors
    state: Tensors | None
    meta: dict[str, Any]
    artifacts: Path


# ---------------------------------------------------------------------------------------------------------- saving
def save_checkpoint(
    directory: Path, *, tensors: Tensors, meta: dict[str, Any], artifacts: Callable[[Path], None]
) -> None:
    """Write a checkpoint that is either whole or not there.

    It is written beside its place, synced to disk and renamed; one that is there already is replaced.

    Args:
        directory: The checkpoint.
        tensors: An engine's state, named ``policy/…``, ``average/…``, ``optimizer/…``, ``reference/…``.
        meta: JSON values.
        artifacts: Writes the task's files into the directory it is given.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = unique(TEMPORARY, directory)
    (temporary / ARTIFACTS).mkdir(parents=True)
    try:
        _write(temporary, tensors, meta)
        artifacts(temporary / ARTIFACTS)
        manifest = {"format": FORMAT, "files": {name: _entry(temporary / name) for name in _files(temporary)}}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        publish(temporary, directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write(directory: Path, tensors: Tensors, meta: dict[str, Any]) -> None:
    prefix = "average/" if any(name.startswith("average/") for name in tensors) else "policy/"
    # The writer stores the buffer as it lies: strides have to be those of C first.
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    save_file({n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}, directory / POLICY)
    save_file({n: a for n, a in arrays.items() if not n.startswith(prefix)}, directory / STATE)
    text = json.dumps({**meta, "weights": prefix}, indent=1, ensure_ascii=False)
    (directory / META).write_text(text, encoding="utf-8")


def _files(directory: Path) -> list[str]:
    paths = (path for path in directory.rglob("*") if not path.is_dir())
    return sorted(path.relative_to(directory).as_posix() for path in paths)


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


# --------------------------------------------------------------------------------------------------------- loading
def load_checkpoint(directory: Path, *, resume: bool = False) -> Checkpoint:
    """Verify a checkpoint and read it.

    Args:
        directory: The checkpoint.
        resume: Whether to read the engine's whole state too.

    Raises:
        CheckpointError: A file is missing, too many, damaged, or of another format; nothing was used.
    """
    written_in = verify(directory)
    meta = json.loads((directory / META).read_text(encoding="utf-8"))
    prefix = meta.pop("weights")
    weights = load_file(directory / POLICY)
    state = None
    if resume:
        state = load_file(directory / STATE) | {prefix + name: array for name, array in weights.items()}
    if written_in == 1:
        weights, state = older_formats.renamed(weights), state and older_formats.renamed(state)
    if written_in <= 2:
        meta["spaces"] = older_formats.spaces_of(meta.pop("shape"))
    return Checkpoint(directory, weights, state, meta, directory / ARTIFACTS)


def load_meta(directory: Path) -> dict[str, Any]:
    """The JSON values of a checkpoint, without looking at the rest of it.

    Raises:
        CheckpointError: They cannot be read.
    """
    try:
        meta: dict[str, Any] = json.loads((directory / META).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(directory, [f"{META}: cannot be read"]) from error
    return meta


def verify(directory: Path) -> int:
    """Compare every file with the manifest; the number of the format.

    Raises:
        CheckpointError: One line for each file that is not as it was written.
    """
    number, expected = _manifest(directory)
    present = set(_files(directory)) - {MANIFEST}
    wrong = [f"{name}: missing" for name in sorted(expected.keys() - present)]
    wrong += [f"{name}: not part of the checkpoint" for name in sorted(present - expected.keys())]
    for name in sorted(expected.keys() & present):
        wrong += _compare(name, _entry(directory / name), expected[name])
    if wrong:
        raise _damaged(directory, wrong)
    return number


def _manifest(directory: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    path = directory / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{directory} is no checkpoint: it has no {MANIFEST}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        number, files = int(manifest["format"]), dict(manifest["files"])
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(directory, [f"{MANIFEST}: cannot be read"]) from error
    if number not in READABLE:
        raise CheckpointError(
            f"{directory} has format {number}, this version of rlseq reads {', '.join(map(str, READABLE))}: "
            "use the one that wrote it"
        )
    return number, files


def _compare(name: str, found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    if found == expected:
        return []
    if found["bytes"] != expected.get("bytes"):
        return [f"{name}: has {found['bytes']} bytes, had {expected.get('bytes')} when written"]
    return [f"{name}: its contents changed since it was written"]


def _damaged(directory: Path, wrong: list[str]) -> CheckpointError:
    remedy = "copy it again from where it came, use another one, or delete it to resume from the one before"
    return CheckpointError("\n".join([f"checkpoint {directory} is damaged:", *(f"  {line}" for line in wrong), remedy]))
