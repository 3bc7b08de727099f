"""Made digits: strokes of a pen, slanted, stretched and shaken. A digit is a function of seed and id alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from rlseq_envs.counters import counter_uniforms
from rlseq_envs.task import Bools, Floats, Ints

# Corners of the pen's way in each digit, x to the right and y downwards in [−1, 1]; a digit may have two strokes.
STROKES: tuple[tuple[tuple[tuple[float, float], ...], ...], ...] = (
    (((0, -1), (0.45, -0.8), (0.6, 0), (0.45, 0.8), (0, 1), (-0.45, 0.8), (-0.6, 0), (-0.45, -0.8), (0, -1)),),
    (((-0.3, -0.6), (0.1, -1), (0.1, 1)),),
    (((-0.55, -0.6), (-0.3, -0.95), (0.25, -0.95), (0.55, -0.55), (0.35, -0.05), (-0.6, 1), (0.6, 1)),),
    (
        (
            *((-0.5, -0.8), (0, -1), (0.45, -0.8), (0.4, -0.25), (-0.1, -0.05)),
            *((0.45, 0.2), (0.55, 0.6), (0.1, 1), (-0.55, 0.8)),
        ),
    ),
    (((0.05, -1), (-0.6, 0.3), (0.6, 0.3)), ((0.3, -0.3), (0.3, 1))),
    (((0.5, -1), (-0.4, -1), (-0.5, -0.1), (0.1, -0.25), (0.55, 0.15), (0.45, 0.75), (0, 1), (-0.55, 0.8)),),
    (((0.3, -1), (-0.3, -0.4), (-0.55, 0.3), (-0.3, 0.95), (0.3, 0.95), (0.55, 0.45), (0.2, 0), (-0.5, 0.25)),),
    (((-0.6, -1), (0.6, -1), (-0.1, 1)),),
    (
        (
            *((0, -0.05), (-0.45, -0.4), (-0.4, -0.85), (0, -1), (0.4, -0.85), (0.45, -0.4), (0, -0.05)),
            *((-0.5, 0.4), (-0.4, 0.85), (0, 1), (0.4, 0.85), (0.5, 0.4), (0, -0.05)),
        ),
    ),
    (((0.5, -0.35), (0.1, 0), (-0.4, -0.2), (-0.5, -0.6), (-0.1, -1), (0.4, -0.85), (0.5, -0.35), (0.3, 1)),),
)
_SHAPED = 7  # uniforms that say how a digit is drawn
_FROM_SHAPE, _FROM_EDGES, _FROM_CORNERS = range(3)  # counters of their own
_EDGE = 0.25  # how soft the edge of a stroke is, in pixels: the smaller, the surer is each pixel
_DRAWN_TOGETHER = 256  # pictures whose distances exist at once


def _segments() -> tuple[Floats, Floats]:
    """Both ends of each digit's segments, (10, most segments, 2) each; short digits repeat their last one."""
    each = [[pair for stroke in digit for pair in pairwise(stroke)] for digit in STROKES]
    most = max(map(len, each))
    ends = np.array([pairs + pairs[-1:] * (most - len(pairs)) for pairs in each], np.float64)
    return ends[:, :, 0], ends[:, :, 1]


_BEGIN, _END = _segments()


def digits_of(seed: int, ids: Ints) -> Ints:
    """Which digit each id is, (pictures,) from 0 to 9."""
    return (counter_uniforms(seed, _FROM_SHAPE, ids, 1, 1)[:, 0, 0] * 10).astype(np.int64)


def draw_digits(seed: int, ids: Ints, side: int) -> Bools:
    """Pictures (pictures, side, side), True where there is ink.

    Args:
        seed: Chooses the family.
        ids: (pictures,).
        side: Height and width in pixels.
    """
    parts = [ids[start : start + _DRAWN_TOGETHER] for start in range(0, len(ids), _DRAWN_TOGETHER)]
    return np.concatenate([np.zeros((0, side, side), np.bool_), *(_draw(seed, part, side) for part in parts)])


def _draw(seed: int, ids: Ints, side: int) -> Bools:
    digits = digits_of(seed, ids)
    draws = 2 * counter_uniforms(seed, _FROM_SHAPE, ids, 1, 1 + _SHAPED)[:, 0, 1:].T - 1
    turn, slant, wide, high, right, down, thick = draws[:, :, None, None]
    begin, end = _shaken(seed, ids, digits)
    # A digit is slanted, turned and stretched: a linear map of its corners, which then are somewhere in the picture.
    angle, size = 0.2 * turn, side * 0.36
    x, y = (np.stack([begin[..., axis], end[..., axis]], 2) for axis in (0, 1))
    x, y = (1 + 0.2 * wide) * (x - (0.1 + 0.2 * slant) * y), (1 + 0.12 * high) * y
    x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    x, y = (size * (place + 0.1 * moved) + side / 2 for place, moved in ((x, right), (y, down)))
    distance = _distance(x, y, side)
    width = side * (0.05 + 0.02 * thick)
    ink = 1 / (1 + np.exp((distance - width) / _EDGE))
    return counter_uniforms(seed, _FROM_EDGES, ids, 1, side * side)[:, 0].reshape(ink.shape) < ink


def _shaken(seed: int, ids: Ints, digits: Ints) -> tuple[Floats, Floats]:
    """Both ends of each segment, (pictures, segments, 2): every corner is moved a little, wherever it is an end."""
    ends = np.stack([_BEGIN[digits], _END[digits]], 2)
    waves = counter_uniforms(seed, _FROM_CORNERS, ids, 1, 6)[:, 0].reshape(-1, 3, 2)[:, None, None]
    # Waves over the plane move equal corners alike, so that strokes stay whole.
    phase = 2 * np.pi * waves[..., 0, :] + 2.5 * ends[..., ::-1] * (0.5 + waves[..., 1, :])
    ends = ends + 0.12 * np.sin(phase) * (0.5 + waves[..., 2, :])
    return ends[:, :, 0], ends[:, :, 1]


def _distance(x: Floats, y: Floats, side: int) -> Floats:
    """From each pixel to the nearest segment, (pictures, side, side), of ends (pictures, segments, 2) in pixels."""
    place = np.arange(side) + 0.5
    nearest = np.full((len(x), side, side), np.inf)
    for segment in range(x.shape[1]):
        (x0, x1), (y0, y1) = (ends[:, segment].T[:, :, None, None] for ends in (x, y))
        along_x, along_y = x1 - x0, y1 - y0
        right, down = place - x0, place[:, None] - y0
        length = np.maximum(along_x**2 + along_y**2, 1e-9)
        nearest_on_it = (right * (along_x / length) + down * (along_y / length)).clip(0, 1)
        right, down = right - nearest_on_it * along_x, down - nearest_on_it * along_y
        np.minimum(nearest, right * right + down * down, out=nearest)
    return np.sqrt(nearest)
