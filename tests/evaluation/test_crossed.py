"""Intervals of means over seeds and instances: against variances worked out otherwise, and in simulations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

import interval_coverage
from rlseq.evaluation import crossed
from rlseq.evaluation.crossed import Part, cochran_cox, crossed_difference, crossed_mean
from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.significance import Floats
from rlseq.evaluation.student import critical_value


def table(generator: np.random.Generator, seeds: int, instances: int) -> Floats:
    return np.asarray(
        generator.normal(0, 0.3, (seeds, 1))
        + generator.normal(0, 1, instances)
        + generator.normal(0, 2, (seeds, instances))
    )


def mean_squares(values: Floats) -> tuple[float, float, float]:
    """Of seeds, instances and residuals, as the textbook's two-way table without replication has them."""
    seeds, instances = values.shape
    total = ((values - values.mean()) ** 2).sum()
    of_seeds = instances * ((values.mean(axis=1) - values.mean()) ** 2).sum()
    of_instances = seeds * ((values.mean(axis=0) - values.mean()) ** 2).sum()
    left = total - of_seeds - of_instances
    return of_seeds / (seeds - 1), of_instances / (instances - 1), left / ((seeds - 1) * (instances - 1))


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_variance_is_that_of_the_analysis_of_variance(seeds: int) -> None:
    values = table(np.random.default_rng(seeds), seeds, 50) + 1.0
    of_seeds, of_instances, residual = mean_squares(values)
    variance = (of_seeds + of_instances - residual) / values.size  # unbiased; Searle, Casella & McCulloch 1992
    parts = of_seeds / values.size, (of_instances - residual) / values.size
    t = [scipy.stats.t.ppf(0.975, df) for df in (seeds - 1, 49)]
    half = math.sqrt(variance) * float(np.dot(parts, t)) / variance
    found = crossed_mean(values)
    assert found.delta == pytest.approx(values.mean())
    assert found.ci95 == pytest.approx((values.mean() - half, values.mean() + half))


def test_without_noise_of_instances_it_is_the_t_test_over_seeds() -> None:
    of_seeds = np.array([[1.0], [2.5], [0.7], [1.9]])
    residuals = np.random.default_rng(0).normal(0, 1, (4, 30))
    residuals -= residuals.mean(axis=0) + residuals.mean(axis=1, keepdims=True) - residuals.mean()
    found, oracle = crossed_mean(of_seeds + residuals), scipy.stats.ttest_1samp(of_seeds[:, 0], 0)
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-5)
    assert found.ci95 == pytest.approx(tuple(oracle.confidence_interval()))


def test_without_noise_of_seeds_it_is_the_t_test_over_instances() -> None:
    values = np.tile(np.random.default_rng(0).normal(0.1, 1, 60), (3, 1))
    oracle = scipy.stats.ttest_1samp(values[0], 0)
    for found in (crossed_mean(values), crossed_mean(values[:1])):
        assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-5)
        assert found.ci95 == pytest.approx(tuple(oracle.confidence_interval()))


def test_seeds_that_are_not_paired_bring_their_variances_both() -> None:
    generator = np.random.default_rng(2)
    first, second = np.repeat(generator.normal(0, 1, (4, 1)), 50, 1), np.repeat(generator.normal(1, 1, (3, 1)), 50, 1)
    found, oracle = crossed_difference(first, second), scipy.stats.ttest_ind(second[:, 0], first[:, 0], equal_var=False)
    assert found.delta / oracle.statistic == pytest.approx(
        math.sqrt(first[:, 0].var(ddof=1) / 4 + second[:, 0].var(ddof=1) / 3)
    )
    assert found.p_value >= oracle.pvalue  # Welch's test uses Satterthwaite's degrees of freedom
    swapped = crossed_difference(second, first)
    assert swapped.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]))


def test_a_fixed_system_has_no_variance_of_seeds() -> None:
    generator = np.random.default_rng(3)
    values, fixed = table(generator, 3, 40), generator.normal(0, 1, 40)
    against = crossed_difference(fixed[None], values)
    alone = crossed_mean(values - fixed)
    assert (against.delta, against.p_value) == pytest.approx((alone.delta, alone.p_value))
    assert against.ci95 == pytest.approx(alone.ci95)


@pytest.mark.parametrize("t", [0.3, 2.0, 4.0, 30.0])
def test_the_p_value_is_the_level_at_which_the_interval_ends_at_zero(t: float) -> None:
    parts = [Part(0.4, 2), Part(0.6, 299)]
    p = cochran_cox(t, parts).p_value
    assert 0.4 * critical_value(p, 2) + 0.6 * critical_value(p, 299) == pytest.approx(t, rel=1e-6)
    low, _ = cochran_cox(t, parts).ci95
    assert (p < 0.05) == (low > 0)


def test_values_that_are_all_equal_leave_no_doubt() -> None:
    assert crossed_mean(np.zeros((3, 10))).p_value == 1.0
    assert crossed_mean(np.ones((3, 10))).ci95 == (1.0, 1.0)
    assert crossed_mean(np.ones((3, 10))).p_value == 0.0


def test_one_instance_is_refused() -> None:
    with pytest.raises(EvaluationError, match="judge on two or more"):
        crossed_mean(np.ones((3, 1)))


def test_satterthwaites_interval_would_fail_where_this_one_holds() -> None:
    """Nine tenths of the variance are the seeds', of which there are 3; the rest is known. The coverage is exact."""
    covered: list[Any] = []
    for spread in scipy.stats.chi2.ppf((np.arange(200) + 0.5) / 200, 2) / 2:
        variance, df = 0.9 * spread + 0.1, (0.9 * spread + 0.1) ** 2 / ((0.9 * spread) ** 2 / 2)
        _, half = cochran_cox(0.0, [Part(0.9 * spread, 2), Part(0.1, 10_000)]).ci95
        covered.append(1 - 2 * scipy.stats.norm.sf([half, scipy.stats.t.ppf(0.975, df) * math.sqrt(variance)]))
    holds, satterthwaite = np.mean(covered, axis=0)
    assert satterthwaite < 0.925
    assert 0.95 < holds < 0.96


@pytest.mark.parametrize("regime", interval_coverage.REGIMES, ids=lambda regime: regime.name)
def test_the_interval_covers_the_truth_at_three_seeds(
    regime: interval_coverage.Regime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interval_coverage, "INSTANCES", 100)
    monkeypatch.setattr(interval_coverage, "RESAMPLES", 1)
    monkeypatch.setattr(crossed, "_p_value", lambda *_: 1.0)  # it takes nine tenths of the time
    truth = regime.truth(0.0) if regime.fixed else 0.0
    hits = interval_coverage.held(regime, 3, 200, 0.0, truth)[:, 0]
    assert 0.90 < hits.mean() <= 0.99
