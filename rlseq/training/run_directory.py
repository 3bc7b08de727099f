"""The run directory: everything one training produced, written by one process, never overwritten.

```
<output>/<name>-<date>-<time>/
  config.yaml                  resolved
  environment.json             versions, commit, host, command; one more entry each time it is resumed
  metrics.jsonl                one line a record: update, phase, tag: value
  train.log
  checkpoints/{mle,rl}/<update>, and index.json, which names the newest and the best
  artifacts/                   what the task needs to decode, such as a vocabulary
  tensorboard/  samples/<update>.txt  report/
```
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal

from rlseq.config.errors import UserError
from rlseq.config.load import dump_config, read_config
from rlseq.config.phases import PHASES, Phase
from rlseq.config.schema import Config
from rlseq.training.checkpoint import (
    CheckpointError,
    FormatError,
    Tensors,
    copy_artifacts,
    load_checkpoint,
    save_checkpoint,
)
from rlseq.training.files import recover, remove, write_text
from rlseq.training.finding import best_or_latest, last_checkpoint
from rlseq.training.index import INDEX, best_update, checkpoints_in, is_update, write_index
from rlseq.training.provenance import environment, versions
from rlseq.training.remote import RemoteError, discard, display_path, fetched, local, remote_of, uri_of

logger = logging.getLogger(__name__)
DAMAGED = ".damaged"  # what a checkpoint that was passed over is called, behind its update


class RunError(UserError):
    """A run directory that cannot be made or opened."""


class RunDirectory:
    """A run's files; this process is the only one that writes them.

    Attributes:
        path: The directory.
        config: The experiment.
        passed_over: What was wrong with checkpoints that were not sound when the run was opened, a text for each.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self.path, self.config = path, config
        self.passed_over: list[str] = []
        self._remote = remote_of(path)
        self._lock = _lock(path)
        self._metrics: IO[bytes] | None = None

    # ---------------------------------------------------------------------------------------------- making and opening
    @classmethod
    def create(
        cls, config: Config, output: Path | None = None, *, path: Path | None = None, forked_from: Path | None = None
    ) -> RunDirectory:
        """Make a new run directory.

        Args:
            config: The experiment, written to config.yaml.
            output: Where ``<name>-<date>-<time>`` is made; default: the configuration's ``output``.
            path: The run directory itself, instead; it may be a URI, as ``output`` may.
            forked_from: The checkpoint that training starts from, noted in environment.json.

        Raises:
            RunError: ``path`` exists already, or the directory cannot be written.
            RemoteError: It is a URI, whose storage cannot be written.
        """
        run = cls(_make(config, output, path), config)
        source = (uri_of(forked_from) or str(forked_from)) if forked_from else None
        record = environment() | {"forked_from": source, "resumed": []}
        try:
            run._make_directories()
            write_text(run.path / "config.yaml", dump_config(config))
            write_text(run.path / "environment.json", json.dumps(record, indent=1) + "\n")
            if run._remote:
                run._remote.take()
            run.bring()
        except BaseException:
            run.close()
            shutil.rmtree(run.path)
            raise
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open a run to go on with it, after clearing away what a kill may have left half done.

        Checkpoints newer than the newest sound one are kept under another name and told of in ``passed_over``.

        Raises:
            RunError: It is no run directory, or another process is writing it.
            ConfigError: Its configuration cannot be read.
            CheckpointError: It has checkpoints, and none of them is sound.
            RemoteError: It is a URI's copy, and the storage cannot be read or written.
        """
        path = fetched(path)
        run = cls(path, run_config(path))
        try:
            if run._remote:
                run._remote.take()
            run._make_directories()
            for phase in PHASES:
                recover(run.path / "checkpoints" / phase)
            run._pass_over_damaged()
            run._note_resume()
        except BaseException:
            run.close()
            raise
        return run

    def _make_directories(self) -> None:
        """Those of a new run, and those that a copy has lost because they were empty."""
        for name in ("artifacts", "samples", "report", "tensorboard", *(f"checkpoints/{phase}" for phase in PHASES)):
            (self.path / name).mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Let others write the run."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        self._lock.close()

    def bring(self) -> None:
        """Have the run as it is where it is kept, if that is a URI.

        Raises:
            RemoteError: The storage cannot be written.
            TakenError: Another process goes on with the run.
        """
        if self._remote:
            self._remote.push()

    def discard(self) -> None:
        """Remove a run that did not begin."""
        self.close()
        discard(self.path)

    def environment(self) -> dict[str, Any]:
        """What the run was made with: environment.json; what cannot be read of it is not needed to go on."""
        try:
            record = json.loads((self.path / "environment.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            record = None
        record = record if isinstance(record, dict) else {}
        resumed, source = record.get("resumed"), record.get("forked_from")
        return record | {
            "resumed": resumed if isinstance(resumed, list) else [],
            "forked_from": source if isinstance(source, str) else None,
        }

    # ----------------------------------------------------------------------------------------------------- checkpoints
    @property
    def artifacts(self) -> Path:
        """The task's files, copied into every checkpoint."""
        return self.path / "artifacts"

    def save(self, phase: Phase, update: int, tensors: Tensors, meta: dict[str, Any], *, best: bool = False) -> Path:
        """Save a checkpoint, point ``latest`` (and ``best``) at it, and prune the old ones.

        Args:
            phase: Whose checkpoint.
            update: Counted over the whole run.
            tensors: The engine's state.
            meta: JSON values, see ``checkpoint``.
            best: Whether it is the phase's best so far.

        Raises:
            TakenError: Another process goes on with the run, which is kept under a URI.
        """
        place = self.path / "checkpoints" / phase
        save_checkpoint(
            place / str(update),
            tensors=tensors,
            meta={**meta, "best": best, "versions": versions()},
            artifacts=self._copy_artifacts,
        )
        kept = update if best else best_update(place)
        write_index(place, update, kept)
        numbers = list(checkpoints_in(place))
        for number in numbers[: -self.config.checkpoint.keep]:
            if number != kept:
                remove(place / str(number))
        try:
            self.bring()
        except RemoteError as error:
            logger.warning("%s: the checkpoint is whole in %s, and the next one brings it along", error, self.path)
        return place / str(update)

    def checkpoint(self, phase: Phase, which: Literal["best", "latest"] | int) -> Path:
        """The directory of a checkpoint.

        Raises:
            CheckpointError: There is none.
        """
        place = self.path / "checkpoints" / phase
        found = best_or_latest(place, which) if isinstance(which, str) else place / str(which)
        if found is None or not found.is_dir():
            raise CheckpointError(f"{self.path} has no {which} checkpoint of phase {phase}")
        return found

    def best_update(self, phase: Phase) -> int | None:
        """The update of a phase's best checkpoint; None if it has none."""
        return best_update(self.path / "checkpoints" / phase)

    def latest(self) -> Path | None:
        """The newest checkpoint of all, None before the first."""
        return last_checkpoint(self.path)

    def _copy_artifacts(self, directory: Path) -> None:
        if self.artifacts.is_dir():
            copy_artifacts(self.artifacts, directory)

    def _pass_over_damaged(self) -> None:
        """Put every damaged checkpoint aside, and have each index say what is left.

        What is older than the newest sound one needs no state to resume from. A newer format is no damage: it is
        refused.
        """
        places = [self.path / "checkpoints" / phase for phase in reversed(PHASES)]
        sound, damaged = False, {}
        for place in places:
            for number in sorted((int(e.name) for e in place.iterdir() if is_update(e.name)), reverse=True):
                if wrong := _wrong_with(place / str(number), resume=not sound):
                    damaged[place / str(number)] = wrong
                else:
                    sound = True
        if damaged and not sound:
            raise CheckpointError("\n".join(damaged.values()))
        for path, wrong in damaged.items():
            names = (path.with_name(f"{path.name}{DAMAGED}{number or ''}") for number in range(len(damaged) + 1000))
            aside = next(name for name in names if not name.exists())
            path.rename(aside)
            self.passed_over.append(f"passed over, and kept as {aside.name}: {wrong}")
        for place in places:
            if numbers := list(checkpoints_in(place)):
                if best_update(place) not in numbers:
                    (place / INDEX).unlink(missing_ok=True)  # the best was put aside: the best of what is left counts
                write_index(place, numbers[-1], best_update(place))

    def _note_resume(self) -> None:
        record = self.environment()
        path = self.path / "environment.json"
        if path.exists() and "versions" not in record:  # it was cut short
            path.replace(path.with_name(path.name + DAMAGED))
        record["resumed"].append(environment())
        write_text(path, json.dumps(record, indent=1) + "\n")

    # --------------------------------------------------------------------------------------------------------- metrics
    def append_metrics(self, record: Mapping[str, object]) -> None:
        """Append one line to metrics.jsonl, in one write."""
        if self._metrics is None:
            self._metrics = (self.path / "metrics.jsonl").open("ab", buffering=0)
        self._metrics.write(json.dumps(dict(record)).encode() + b"\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl; a line that a kill cut short is left out."""
        return read_metrics(self.path / "metrics.jsonl")

    def rewind(self, update: int, phase: Phase = "rl") -> None:
        """Forget what was logged beyond an update of a phase, before going on from it."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        beyond = PHASES[PHASES.index(phase) + 1 :]  # a later phase begins at the update an earlier one ended at
        kept = [r for r in self.read_metrics() if r["update"] <= update and r.get("phase") not in beyond]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept))
        for sample in (self.path / "samples").glob("*.txt"):
            if sample.stem.isdigit() and int(sample.stem) > update:
                sample.unlink()


def run_config(run: Path) -> Config:
    """The configuration of a run.

    Raises:
        RunError: It is no run directory.
        ConfigError: Its configuration cannot be read.
        UserError: It is a URI that cannot be read.
    """
    run = fetched(run)
    if not (run / "config.yaml").is_file():
        raise RunError(f"{display_path(run)} is no run directory: it has no config.yaml")
    return read_config(run / "config.yaml")


def is_being_written(run: Path) -> bool:
    """Whether another process has the run directory open."""
    if not (run / ".lock").exists():
        return False
    with (run / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a line that cannot be read is left out, a missing file has none."""
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and type(record.get("update")) is int:
            records.append(record)
    return records


def _make(config: Config, output: Path | None, path: Path | None) -> Path:
    base = local(path or (output or Path(config.output).expanduser()) / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}")
    for attempt in range(1, 1000):
        candidate = base if attempt == 1 else base.with_name(f"{base.name}-{attempt}")
        try:
            if (remote := remote_of(candidate)) and remote.exists():
                raise FileExistsError
            candidate.mkdir(parents=True)
        except UserError:
            raise
        except FileExistsError as error:
            if path:
                raise RunError(
                    f"{uri_of(path) or path} exists and is not overwritten: resume it, or give another directory"
                ) from error
        except OSError as error:
            raise RunError(f"{candidate} cannot be made: {error.strerror}") from error
        except ValueError as error:  # a name with a NUL, or with characters that no file's name has
            raise RunError(f"{str(candidate)!r} is no name of a directory: {error}") from error
        else:
            return candidate
    raise RunError(f"{base}: too many runs of this name")


def _lock(path: Path) -> IO[str]:
    file = (path / ".lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise RunError(f"{path} is being written by another process (pid {holder}): wait for it or end it") from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _wrong_with(checkpoint: Path, *, resume: bool) -> str | None:
    """What keeps a checkpoint from being read, or resumed from; None if it is sound."""
    try:
        load_checkpoint(checkpoint, resume=resume)
    except FormatError:
        raise
    except (CheckpointError, OSError) as error:
        return str(error)
    return None
