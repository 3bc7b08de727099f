"""Pictures in files, of whatever format Pillow reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

_BAD = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # of Pillow, for what is no picture


def read_pixels(path: Path, side: int) -> npt.NDArray[np.uint8]:
    """A picture (side, side, 3), red before green and blue: the shorter side is scaled, the longer one is cropped.

    Raises:
        ValueError: There is no such file, or it is no picture.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            return np.asarray(_cropped(image.convert("RGB"), side))
    except _BAD as error:
        raise ValueError(_told(path, error)) from error


def check_picture(path: Path) -> None:
    """Look at the head of a file alone; raises as ``read_pixels``."""
    try:
        Image.open(path).close()
    except _BAD as error:
        raise ValueError(_told(path, error)) from error


def _cropped(image: Image.Image, side: int) -> Image.Image:
    short = min(image.size)
    left, top = ((length - short) / 2 for length in image.size)
    return image.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + short, top + short))


def _told(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"the picture {path} cannot be read ({error.strerror})"
    return f"{path} is no picture that can be read ({error}): put one there, or leave it out"
