"""An output's attention as a drawing shows it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlseq_envs.task import Rendering, SequenceTask

Weights = npt.NDArray[np.float32]


def attention_map(
    task: SequenceTask, drawn: Rendering, attention: Weights, source_length: int
) -> tuple[Weights, tuple[str, ...]]:
    """Cut an output's attention to what is real, and label its columns.

    Args:
        task: Of the output; a pointer's attention has END in front of the source's positions.
        drawn: The output as the task renders it.
        attention: (tokens, positions), padded beyond the source.
        source_length: Of the output's source.

    Returns:
        (tokens, columns), and a label for each column; no labels if the task gives none.
    """
    if all(None not in space.axes for space in task.sources.values()):  # sources of a fixed size are never padded
        return attention, drawn.input_labels
    if task.points_to is None:
        return attention[:, :source_length], drawn.input_labels
    return attention[:, : source_length + 1], drawn.input_labels and ("END", *drawn.input_labels)
