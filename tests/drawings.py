"""A task that draws its outputs, in each way there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import rlseq_envs
from rlseq_envs.drawing import Drawing, Picture, Polygon, Strip
from rlseq_envs.task import END, Floats, Ints, Rendering
from tests.support import ReverseTask

LETTERS = 4


def _polygon(output: Ints, reference: Ints) -> Drawing:
    angles = np.arange(LETTERS) * 2 * np.pi / LETTERS
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return Polygon(points, tuple(output - 1), tuple(reference - 1))


def _grey(output: Ints, reference: Ints) -> Drawing:
    return Picture(*(_bars(part) for part in (output, reference)))


def _colour(output: Ints, reference: Ints) -> Drawing:
    return Picture(
        *(np.stack([_bars(part), _bars(part) // 2, 255 - _bars(part)], axis=2) for part in (output, reference))
    )


def _bars(letters: Ints) -> Any:
    """(4, 6) a column for each letter, as high as it is; the other pixels are 40."""
    pixels = np.full((LETTERS, 6), 40, np.uint8)
    for column, letter in enumerate(letters[:6]):
        pixels[LETTERS - letter :, column] = 200
    return pixels


def _waveform(output: Ints, reference: Ints) -> Drawing:
    return Strip(*(np.repeat(part, 8) * np.sin(np.arange(8 * len(part))) for part in (output, reference)))


def _tape(output: Ints, reference: Ints) -> Drawing:
    return Strip(*(_one_hot(part) for part in (output, reference)))


def _one_hot(letters: Ints) -> Floats:
    """(LETTERS, time)."""
    return (np.arange(1, LETTERS + 1)[:, None] == letters).astype(np.float64)


MADE: dict[str, Callable[[Ints, Ints], Drawing]] = {
    "polygon": _polygon, "grey": _grey, "colour": _colour, "waveform": _waveform, "tape": _tape,
}  # fmt: skip


class DrawingTask(ReverseTask):
    """Letters backwards, drawn.

    Args:
        made: How an output is drawn beside its reference; ``source`` draws the source alone, ``nothing`` no output
            that begins with 1.
    """

    def __init__(self, made: str) -> None:
        super().__init__(LETTERS)
        self.made = made

    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        ids = np.array([instance_id])
        letters, reference = self.letters_of(ids)[0][0], self.references(ids)[0][0]
        output, wanted = (part[part != END] for part in (sequence, reference))
        if self.made == "source":
            drawing: Drawing | None = Picture(_bars(letters))
        elif self.made == "nothing" and output[:1] == [1]:
            drawing = None
        else:
            drawing = MADE.get(self.made, _grey)(output, wanted)
        return Rendering(str(letters), str(wanted), str(output), drawing)


rlseq_envs.register("test/Drawing-v0", DrawingTask)
