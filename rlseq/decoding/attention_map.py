"""An output's attention as a drawing shows it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlseq_envs.task import Ints, Rendering, SequenceTask

Weights = npt.NDArray[np.float32]


def without_padding(task: SequenceTask, attention: Weights, sizes: Ints) -> list[Weights]:
    """Cut each instance's attention to the columns that are real.

    Args:
        task: A pointer's attention has END in front of the source's positions.
        attention: (instances, tokens, positions), of a batch whose longest source was not padded.
        sizes: (instances,) of their sources.

    Returns:
        (tokens, columns) of each: the source's positions, or those of an encoder that has its own, up to the last
        that anything was read of if sources differ in size.
    """
    if not any(space.varying for space in task.sources.values()):
        return list(attention)
    end = int(task.points_to is not None)
    if attention.shape[-1] == sizes.max() + end:
        return [read[:, : size + end] for read, size in zip(attention, sizes, strict=True)]
    return [read[:, : np.flatnonzero(read.any(axis=0)).max(initial=0) + 1] for read in attention]


def grid_of(task: SequenceTask, columns: int) -> tuple[int, int] | None:
    """Rows and columns of the grid over a picture that several positions are, if its cells are squares; or None."""
    for space in task.sources.values():
        if space.is_picture and columns > 1:
            height, width, _ = space.largest
            grids = ((-(-height // side), -(-width // side)) for side in range(1, max(height, width) + 1))
            return next(((rows, across) for rows, across in grids if rows * across == columns), None)
    return None


def column_labels(task: SequenceTask, drawn: Rendering, columns: int) -> tuple[str, ...]:
    """The labels that the task gives the positions of a source, or numbers if the columns are others; none if none."""
    if not drawn.input_labels:
        return ()
    labels = drawn.input_labels if task.points_to is None else ("END", *drawn.input_labels)
    return labels if len(labels) == columns else tuple(str(column + 1) for column in range(columns))
