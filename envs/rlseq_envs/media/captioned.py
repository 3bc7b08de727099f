"""Pictures with captions in files: what is listed, what is said of it, and features or pixels, every fault named.

``picture_file`` has a picture a line, ``picture<TAB>split``; ``caption_file`` a caption a line,
``picture<TAB>number<TAB>split<TAB>caption``. Row i of the arrays of ``feature_file`` belongs to line i + 1 of
``picture_file``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rlseq_envs.media.pixels import check_picture, read_pixels
from rlseq_envs.settings.caption import AXES, PICTURE, CaptionSettings
from rlseq_envs.task import Ints, SplitName
from rlseq_envs.text.corpus import MAX_LINE_CHARACTERS, CorpusError, Problem, SplitReport, first_problems, read_lines

Arrays = Mapping[str, npt.NDArray[Any]]
SPLITS: dict[str, SplitName | None] = {
    "train": "train", "validation": "validation", "dev": "validation", "test": "test", "none": None,
}  # fmt: skip
_LISTED, _SAID = "`picture<TAB>split`", "`picture<TAB>number<TAB>split<TAB>caption`"
_SHAPES = {3: "(pictures, rows, columns, width)", 1: "(pictures, width)"}
_DIGITS = 10  # a caption's number has fewer


class Listed(NamedTuple):
    """A picture of ``picture_file``; its split is None if it is in none."""

    name: str
    line: int
    split: SplitName | None


@dataclass(frozen=True)
class PictureCorpus:
    """What files hold.

    Attributes:
        pictures: In the order of ``picture_file``.
        captions: Of each picture in a split by its name, as many of each.
        unlisted: Of each picture of training that ``picture_file`` lacks.
        arrays: A row a picture: features by their names, or pixels.
    """

    pictures: Sequence[Listed]
    captions: Mapping[str, Sequence[str]]
    unlisted: Sequence[Sequence[str]]
    arrays: Arrays

    def rows(self, split: SplitName) -> Ints:
        """The pictures of a split, (size,)."""
        return np.array([row for row, picture in enumerate(self.pictures) if picture.split == split], np.int64)


def read_captioned(settings: CaptionSettings) -> PictureCorpus:
    """Read all that the settings name.

    Raises:
        CorpusError: Files cannot be used; all faults of all of them.
    """
    path = str(settings.picture_file)
    pictures, problems = _read_listed(path)
    if not problems:
        missing = {"train", "validation"} - {picture.split for picture in pictures}
        problems += [Problem(path, None, f"lists no picture of split {split!r}: add some") for split in sorted(missing)]
    reader = _CaptionReader(settings, None if problems else pictures)
    problems += reader.read()
    arrays: Arrays = {}
    if not problems:
        arrays, problems = _read_arrays(settings, pictures)
    if problems:
        raise CorpusError(problems)
    chosen = {name: [said[i] for i in sorted(said)[: settings.captions]] for name, said in reader.captions.items()}
    listed = {picture.name for picture in pictures}
    return PictureCorpus(pictures, chosen, [said for name, said in chosen.items() if name not in listed], arrays)


def read_pictures(settings: CaptionSettings) -> tuple[Sequence[Listed], Arrays]:
    """Read the list, and features or pixels of all that it lists; raises as ``read_captioned``."""
    pictures, problems = _read_listed(str(settings.picture_file))
    if not problems:
        arrays, problems = _read_arrays(settings, pictures)
    if problems:
        raise CorpusError(problems)
    return pictures, arrays


# ------------------------------------------------------------------------------------------------------------- text
def _read_listed(path: str) -> tuple[list[Listed], list[Problem]]:
    pictures: list[Listed] = []
    found: list[Problem] = []
    lines: dict[str, int] = {}
    for line, text in enumerate(read_lines(path, SplitReport(), found), start=1):
        name, *rest = text.split("\t")
        if len(rest) != 1 or not name.strip():
            found.append(Problem(path, line, f"is not a name and a split: give {_LISTED}"))
        elif rest[0] not in SPLITS:
            found.append(Problem(path, line, f"split {rest[0]!r} is unknown: give one of {', '.join(SPLITS)}"))
        elif name in lines:
            found.append(Problem(path, line, f"lists {name!r} again, after line {lines[name]}: remove one of them"))
        else:
            lines[name] = line
            pictures.append(Listed(name, line, SPLITS[rest[0]]))
    return pictures, first_problems(found)


class _CaptionReader:
    """``caption_file``, line by line.

    Attributes:
        captions: By picture and number: of pictures in a split, and of those of training that are not listed.
    """

    def __init__(self, settings: CaptionSettings, pictures: Sequence[Listed] | None) -> None:
        self.settings, self.path = settings, str(settings.caption_file)
        self.pictures = pictures  # None: they are not known
        self.listed = {picture.name: picture for picture in pictures or ()}
        self.captions: dict[str, dict[int, str]] = {}

    def read(self) -> list[Problem]:
        """Read the file; what is wrong with it, and pictures that have too few captions."""
        found: list[Problem] = []
        for line, text in enumerate(read_lines(self.path, SplitReport(), found), start=1):
            columns = text.split("\t")
            if wrong := self._wrong_columns(columns) or self._wrong_picture(*columns):
                found.append(Problem(self.path, line, wrong))
                continue
            name, number, split, caption = columns
            if (self.listed[name].split if name in self.listed else split if split == "train" else None) is not None:
                self.captions.setdefault(name, {})[int(number)] = caption.strip()
        return first_problems(found or self._pictures_with_few())

    def _wrong_columns(self, columns: Sequence[str]) -> str | None:
        if len(columns) != 4 or not columns[0].strip():
            return f"is not a name, a number, a split and a caption: give {_SAID}"
        _, number, split, caption = columns
        if not (number.isascii() and number.isdigit() and len(number) < _DIGITS):
            return f"{number!r} is no number of a caption: give {_SAID}"
        if split not in SPLITS:
            return f"split {split!r} is unknown: give one of {', '.join(SPLITS)}"
        if not caption.strip():
            return "the caption is empty: write it, or remove the line"
        if len(caption) > MAX_LINE_CHARACTERS:
            return f"the caption has {len(caption)} characters, more than {MAX_LINE_CHARACTERS}: shorten it"
        return None

    def _wrong_picture(self, name: str, number: str, split: str, caption: str) -> str | None:
        list_file, picture = self.settings.picture_file, self.listed.get(name)
        if int(number) in self.captions.get(name, ()):
            return f"is caption {int(number)} of {name!r} again: number the captions of a picture differently"
        if self.pictures is None:
            return None
        if picture is None:
            remedy = "list it, or set task.skip_unlisted to true"
            return None if self.settings.skip_unlisted else f"{list_file} does not list {name!r}: {remedy}"
        if picture.split != SPLITS[split]:
            return f"{name!r} is of split {split!r} here, but not in {list_file}:{picture.line}: give it one split"
        return None

    def _pictures_with_few(self) -> list[Problem]:
        list_file, most = str(self.settings.picture_file), self.settings.captions
        remedy = f"fewer than task.captions {most}: add some, set task.captions to less, or the split to none"
        counted = ((picture, len(self.captions.get(picture.name, ()))) for picture in self.pictures or ())
        return [
            Problem(list_file, picture.line, f"{picture.name!r} has {count} captions in {self.path}, {remedy}")
            for picture, count in counted
            if picture.split and count < most
        ]


# ------------------------------------------------------------------------------------------------ numbers and pixels
def _read_arrays(settings: CaptionSettings, pictures: Sequence[Listed]) -> tuple[Arrays, list[Problem]]:
    """Features, or pixels if there are none; pictures beside features are looked at."""
    arrays: Arrays = {}
    problems: list[Problem] = []
    if settings.feature_file:
        arrays, problems = _read_features(settings.feature_file, settings, pictures)
    if settings.picture_directory:
        pixels, wrong = _read_pixels(settings, pictures)
        arrays, problems = arrays or {PICTURE: pixels}, problems + wrong
    return arrays, problems


def _read_features(
    path: str, settings: CaptionSettings, pictures: Sequence[Listed]
) -> tuple[dict[str, npt.NDArray[Any]], list[Problem]]:
    """Arrays as they are stored."""
    try:
        with np.load(path, allow_pickle=False) as file:
            there = list(file)
            arrays: dict[str, npt.NDArray[Any]] = {name: file[name] for name in settings.features if name in there}
    except Exception as error:  # of numpy, zipfile and zlib, whatever a damaged file makes of them
        told = getattr(error, "strerror", None) or error
        return {}, [Problem(path, None, f"cannot be read as .npz ({told}): write it with numpy.savez")]
    found = []
    for name in settings.features:
        if name not in arrays:
            found.append(f"has no array {name!r}, only {', '.join(there) or 'none'}: name another in task.features")
        elif wrong := _wrong_array(arrays[name], AXES[name], settings, pictures):
            found.append(f"array {name!r} {wrong}")
    return arrays, [Problem(path, None, wrong) for wrong in found]


def _wrong_array(
    values: npt.NDArray[Any], axes: int, settings: CaptionSettings, pictures: Sequence[Listed]
) -> str | None:
    if values.dtype.kind not in "fiu":
        return f"holds {values.dtype}: give real numbers"
    if values.ndim != axes + 1 or 0 in values.shape:
        return f"has shape {values.shape}: give {_SHAPES[axes]}, none of them 0"
    if len(values) != len(pictures):
        lines = f"{settings.picture_file} has {len(pictures)} lines"
        return f"has {len(values)} rows, but {lines}: give a row for each"
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        return f"has numbers that are not finite in row {row} (from 0), of {pictures[row].name!r}: make it anew"
    return None


def _read_pixels(settings: CaptionSettings, pictures: Sequence[Listed]) -> tuple[npt.NDArray[np.uint8], list[Problem]]:
    """Pixels (pictures, side, side, 3); of pictures that are drawn alone the heads are looked at, and nothing read."""
    directory, side = Path(str(settings.picture_directory)), settings.picture_size
    draws_alone = bool(settings.feature_file)
    pixels = np.zeros((0 if draws_alone else len(pictures), side, side, 3), np.uint8)
    found = []
    for row, picture in enumerate(pictures):
        place = directory / picture.name
        try:
            if draws_alone:
                check_picture(place)
            else:
                pixels[row] = read_pixels(place, side)
        except ValueError as error:
            found.append(Problem(str(settings.picture_file), picture.line, str(error)))
    return pixels, first_problems(found)
