"""The collapse monitor: silent on noise and slow starts, loud on a fall."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rlseq.training.monitor import FALL, WINDOW, CollapseMonitor


def first_suspicion(rewards: list[float]) -> int | None:
    monitor = CollapseMonitor()
    for update, reward in enumerate(rewards):
        monitor.add([reward])
        if monitor.suspicious():
            return update
    return None


def test_a_fall_is_noticed_within_one_window() -> None:
    when = first_suspicion([0.5] * 60 + [0.1] * WINDOW)
    assert when is not None and 60 < when < 60 + WINDOW
    # By hand: the window's mean passes 0.7 × 0.5 with the 8th low reward of 20 (0.5 − 8 × 0.02 = 0.34).
    assert when == 67


def test_noise_and_growth_are_not_suspicious() -> None:
    generator = np.random.default_rng(0)
    assert first_suspicion((0.3 + 0.05 * generator.standard_normal(2000)).tolist()) is None
    assert first_suspicion(np.linspace(0.0, 1.0, 300).tolist()) is None
    assert first_suspicion([1.0] * 5 + [0.0] * (WINDOW - 6)) is None  # no full window to compare with


def test_a_rare_reward_that_stays_away_is_not_suspicious() -> None:
    """Two lucky updates in a window of nothing say little about the law they were drawn from."""
    lucky = [0.0] * 30 + [0.004, 0.0, 0.0, 0.004] + [0.0] * 100
    assert first_suspicion(lucky) is None


def test_a_slow_slide_is_noticed_too() -> None:
    when = first_suspicion(np.linspace(0.5, 0.2, 300).tolist())
    assert when is not None and np.linspace(0.5, 0.2, 300)[when] > 0.5 * FALL * 0.9


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_rewards_that_are_never_positive_raise_no_alarm(level: float) -> None:
    assert first_suspicion([level] * 100) is None


def test_it_survives_json_in_the_middle_of_a_window() -> None:
    monitor = CollapseMonitor()
    monitor.add([0.1 + 0.01 * i for i in range(27)])
    again = CollapseMonitor.from_dict(json.loads(json.dumps(monitor.to_dict())))
    assert again == monitor and len(again.recent) == WINDOW
    assert again.level() == pytest.approx(0.1 + 0.01 * np.arange(7, 27).mean())
