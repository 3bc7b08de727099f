"""Which points of a polygon a drawing names: two hundred names would hide what they name."""

from __future__ import annotations

from collections.abc import Sequence

from rlseq_envs.drawing import Polygon

MOST = 20  # points that all have room for their names


def named_points(drawn: Polygon) -> Sequence[int]:
    """The points that a drawing names: all of a few, only the corners of the polygons of many."""
    count = len(drawn.points)
    return range(count) if count <= MOST else sorted({*drawn.polygon, *drawn.reference})
