"""TensorBoard: every statistic over the update, histograms, pictures and texts of the samples, changed keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from rlseq.config.schema import Config
from rlseq.report.hyperparameters import hyperparameters
from rlseq.report.plots import attention_figure, drawing_figure, figure_image
from rlseq.report.samples import SampleRow, format_markdown
from rlseq.report.sink import PhaseStart, Sink, Start, Updates, Validation


class TensorBoard(Sink):
    """Event files in ``tensorboard/``: one axis, the update, counted on from mle into rl.

    Pictures take time to draw: they are drawn at the 1st, 2nd, 4th, 8th … validation of a phase and at the last one.
    """

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None
        self._validations = 0  # of this phase
        self._undrawn: Validation | None = None

    def start(self, event: Start) -> None:
        """See the base class. A resumed run hides what it had written beyond the update it goes on from."""
        purge = None if event.resumed_at is None else event.resumed_at + 1
        self._writer = SummaryWriter(str(event.run.path / "tensorboard"), purge_step=purge)
        self._writer._get_file_writer().add_summary(_hyperparameters(event.config))
        config = yaml.safe_dump(event.config.model_dump(mode="json"), sort_keys=False)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in config.splitlines()), event.resumed_at or 0)

    def phase(self, event: PhaseStart) -> None:
        """See the base class."""
        self._validations = 0

    def updates(self, event: Updates) -> None:
        """See the base class."""
        self._add_scalars(event.stats, event.update)

    def validation(self, event: Validation) -> None:
        """See the base class."""
        assert self._writer is not None
        self._add_scalars({f"eval/{name}": value for name, value in event.metrics.items()}, event.update)
        for name, values in event.histograms.items():
            if values.size:
                self._writer.add_histogram(f"eval/hist_{name}", values, event.update)
        if event.samples:
            self._writer.add_text("samples", format_markdown(event.samples), event.update)
        self._validations += 1
        self._undrawn = event
        if self._validations.bit_count() == 1:
            self._draw_samples()
        self._writer.flush()

    def finish(self) -> None:
        """See the base class."""
        if self._writer is not None:
            self._draw_samples()
            self._writer.close()
            self._writer = None

    def _add_scalars(self, values: Mapping[str, float], update: int) -> None:
        """Values that are no numbers (a metric that its own rule calls failed) have no place on a curve."""
        assert self._writer is not None
        for tag, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(tag, value, update)

    def _draw_samples(self) -> None:
        assert self._writer is not None
        if self._undrawn is None:
            return
        for index, row in enumerate(self._undrawn.samples):
            for tag, figure in _figures(row).items():
                self._writer.add_image(f"{tag}/{index}", figure_image(figure), self._undrawn.update, dataformats="HWC")
        self._undrawn = None


def _hyperparameters(config: Config) -> Any:
    """What the table of runs, under HPARAMS, shows of this one: its name, its seed and every key changed.

    There is no experiment summary beside it, as ``add_hparams`` writes one: TensorBoard would take that of one run for
    all, and hide the keys and metrics of the others. Without it, every run's keys and scalars are in the table.
    """
    return hparams(hyperparameters(config), {})[1]


def _figures(row: SampleRow) -> dict[str, Figure]:
    """What can be drawn of a sample."""
    figures = {}
    if row.attention is not None and row.attention.size:
        figures["attention"] = attention_figure(row)
    if row.drawing is not None:
        figures["drawing"] = drawing_figure(row)
    return figures
