"""The run directory: everything one training produced, written by one process, never overwritten.

```
<output>/<name>-<date>-<time>/
  config.yaml                  resolved
  environment.json             versions, commit, host, command; one more entry each time it is resumed
  metrics.jsonl                one line a record: update, phase, tag: value
  train.log
  checkpoints/{mle,rl}/<update>, with the links `latest` and `best`
  artifacts/                   what the task needs to decode, such as a vocabulary
  tensorboard/  samples/<update>.txt  report/
```
"""

from __future__ import annotations

import fcntl
import json
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
from rlseq.training.checkpoint import MANIFEST, CheckpointError, Tensors, load_checkpoint, save_checkpoint
from rlseq.training.files import link, recover, remove, write_text
from rlseq.training.provenance import environment, versions


class RunError(UserError):
    """A run directory that cannot be made or opened."""


class RunDirectory:
    """A run's files; this process is the only one that writes them.

    Attributes:
        path: The directory.
        config: The experiment.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self.path, self.config = path, config
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
            path: The run directory itself, instead.
            forked_from: The checkpoint that training starts from, noted in environment.json.

        Raises:
            RunError: ``path`` exists already, or the directory cannot be written.
        """
        run = cls(_make(config, output, path), config)
        for name in ("artifacts", "samples", "report", "tensorboard", *(f"checkpoints/{phase}" for phase in PHASES)):
            (run.path / name).mkdir(parents=True)
        write_text(run.path / "config.yaml", dump_config(config))
        record = environment() | {"forked_from": str(forked_from) if forked_from else None, "resumed": []}
        write_text(run.path / "environment.json", json.dumps(record, indent=1) + "\n")
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open a run to go on with it, after clearing away what a kill may have left half done.

        Raises:
            RunError: It is no run directory, or another process is writing it.
            ConfigError: Its configuration cannot be read.
        """
        run = cls(path, run_config(path))
        try:
            for phase in PHASES:
                run._mend(phase)
            run._note_resume()
        except BaseException:
            run.close()
            raise
        return run

    def close(self) -> None:
        """Let others write the run."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        self._lock.close()

    def environment(self) -> dict[str, Any]:
        """What the run was made with: environment.json."""
        return json.loads((self.path / "environment.json").read_text(encoding="utf-8"))

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
        """
        place = self.path / "checkpoints" / phase
        save_checkpoint(
            place / str(update),
            tensors=tensors,
            meta={**meta, "best": best, "versions": versions()},
            artifacts=self._copy_artifacts,
        )
        self._link(phase, update, best)
        keep = {str(number) for number in _updates(place)[-self.config.checkpoint.keep :]} | {_target(place / "best")}
        for number in _updates(place):
            if str(number) not in keep:
                remove(place / str(number))
        return place / str(update)

    def checkpoint(self, phase: Phase, which: Literal["best", "latest"] | int) -> Path:
        """The directory of a checkpoint.

        Raises:
            CheckpointError: There is none.
        """
        place = self.path / "checkpoints" / phase
        found = _best_or_latest(place, which) if isinstance(which, str) else place / str(which)
        if found is None or not found.is_dir():
            raise CheckpointError(f"{self.path} has no {which} checkpoint of phase {phase}")
        return found

    def latest(self) -> Path | None:
        """The newest checkpoint of all, None before the first."""
        return last_checkpoint(self.path)

    def _copy_artifacts(self, directory: Path) -> None:
        if self.artifacts.is_dir():
            shutil.copytree(self.artifacts, directory, dirs_exist_ok=True)

    def _link(self, phase: str, update: int, best: bool) -> None:
        for name in ("latest", "best") if best else ("latest",):
            link(self.path / "checkpoints" / phase / name, str(update))

    def _mend(self, phase: str) -> None:
        """Finish what a kill interrupted: the links are written after the checkpoint they point at."""
        place = self.path / "checkpoints" / phase
        recover(place)
        if updates := _updates(place):
            newest = load_checkpoint(place / str(updates[-1]))
            self._link(phase, updates[-1], newest.meta["best"])

    def _note_resume(self) -> None:
        record = self.environment()
        record["resumed"].append(environment())
        write_text(self.path / "environment.json", json.dumps(record, indent=1) + "\n")

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
    """
    if not (run / "config.yaml").is_file():
        raise RunError(f"{run} is no run directory: it has no config.yaml")
    return read_config(run / "config.yaml")


def last_checkpoint(run: Path, phase: Phase | None = None) -> Path | None:
    """The newest checkpoint of a run, or of one of its phases; None before the first."""
    phases = reversed(PHASES) if phase is None else [phase]
    found = [_best_or_latest(run / "checkpoints" / each, "latest") for each in phases]
    return next(filter(None, found), None)


def run_of(checkpoint: Path) -> Path | None:
    """The run that a checkpoint lies in; None if it was copied out of one."""
    place = checkpoint.absolute()
    return place.parents[2] if place.parent.parent.name == "checkpoints" else None


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
    """The records of a metrics.jsonl; a line that a kill cut short is left out, a missing file has none."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def resolve_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the best one of a run, rl before mle, or of one of its phases.

    Raises:
        CheckpointError: There is none.
    """
    if (path / MANIFEST).is_file():
        return path.resolve()
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint or run directory")
    inside = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    phases = [inside / phase for phase in reversed(PHASES) if (inside / phase).is_dir()] or [path]
    found = [_best_or_latest(place, which) for which in ("best", "latest") for place in phases]
    checkpoint = next(filter(None, found), None)
    if checkpoint is None:
        raise CheckpointError(
            f"{path} holds no checkpoint: give a run directory or one of its checkpoints/<phase>/<update>"
        )
    return checkpoint.resolve()


def _make(config: Config, output: Path | None, path: Path | None) -> Path:
    base = path or (output or Path(config.output)) / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
    for attempt in range(1, 1000):
        candidate = base if attempt == 1 else base.with_name(f"{base.name}-{attempt}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError as error:
            if path:
                raise RunError(f"{path} exists and is not overwritten: resume it, or give another directory") from error
        except OSError as error:
            raise RunError(f"{candidate} cannot be made: {error.strerror}") from error
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


def _updates(place: Path) -> list[int]:
    """The updates of the checkpoints of a phase, ascending."""
    if not place.is_dir():
        return []
    return sorted(int(entry.name) for entry in place.iterdir() if entry.name.isdigit())


def _target(path: Path) -> str | None:
    return os.readlink(path) if path.is_symlink() else None


def _best_or_latest(place: Path, which: str) -> Path | None:
    """The checkpoint behind a link; the newest of all for ``latest``, whose link is written after it."""
    if which == "best":
        target = _target(place / "best")
        return place / target if target and (place / target / MANIFEST).is_file() else None
    updates = _updates(place)
    return place / str(updates[-1]) if updates else None
