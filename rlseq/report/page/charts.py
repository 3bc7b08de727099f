"""Charts of figures: strips of points with means and intervals, and curves with bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rlseq.report.page.markup import Markup, join, tag
from rlseq.report.page.svg import (
    Axis,
    dot,
    drawing,
    grid_across,
    grid_down,
    line,
    percent,
    polygon,
    polyline,
    stretched,
    text,
)

Interval = Sequence[float]  # low, high
ROW, CURVES_HEIGHT = 42, 230  # pixels
DOTTED = 10  # curves of at most so many points have a dot at each


class Point(NamedTuple):
    """A point of a strip: its value, what the pointer shows above it, and its colour's class if not the strip's."""

    value: float
    title: str
    color: str | None = None


@dataclass(frozen=True)
class Strip:
    """A row of a strip chart.

    Attributes:
        label: What it is of.
        note: Figures beside the label.
        color: Class that gives its colour.
        points: What it shows one by one.
        mean: Drawn as an upright line.
        interval: Drawn as a bar.
    """

    label: str
    note: str
    color: str
    points: Sequence[Point]
    mean: float | None = None
    interval: Interval | None = None

    def values(self) -> list[float]:
        """All that it shows."""
        mean = [] if self.mean is None else [self.mean]
        return [*(point.value for point in self.points), *mean, *(self.interval or ())]


def strip_chart(strips: Sequence[Strip], description: str, zero: bool = False) -> Markup:
    """One strip below the other over the same axis; with ``zero``, no difference is marked and always in sight."""
    values = [value for strip in strips for value in strip.values()]
    axis = Axis.of([*values, 0.0] if zero else values, 3.0, 97.0)
    bottom = ROW * len(strips) + 4
    bands = [(ROW * row + 19, ROW * row + 39) for row in range(len(strips))]  # between the labels
    parts = [grid_across(axis, bands, bottom)]
    if zero:
        place = percent(axis.place(0.0))
        parts += [line(place, top, place, end, "zero") for top, end in bands]
    parts += [_strip(strip, axis, ROW * row) for row, strip in enumerate(strips)]
    said = "; ".join(f"{strip.label} {strip.note}" for strip in strips)
    return drawing(bottom + 20, f"{description}: {said}", *parts)


def _strip(strip: Strip, axis: Axis, top: float) -> Markup:
    middle = top + 29
    parts: list[Markup] = []
    if strip.interval is not None:
        low, high = (percent(axis.place(value)) for value in strip.interval)
        parts.append(line(low, middle, high, middle, "interval"))
    if strip.mean is not None:
        place = percent(axis.place(strip.mean))
        parts.append(line(place, middle - 8, place, middle + 8, "mean"))
    for point in strip.points:
        mark = "point" if point.color is None else f"point {point.color}"
        parts.append(dot(percent(axis.place(point.value)), middle, 4, mark, point.title))
    label = tag("text", tag("tspan", strip.label, class_="name"), f"  {strip.note}", x="0", y=top + 15, class_="label")
    return tag("g", label, *parts, class_=strip.color)


@dataclass(frozen=True)
class Curve:
    """A curve of a chart.

    Attributes:
        label: What it is of.
        color: Class that gives its colour.
        points: (x, y) in the order of x.
        band: (x, low, high) likewise; empty if there is none.
    """

    label: str
    color: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


def curve_chart(curves: Sequence[Curve], description: str, across: str, doubling: bool = False) -> Markup:
    """Curves with their bands and a key; ``across`` names the axis below, which with ``doubling`` is logarithmic."""
    shown = [_doubling(curve) for curve in curves] if doubling else curves
    ys = [y for curve in shown for _, y in curve.points]
    ys += [y for curve in shown for _, *ends in curve.band for y in ends]
    xs = [x for curve in shown for x, _ in curve.points]
    plain = Axis.of(xs, 11.0, 99.0)
    x_axis = _PowersOfTwo(plain.low, plain.high, 11.0, 99.0, tuple(sorted(set(xs)))) if doubling else plain
    y_axis = Axis.of(ys, CURVES_HEIGHT - 38.0, 6.0)
    shapes = [_shape(curve, x_axis, y_axis) for curve in shown]
    dots = [_dots(curve, x_axis, y_axis) for curve in shown if len(curve.points) <= DOTTED]
    chart = drawing(
        CURVES_HEIGHT,
        f"{description}: {'; '.join(map(_said, curves))}",
        grid_down(y_axis, 11, 99),
        grid_across(x_axis, [(CURVES_HEIGHT - 38, CURVES_HEIGHT - 34)], CURVES_HEIGHT - 34),
        text("55%", CURVES_HEIGHT - 3, across, "tick", text_anchor="middle"),
        stretched(CURVES_HEIGHT, *shapes),
        *dots,
    )
    return join(key([(curve.label, curve.color) for curve in curves]), chart)


def key(entries: Sequence[tuple[str, str]]) -> Markup:
    """Label and colour of each arm, once."""
    items = [tag("li", tag("i", class_=color), label) for label, color in dict.fromkeys(entries)]
    return tag("ul", *items, class_="key")


class _PowersOfTwo(Axis):
    """An axis of log2 x, labelled by x."""

    def label(self, tick: float) -> str:
        return f"{2**tick:g}"


def _doubling(curve: Curve) -> Curve:
    points = [(math.log2(x), y) for x, y in curve.points]
    return Curve(curve.label, curve.color, points, [(math.log2(x), low, high) for x, low, high in curve.band])


def _shape(curve: Curve, x_axis: Axis, y_axis: Axis) -> Markup:
    path = [(x_axis.place(x), y_axis.place(y)) for x, y in curve.points]
    above = [(x_axis.place(x), y_axis.place(high)) for x, _, high in curve.band]
    below = [(x_axis.place(x), y_axis.place(low)) for x, low, _ in curve.band]
    band = [polygon([*above, *reversed(below)], "band")] if curve.band else []
    return tag("g", *band, polyline(path, "curve"), class_=curve.color)


def _dots(curve: Curve, x_axis: Axis, y_axis: Axis) -> Markup:
    mark = f"point {curve.color}"
    places = [(percent(x_axis.place(x)), y_axis.place(y), f"{curve.label}: {y:.4g}") for x, y in curve.points]
    return join(*(dot(x, y, 3.5, mark, title) for x, y, title in places))


def _said(curve: Curve) -> str:
    (first, begun), (last, ended) = curve.points[0], curve.points[-1]
    return f"{curve.label} from {begun:.4g} at {first:g} to {ended:.4g} at {last:g}"
