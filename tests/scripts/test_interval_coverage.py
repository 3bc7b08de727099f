"""The simulated arms behind the table of coverage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

import interval_coverage
import studies
from interval_coverage import REGIMES, Regime

KEYS = ("coverage_crossed", "coverage_percentile", "alarms_crossed", "alarms_percentile")


@pytest.mark.parametrize("regime", REGIMES, ids=lambda regime: regime.name)
def test_arms_have_the_effect_they_should(regime: Regime) -> None:
    first, second = regime.arms(np.random.default_rng(0), 4, regime.effect)
    assert len(first.points) == (1 if regime.fixed else 4)
    assert second.points.shape == (4,)
    assert second.linearised.shape[1] == first.linearised.shape[1] == interval_coverage.INSTANCES
    assert second.points.mean() > first.points.mean()


def test_the_truth_of_a_mean_is_its_effect() -> None:
    assert REGIMES[2].truth(0.3) == pytest.approx(0.3)
    assert REGIMES[2].truth(0.0) == 0.0


def test_both_intervals_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval_coverage, "INSTANCES", 30)
    monkeypatch.setattr(interval_coverage, "RESAMPLES", 40)
    result = interval_coverage.coverage(8, seeds=(3,), regimes=REGIMES[2:3])
    assert {"simulations": 8, "instances": 30, "resamples": 40}.items() <= result.items()
    row = result["rows"][0]
    assert (row["regime"], row["seeds"]) == (REGIMES[2].name, 3)
    assert all(row[key] % 12.5 == 0 for key in KEYS)  # of 8
    assert 0 <= row["alarms_crossed"] <= 25 and 75 <= row["coverage_crossed"] <= 100


def test_the_table_names_a_regime_once() -> None:
    figures = dict(zip(KEYS, (95.0, 80.25, 5.0, 19.0), strict=True))
    rows = [{"regime": "accuracy", "seeds": seeds} | figures for seeds in (3, 5)]
    assert interval_coverage.coverage_table({"rows": rows})[2:] == [
        "| accuracy | 3 | 95.0 | 80.2 | 5.0 | 19.0 |",
        "|  | 5 | 95.0 | 80.2 | 5.0 | 19.0 |",
    ]


def test_the_recorded_intervals_hold() -> None:
    rows = json.loads((Path(studies.STUDIES) / "coverage.json").read_text(encoding="utf-8"))["rows"]
    assert {(row["regime"], row["seeds"]) for row in rows} == {(r.name, s) for r in REGIMES for s in (3, 5, 10)}
    assert all(92 <= row["coverage_crossed"] <= 98 and row["alarms_crossed"] <= 6 for row in rows)
    assert max(row["alarms_percentile"] for row in rows if row["seeds"] == 3) > 15


def test_bleu_is_sacrebleus() -> None:
    _, arm = REGIMES[5].arms(np.random.default_rng(1), 2, 0.0)
    for totals in arm.statistics.sum(axis=1):
        assert interval_coverage.bleu(totals) == pytest.approx(BLEU()._compute_score_from_stats(totals).score)
