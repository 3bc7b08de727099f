"""Weights & Biases: figures in a project of the configuration's name.

The environment says the rest: WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE=offline. Figures are plotted over ``update``.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Mapping
from typing import Any

import wandb

from rlseq.report.hyperparameters import hyperparameters
from rlseq.report.sink import Sink, Start, Updates, Validation


class WeightsAndBiases(Sink):
    """One run of theirs for a run of ours, gone on with when ours is; its files are in ``wandb/``."""

    def __init__(self) -> None:
        self._run: Any = None

    def start(self, event: Start) -> None:
        """See the base class. The id of their run is kept beside its files."""
        place = event.run.path / "wandb"
        place.mkdir(exist_ok=True)
        known = place / "id"
        if not known.exists():
            known.write_text(uuid.uuid4().hex, encoding="utf-8")
        self._run = wandb.init(
            project=None if "WANDB_PROJECT" in os.environ else event.config.name,
            dir=event.run.path,
            id=known.read_text(encoding="utf-8"),
            name=event.run.path.name,
            resume="allow",
            config=hyperparameters(event.config),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("*", step_metric="update")

    def updates(self, event: Updates) -> None:
        """See the base class."""
        self._log(event.update, event.stats)

    def validation(self, event: Validation) -> None:
        """See the base class."""
        self._log(event.update, {f"eval/{name}": value for name, value in event.metrics.items()})
        if event.best:
            self._run.summary["best"] = event.metrics[event.metric]

    def finish(self) -> None:
        """See the base class."""
        if self._run is not None:
            self._run.finish()
            self._run = None

    def _log(self, update: int, values: Mapping[str, float]) -> None:
        self._run.log({"update": update} | {tag: value for tag, value in values.items() if math.isfinite(value)})
