"""The pictures of a split: what is read of them, and what is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.drawing import Picture
from rlseq_envs.media.captioned import Arrays
from rlseq_envs.media.pixels import read_pixels
from rlseq_envs.media.scenes import Scenes, draw_scenes
from rlseq_envs.settings.caption import PICTURE
from rlseq_envs.source import Source
from rlseq_envs.task import Ints

DRAWN = 224  # height and width of a picture in a file, as it is drawn


class Pictures(ABC):
    """Pictures that are known by their row."""

    @abstractmethod
    def source(self, rows: Ints) -> Source[npt.NDArray[Any]]:
        """What a policy reads of some of them."""

    @abstractmethod
    def drawing(self, row: int) -> Picture | None:
        """One of them; None if there is nothing to draw."""

    @abstractmethod
    def name(self, row: int) -> str:
        """What one of them is called."""


@dataclass(frozen=True)
class MadePictures(Pictures):
    """Scenes.

    Attributes:
        scenes: What they show.
        side: Height and width in pixels.
    """

    scenes: Scenes
    side: int

    def source(self, rows: Ints) -> Source[npt.NDArray[Any]]:
        """Pixels (batch_size, side, side, 3) uint8."""
        return Source.of(**{PICTURE: (draw_scenes(self.scenes.take(rows), self.side), None)})

    def drawing(self, row: int) -> Picture:
        """The same pixels."""
        return Picture(self.source(np.array([row])).fields[PICTURE].values[0])

    def name(self, row: int) -> str:
        """Its number."""
        return f"picture {self.scenes.ids[row]}"


@dataclass(frozen=True)
class FilePictures(Pictures):
    """Pictures in files, or features of them.

    Attributes:
        names: Of each.
        arrays: A row a picture, uint8 pixels or numbers of any other type.
        directory: The pictures themselves, by their names; None: they cannot be drawn.
    """

    names: tuple[str, ...]
    arrays: Arrays
    directory: Path | None

    def source(self, rows: Ints) -> Source[npt.NDArray[Any]]:
        """Pixels uint8, or features float32."""
        types = {name: np.uint8 if name == PICTURE else np.float32 for name in self.arrays}
        return Source.of(**{name: (values[rows].astype(types[name]), None) for name, values in self.arrays.items()})

    def drawing(self, row: int) -> Picture | None:
        """The picture; nothing if its file holds a part of it alone."""
        if self.directory is None:
            return None
        try:
            return Picture(read_pixels(self.directory / self.names[row], DRAWN))
        except ValueError:
            return None

    def name(self, row: int) -> str:
        """That of its file."""
        return self.names[row]
