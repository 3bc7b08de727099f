"""A run as Python sees it: where it is, its checkpoints, its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlseq.config.schema import Config
from rlseq.training.finding import last_checkpoint, resolve_checkpoint
from rlseq.training.remote import fetched
from rlseq.training.run_directory import read_metrics, run_config

if TYPE_CHECKING:
    from rlseq.api.policy import TrainedPolicy


class Run:
    """A run directory, read anew at each question, so that it may be asked about while it trains.

    Args:
        path: The directory. The copy of one under a URI is brought up to date now, and not again.

    Attributes:
        path: The directory; the copy of one under a URI.

    Raises:
        RunError: It is no run directory.
        UserError: It is a URI that cannot be read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = fetched(path)
        self.config  # noqa: B018 what is no run directory is refused at once

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def config(self) -> Config:
        """The configuration, every default written out."""
        return run_config(self.path)

    @property
    def best(self) -> Path:
        """The best checkpoint: that of rl, or of mle before rl began.

        Raises:
            CheckpointError: Nothing is saved yet.
        """
        return resolve_checkpoint(self.path)

    @property
    def latest(self) -> Path | None:
        """The newest checkpoint, which ``resume`` goes on from; None before the first."""
        return last_checkpoint(self.path)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl: update, phase, and tag: value; validations have tags ``eval/…``."""
        return read_metrics(self.path / "metrics.jsonl")

    @property
    def comparison(self) -> dict[str, Any] | None:
        """What the run came to on held-out instances, mle beside rl; ``docs/comparison.md`` explains the keys.

        None until it has finished, and for a run of mle alone, which has an ``evaluation``.
        """
        return self._report("comparison")

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """What a run of one phase came to on held-out instances; None for others."""
        return self._report("evaluation")

    def load(self, device: str = "auto", *, trust: bool = False) -> TrainedPolicy:
        """The policy of the best checkpoint, see ``rlseq.load``."""
        from rlseq.api.policy import load

        return load(self.path, device=device, trust=trust)

    def _report(self, name: str) -> dict[str, Any] | None:
        path = self.path / "report" / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
