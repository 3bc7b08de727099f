"""The program that measures what rewards cost: every one is measured, beside the library that it equals."""

from __future__ import annotations

import re

import pytest

import reward_cost
from rlseq_envs.settings.text import TEXT_REWARDS


def test_a_line_for_each_reward(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reward_cost, "INSTANCES", 3)
    monkeypatch.setattr("sys.argv", ["reward_cost.py", "--turns", "1"])
    reward_cost.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TEXT_REWARDS)
    assert len([line for line in lines if re.search(r"µs by its library", line)]) == 7


def test_values_that_differ_are_no_comparison() -> None:
    with pytest.raises(RuntimeError, match="chrf and its library differ"):
        reward_cost.measure("chrf", lambda text, other: 2.0, 1)
