"""The README's picture: what had passed at each point, and a line a seed for each arm."""

from __future__ import annotations

from typing import Any

import pytest

import picture

CURVES = {
    "mle": [[(0, 1.0), (100, 5.0)], [(0, 1.0), (50, 6.0), (100, 5.0)]],
    "rl": [[(100, 5.0), (120, 9.0)], [(50, 6.0), (70, 8.0)]],
    "equal_time": [[(0, 1.0), (200, 6.5)], [(0, 1.0), (200, 5.5)]],
}
SECONDS = {"mle": (100, 600.0), "rl": (95, 900.0), "equal_time": (200, 1200.0)}


@pytest.fixture
def comparison() -> dict[str, Any]:
    return {
        "primary": "accuracy",
        "arms": [
            {"name": name, "cost": {"updates": updates, "cpu_seconds": seconds}}
            for name, (updates, seconds) in SECONDS.items()
        ],
        "training_curves": {
            arm: [[{"update": update, "value": value} for update, value in curve] for curve in curves]
            for arm, curves in CURVES.items()
        },
    }


def test_rl_begins_when_its_checkpoint_was_made_and_ends_at_the_arms_mean_cost(comparison: dict[str, Any]) -> None:
    assert picture.passed(comparison, "mle", 0, 100) == 10 and picture.passed(comparison, "equal_time", 0, 100) == 10
    assert [picture.passed(comparison, "rl", begun, begun) for begun in (100, 50)] == [10, 5]
    ended = [picture.passed(comparison, "rl", begun, begun + 20) for begun in (100, 50)]
    assert sum(ended) / 2 == pytest.approx(15)


def test_every_seed_of_every_arm_has_its_line(comparison: dict[str, Any]) -> None:
    (axes,) = picture.draw(comparison).axes
    drawn = sorted(line.get_ydata().tolist() for line in axes.lines)
    assert drawn == sorted([value for _, value in curve] for curves in CURVES.values() for curve in curves)
    assert axes.get_ylabel() == "validation accuracy" and axes.get_ylim()[1] > 9
