"""The primitives of the page's drawings: axes and marks as inline SVG.

A drawing is as wide as the page: across, places are per cent of its width; downwards, they are pixels. So text and
marks keep their size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlseq.report.page.markup import Attribute, Markup, join, tag

TICKS = 7  # at most about as many, which fit on a phone


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes:
        low: Smallest value shown.
        high: Largest value shown.
        start: Place of ``low``.
        end: Place of ``high``.
        ticks: Values to label.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float], start: float, end: float) -> Axis:
        """An axis that holds these values, a little room around them, ticks at round numbers."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        room = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
        low, high = low - room, high + room
        rough = (high - low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(size * power for size in (1.0, 2.0, 5.0, 10.0) if size * power >= rough * 0.999)
        first, last = math.ceil(low / step), math.floor(high / step)
        return cls(low, high, start, end, tuple(round(i * step, 12) for i in range(first, last + 1)))

    def place(self, value: float) -> float:
        """Where a value stands."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 3)

    def label(self, tick: float) -> str:
        """A tick with as many decimals as its neighbours need."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else abs(tick) or 1.0
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{tick:,.{decimals}f}".replace("-", "−")


def drawing(height: float, description: str, *children: str | None) -> Markup:
    """A drawing as wide as what it stands in, ``height`` pixels high, with a text for those who do not see it."""
    return tag("svg", *children, width="100%", height=height, role="img", aria_label=description)


def fixed_drawing(width: float, height: float, description: str, *children: str | None, class_: str) -> Markup:
    """A drawing in its user units, which its style may scale."""
    view = f"0 0 {width:g} {height:g}"
    return tag(
        "svg", *children, viewBox=view, width=width, height=height, role="img", aria_label=description, class_=class_
    )


def text(x: Attribute, y: float, content: str, class_: str | None = None, **attributes: Attribute) -> Markup:
    """A line of text that stands on ``y``."""
    return tag("text", content, x=x, y=y, class_=class_, **attributes)


def line(x1: Attribute, y1: float, x2: Attribute, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def dot(x: Attribute, y: float, radius: float, class_: str, title: str | None = None) -> Markup:
    """A filled circle, ``title`` shown by the pointer above it."""
    return tag("circle", None if title is None else tag("title", title), cx=x, cy=y, r=radius, class_=class_)


def stretched(height: float, *children: str) -> Markup:
    """Shapes in per cent of the width and pixels downwards, as polylines need them; strokes keep their width."""
    view = f"0 0 100 {height:g}"
    return tag(
        "svg", *children, viewBox=view, width="100%", height=height, preserveAspectRatio="none", class_="stretched"
    )


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Straight lines from point to point."""
    return tag("polyline", points=_path(points), class_=class_)


def polygon(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A closed polyline."""
    return tag("polygon", points=_path(points), class_=class_)


def percent(place: float) -> str:
    """A place across."""
    return f"{place:g}%"


def grid_across(axis: Axis, bands: Sequence[tuple[float, float]], bottom: float) -> Markup:
    """Upright grid lines in these bands (top, end) at the ticks of the axis across, labels below ``bottom``."""
    places = [(percent(axis.place(tick)), axis.label(tick)) for tick in axis.ticks]
    lines = [line(place, top, place, end, "grid") for place, _ in places for top, end in bands]
    labels = [text(place, bottom + 15, label, "tick", text_anchor="middle") for place, label in places]
    return join(*lines, *labels)


def grid_down(axis: Axis, left: float, right: float) -> Markup:
    """Level grid lines at the ticks of the axis downwards, labels to their left."""
    lines = [line(percent(left), axis.place(tick), percent(right), axis.place(tick), "grid") for tick in axis.ticks]
    labels = [
        text(percent(left - 1), axis.place(tick) + 4, axis.label(tick), "tick", text_anchor="end")
        for tick in axis.ticks
    ]
    return join(*lines, *labels)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
