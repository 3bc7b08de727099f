"""Pictures from an .npz file: what pixels are learned from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.media.archives import BROKEN_ARCHIVE
from rlseq_envs.task import Bools, Ints, SplitName

INK = 128  # a grey pixel is set from here on
NAMES: dict[SplitName, str] = {"train": "train", "validation": "valid", "test": "test"}  # in the file


@dataclass(frozen=True)
class Pictures:
    """Pictures in black and white.

    Attributes:
        packed: (pictures, bytes) uint8, eight pixels a byte as ``numpy.packbits`` has them, row by row.
        digits: (pictures,) what each shows, from 0 to 9; None: nobody knows.
    """

    packed: npt.NDArray[np.uint8]
    digits: Ints | None

    def __len__(self) -> int:
        return len(self.packed)

    def pixels(self, rows: Ints, count: int) -> Bools:
        """The first ``count`` pixels of some pictures, (rows, count)."""
        return np.unpackbits(self.packed[rows], axis=1, count=count).astype(np.bool_)

    def part(self, start: int, stop: int) -> Pictures:
        """Consecutive pictures."""
        return Pictures(self.packed[start:stop], None if self.digits is None else self.digits[start:stop])


def read_pictures(path: str | Path, side: int) -> dict[SplitName, Pictures]:
    """Read ``train``, ``valid`` and ``test`` of a file, and ``train_y`` … of those that are labelled.

    Pictures are (pictures, side, side) uint8, grey, or packed, (pictures, bytes) uint8. ``train_x`` … will do as names.
    Without ``valid`` the last of ``train``, as many as ``test`` has, are validated on.

    Raises:
        ValueError: The file is missing or cannot be used; a line for each problem.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file of pictures")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except BROKEN_ARCHIVE as problem:
        told = " ".join(str(problem).split()) or type(problem).__name__
        raise ValueError(f"{path}: not a readable .npz file ({told}); write it with numpy.savez") from None
    found, problems = {}, []
    for split, name in NAMES.items():
        pixels = arrays.get(name, arrays.get(f"{name}_x"))
        if pixels is not None:
            wrong = [*_wrong_pixels(pixels, side), *_wrong_digits(arrays.get(f"{name}_y"), pixels)]
            problems += [f"{path}: {name}: {problem}" for problem in wrong]
            if not wrong:
                found[split] = _packed(pixels, arrays.get(f"{name}_y"))
        elif split != "validation":
            problems.append(f"{path}: there is no array {name!r}, but {', '.join(arrays) or 'none'}")
    if not problems and "validation" not in found and len(found["train"]) <= len(found["test"]):
        problems.append(f"{path}: train has no more pictures than test, and there is no array 'valid': add one")
    if problems:
        raise ValueError("\n".join(problems))
    if "validation" not in found:
        kept = len(found["train"]) - len(found["test"])
        found["validation"] = found["train"].part(kept, len(found["train"]))
        found["train"] = found["train"].part(0, kept)
    return found


def _wrong_pixels(pixels: npt.NDArray[Any], side: int) -> list[str]:
    packed = -(-(side**2) // 8)
    if pixels.dtype != np.uint8 or pixels.shape[1:] not in ((side, side), (packed,)) or not len(pixels):
        return [
            f"{pixels.dtype} of shape {pixels.shape}; give uint8 (pictures, {side}, {side}), or packed (pictures, "
            f"{packed}), at least one picture, or set task.side"
        ]
    return []


def _wrong_digits(digits: npt.NDArray[Any] | None, pixels: npt.NDArray[Any]) -> list[str]:
    if digits is None:
        return []
    if digits.shape != pixels.shape[:1] or digits.dtype.kind not in "iu":
        return [f"labels are {digits.dtype} of shape {digits.shape}; give ({len(pixels)},) whole numbers from 0 to 9"]
    outside = np.flatnonzero((digits < 0) | (digits > 9))
    return [f"label {outside[0]} is {digits[outside[0]]}; give numbers from 0 to 9"] if len(outside) else []


def _packed(pixels: npt.NDArray[Any], digits: npt.NDArray[Any] | None) -> Pictures:
    if pixels.ndim == 3:
        # Of zeros and ones, one is set; of shades of grey, the brighter half.
        pixels = np.packbits((pixels >= (INK if pixels.max() > 1 else 1)).reshape(len(pixels), -1), axis=1)
    return Pictures(pixels, None if digits is None else digits.astype(np.int64))
