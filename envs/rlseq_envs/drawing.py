"""What a task may draw of an output: a polygon among points, a picture, or a strip of numbers over time.

A drawing holds data alone. Pages draw it in ``rlseq.report.page.drawings``, figures in ``rlseq.report.plots``, each by
a table with a line for each type.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Polygon:
    """Points, and a polygon among them.

    Attributes:
        points: (n, 2) float64, at least one.
        polygon: Indices into ``points``, from 0, in drawing order; empty if the output has none.
        reference: Likewise of the reference.

    Raises:
        ValueError: There is no point, or an index names none; the message says all that is wrong.
    """

    points: npt.NDArray[np.float64]
    polygon: tuple[int, ...] = ()
    reference: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", np.asarray(self.points, np.float64))
        if self.points.ndim != 2 or self.points.shape[1] != 2 or not len(self.points):
            raise ValueError(f"points of a polygon have shape {self.points.shape}; give (n, 2) with n at least 1")
        wrong = []
        for name in ("polygon", "reference"):
            object.__setattr__(self, name, tuple(int(i) for i in getattr(self, name)))
            beyond = [i for i in getattr(self, name) if not 0 <= i < len(self.points)]
            if beyond:
                wrong.append(f"{name} names the points {beyond}; give indices from 0 to {len(self.points) - 1}")
        _raise_all(wrong)

    def reference_alone(self) -> Polygon | None:
        """The reference without the output; None if there is no reference."""
        return replace(self, polygon=()) if self.reference else None


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, grey or in colour: an output, or the source that an output is about.

    Attributes:
        pixels: (height, width) or (height, width, 3) uint8, 0 black, red before green and blue.
        reference: The picture it is compared with, likewise; None if there is none.

    Raises:
        ValueError: An array has another shape or type, or no pixel; the message says all that is wrong.
    """

    pixels: npt.NDArray[np.uint8]
    reference: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        wrong = []
        for name in ("pixels", "reference"):
            if getattr(self, name) is None:
                continue
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
            pixels = getattr(self, name)
            if pixels.dtype != np.uint8:
                wrong.append(f"{name} of a picture is {pixels.dtype}; give uint8 from 0 to 255")
            if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
                wrong.append(
                    f"{name} of a picture has shape {pixels.shape}; give (height, width) of grey "
                    "or (height, width, 3) of colour, with at least one pixel"
                )
        _raise_all(wrong)

    def reference_alone(self) -> Picture | None:
        """The reference without the output; None if there is no reference."""
        return None if self.reference is None else Picture(self.reference)


@dataclass(frozen=True, eq=False)
class Strip:
    """Numbers over time: a row of them, such as a waveform, or channels of them, such as a spectrogram or a tape.

    A row becomes a line, channels become a map of colours, the first channel at the bottom. Drawings are some hundred
    pixels wide: a long waveform may be thinned out before.

    Attributes:
        values: (time,) or (channels, time) numbers, kept as float32; no time at all is an empty strip, NaN a gap.
        reference: What it is compared with, of as many channels; None if there is none.

    Raises:
        ValueError: An array has another shape; the message says all that is wrong.
    """

    values: npt.NDArray[Any]
    reference: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        wrong = []
        for name in ("values", "reference"):
            if getattr(self, name) is None:
                continue
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float32))
            shape = getattr(self, name).shape
            if len(shape) not in (1, 2) or 0 in shape[:-1]:
                wrong.append(f"{name} of a strip has shape {shape}; give (time,) or (channels, time)")
        if not wrong and self.reference is not None and self.reference.shape[:-1] != self.values.shape[:-1]:
            shapes = f"{self.values.shape} and {self.reference.shape}"
            wrong.append(f"values and reference of a strip have shapes {shapes}; give both the same channels")
        _raise_all(wrong)

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and largest finite number of values and reference; a range above 0 in any case."""
        shown = np.concatenate([part.ravel() for part in (self.values, self.reference) if part is not None])
        finite = shown[np.isfinite(shown)].astype(np.float64)
        if not finite.size:
            return 0.0, 1.0
        low, high = float(finite.min()), float(finite.max())
        return (low, high) if low < high else (low - 0.5, high + 0.5)

    def reference_alone(self) -> Strip | None:
        """The reference without the output; None if there is no reference."""
        return None if self.reference is None else Strip(self.reference)


Drawing = Polygon | Picture | Strip


def drawing_to_json(drawing: Drawing) -> dict[str, Any]:
    """The name of the type as ``type``, and its fields.

    Points and indices are lists. Pixels and values are packed, since there are many: ``dtype``, ``shape``, and as
    ``zlib`` the array's bytes in C order, compressed, in base64.
    """
    return {"type": _name(type(drawing))} | {
        field.name: _plain(getattr(drawing, field.name)) for field in fields(drawing)
    }


def drawing_from_json(data: dict[str, Any]) -> Drawing:
    """The drawing that ``drawing_to_json`` gave this of."""
    kinds = {_name(kind): kind for kind in get_args(Drawing)}
    made: Drawing = kinds[data["type"]](**{name: _array(value) for name, value in data.items() if name != "type"})
    return made


def _name(kind: type) -> str:
    return kind.__name__.lower()


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return list(value) if isinstance(value, tuple) else value
    if value.dtype == np.float64:
        return value.tolist()
    packed = base64.b64encode(zlib.compress(value.tobytes())).decode()
    return {"dtype": str(value.dtype), "shape": list(value.shape), "zlib": packed}


def _array(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return np.frombuffer(zlib.decompress(base64.b64decode(value["zlib"])), value["dtype"]).reshape(value["shape"])


def _raise_all(wrong: list[str]) -> None:
    if wrong:
        raise ValueError("; ".join(wrong))
