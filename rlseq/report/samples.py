"""One validation instance with what the policy made of it, ready to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlseq_envs.drawing import Drawing

COLUMNS = ("source", "reference", "greedy", "sample", "reward", "advantage")


@dataclass(frozen=True)
class SampleRow:
    """A row of the table of samples.

    Attributes:
        id: The instance.
        source: Its source as one line.
        reference: Its reference as one line; empty if there is none.
        greedy: The greedy output as one line.
        greedy_reward: What that is worth.
        sample: A sampled output as one line; None if none was drawn.
        sample_reward: What that is worth.
        advantage: Of the sample over its baseline.
        draws_sample: Whether what follows is of the sample, not of the greedy output.
        drawing: What the task draws of the output, or None.
        attention: (output_length, source_length) of the output, or None.
        input_labels: One label a source position.
        output_labels: One label a token of the output.
        grid: Rows and columns that attention's positions are of the picture that is drawn; None: they are no grid.
    """

    id: int
    source: str
    reference: str
    greedy: str
    greedy_reward: float
    sample: str | None = None
    sample_reward: float | None = None
    advantage: float | None = None
    draws_sample: bool = False
    drawing: Drawing | None = None
    attention: npt.NDArray[np.floating] | None = None
    input_labels: tuple[str, ...] = ()
    output_labels: tuple[str, ...] = ()
    grid: tuple[int, int] | None = None

    @property
    def drawn_reward(self) -> float:
        """What the output that is drawn is worth."""
        return self.sample_reward if self.draws_sample and self.sample_reward is not None else self.greedy_reward

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of ``COLUMNS``; the reward is the sample's, the greedy one's in brackets."""
        reward = f"({self.greedy_reward:.3f})"
        if self.sample_reward is not None:
            reward = f"{self.sample_reward:.3f} {reward}"
        advantage = "" if self.advantage is None else f"{self.advantage:+.3f}"
        return (self.source, self.reference, self.greedy, self.sample or "", reward, advantage)


def format_lines(rows: Sequence[SampleRow], width: int | None = None) -> list[str]:
    """The rows as plain text, one line a column and instance, each text cut to ``width`` characters."""
    lines = []
    for row in rows:
        lines.append(f"sample {row.id}")
        cells = zip(COLUMNS, row.cells(), strict=True)
        lines += [f"  {name:<9} {_cut(text, width)}" for name, text in cells if text]
    return lines


def format_markdown(rows: Sequence[SampleRow]) -> str:
    """The rows as a Markdown table, as TensorBoard's text panel shows it."""
    header = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    return "\n".join([*header, *("| " + " | ".join(map(_escape, row.cells())) + " |" for row in rows)])


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _escape(text: str) -> str:
    """Text that cannot break out of a table's cell."""
    return text.translate({ord("|"): r"\|", ord("<"): "&lt;", ord(">"): "&gt;", ord("\n"): " "})
