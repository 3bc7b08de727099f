"""Figures of a comparison as text: each metric with as many decimals as it needs, each arm with its colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlseq.report.lines import format_value

MISSING = "–"
CONTROLS = 6  # colours for arms that are neither mle nor rl


def decimals(result: Mapping[str, Any], metric: str) -> int:
    """2 for per cent, 3 below 10, 4 below 1: differences are then written with the digits of what they differ."""
    values = [arm["metrics"].get(metric) for arm in result["arms"]]
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return 2 if largest >= 10 else 3 if largest > 1 else 4


def number(value: float | None, digits: int | None = None) -> str:
    """A value with ``digits`` decimals, by default with four digits; a dash if there is none."""
    if value is None:
        return MISSING
    return (format_value(value) if digits is None else f"{value:,.{digits}f}").replace("-", "−")


def signed(value: float | None, digits: int) -> str:
    """A difference with its sign."""
    return MISSING if value is None else f"{value:+,.{digits}f}".replace("-", "−")


def interval(ends: Sequence[float] | None, digits: int, sign: bool = False) -> str:
    """An interval in brackets; with ``sign``, of a difference."""
    if ends is None:
        return MISSING
    low, high = (signed(end, digits) if sign else number(end, digits) for end in ends)
    return f"[{low},\N{NO-BREAK SPACE}{high}]"


def arm_colors(arms: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name of an arm to the class that gives its colour: grey for mle, blue for rl, the others in turn."""
    fixed = {"mle": "arm-mle", "reward": "arm-reward"}
    colors: dict[str, str] = {}
    for arm in arms:
        color = fixed.get(arm["role"])
        others = sum(name not in fixed.values() for name in colors.values())
        colors[arm["name"]] = color if color and color not in colors.values() else f"arm-{others % CONTROLS}"
    return colors


def metric_names(result: Mapping[str, Any]) -> list[str]:
    """All metrics of all arms, the primary one first."""
    found = dict.fromkeys(name for arm in result["arms"] for name in arm["metrics"])
    return sorted(found, key=lambda name: name != result["primary"])
