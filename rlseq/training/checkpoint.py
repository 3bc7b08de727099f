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
from rlseq.training.meta import wrong_in_meta

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


class FormatError(CheckpointError):
    """A checkpoint of a format that this version does not read; it may be sound."""


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
    text = json.dumps({**meta, "weights": prefix}, indent=1, ensure_ascii=False)
    (directory / META).write_text(text, encoding="utf-8")
    # The writer stores the buffer as it lies: strides have to be those of C first.
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    save_file({n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}, directory / POLICY)
    save_file({n: a for n, a in arrays.items() if not n.startswith(prefix)}, directory / STATE)
    for name in (POLICY, STATE):  # the library lets the owner alone read them
        shutil.copymode(directory / META, directory / name)


def copy_artifacts(source: Path, target: Path) -> None:
    """Copy a task's files into a directory; their contents alone, so that modes are as of all other files.

    Raises:
        CheckpointError: A link leads out of the directory, or something is no file.
    """
    if wrong := [problem for name in sorted(_walk(source)) if (problem := _no_plain_file(source, name))]:
        raise CheckpointError("\n".join([f"{source} cannot be used:", *(f"  {line}" for line in wrong)]))
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copyfile)


def _files(directory: Path) -> list[str]:
    return sorted(name for name in _walk(directory) if not (directory / name).is_dir())


def _walk(directory: Path) -> list[str]:
    """All names below a directory; links to directories are not gone into."""
    return [path.relative_to(directory).as_posix() for path in directory.rglob("*")]


def _no_plain_file(directory: Path, name: str) -> str | None:
    path = directory / name
    if path.is_symlink() and not path.exists():
        return f"{name}: a link that leads nowhere"
    if not path.resolve().is_relative_to(directory.resolve()):
        return f"{name}: a link that leads out of the directory; put there what it leads to"
    if not path.is_file() and not path.is_dir():
        return f"{name}: no file"
    return None


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


# --------------------------------------------------------------------------------------------------------- loading
def load_checkpoint(directory: Path, *, resume: bool = False) -> Checkpoint:
    """Verify a checkpoint and read it.

    Files that its manifest does not name are left alone, and so is the state if it is not to be resumed.

    Args:
        directory: The checkpoint.
        resume: Whether to read the engine's whole state too.

    Raises:
        CheckpointError: A file is missing or damaged, or what it holds cannot be used; nothing was used.
        FormatError: It is of a format that this version does not read.
    """
    written_in = verify(directory, resume=resume)
    meta = load_meta(directory)
    prefix = meta.pop("weights", None)
    weights, wrong = _read_tensors(directory / POLICY)
    state = None
    if resume:
        rest, more = _read_tensors(directory / STATE)
        wrong += more
        state = rest | {f"{prefix}{name}": array for name, array in weights.items()}
    if written_in == 1:
        weights, state = older_formats.renamed(weights), state and older_formats.renamed(state)
    if written_in <= 2 and isinstance(meta.get("shape"), dict):
        meta["spaces"] = older_formats.spaces_of(meta.pop("shape"))
    wrong += [f"{META}: {problem}" for problem in wrong_in_meta(meta | {"weights": prefix})]
    if wrong:
        raise _damaged(directory, wrong)
    return Checkpoint(directory, weights, state, meta, directory / ARTIFACTS)


def _read_tensors(path: Path) -> tuple[Tensors, list[str]]:
    """What a file of arrays holds, and what is wrong with it."""
    try:
        tensors = load_file(path)
    except Exception as error:  # the library raises errors of many types for headers that it cannot use
        return {}, [f"{path.name}: cannot be read ({error})"]
    numbers = (array for array in tensors.items() if array[1].dtype.kind == "f")
    return tensors, [
        f"{path.name}: {name} has values that are not finite" for name, a in numbers if not np.isfinite(a).all()
    ]


def load_meta(directory: Path) -> dict[str, Any]:
    """The JSON values of a checkpoint, without looking at the rest of it.

    Raises:
        CheckpointError: They cannot be read.
    """
    try:
        meta: dict[str, Any] = json.loads((directory / META).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(directory, [f"{META}: cannot be read"]) from error
    if not isinstance(meta, dict):
        raise _damaged(directory, [f"{META}: is no object"])
    return meta


def verify(directory: Path, *, resume: bool = False) -> int:
    """Compare every file that is read with the manifest; the number of the format.

    Args:
        directory: The checkpoint.
        resume: Whether the state will be read.

    Raises:
        CheckpointError: One line for each file that is not as it was written.
        FormatError: It is of a format that this version does not read.
    """
    number, expected = _manifest(directory)
    needed = {META, POLICY, *([STATE] if resume else [])}
    wrong = [f"{name}: not in {MANIFEST}" for name in sorted(needed - expected.keys())]
    links = {name: problem for name in sorted(_walk(directory)) if (problem := _no_plain_file(directory, name))}
    wrong += [problem for name, problem in links.items() if name in expected or name.startswith(ARTIFACTS)]
    for name in sorted(expected.keys() - links.keys() - ({STATE} - needed)):
        wrong += _compare(directory, name, expected[name])
    if wrong:
        raise _damaged(directory, wrong)
    return number


def _manifest(directory: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    path = directory / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{directory} is no checkpoint: it has no {MANIFEST}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        number, files = int(manifest["format"]), {name: dict(entry) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise _damaged(directory, [f"{MANIFEST}: cannot be read"]) from error
    if number not in READABLE:
        raise FormatError(
            f"{directory} has format {number}, this version of rlseq reads {', '.join(map(str, READABLE))}: "
            "use the one that wrote it"
        )
    return number, files


def _compare(directory: Path, name: str, expected: dict[str, Any]) -> list[str]:
    path = directory / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not path.is_file():
        return [f"{name}: missing"]
    if (size := path.stat().st_size) != expected.get("bytes"):  # before its contents are looked at
        return [f"{name}: has {size} bytes, had {expected.get('bytes')} when written"]
    try:
        found = _entry(path)
    except OSError as error:
        return [f"{name}: cannot be read ({error.strerror})"]
    return [] if found == expected else [f"{name}: its contents changed since it was written"]


def _damaged(directory: Path, wrong: list[str]) -> CheckpointError:
    remedy = "copy it again from where it came, use another one, or delete it to resume from the one before"
    return CheckpointError("\n".join([f"checkpoint {directory} is damaged:", *(f"  {line}" for line in wrong), remedy]))
