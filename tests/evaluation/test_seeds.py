"""Comparisons over seeds and instances."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.stats
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.seeds import (
    Scores,
    SeedDifference,
    aggregate,
    best_control,
    bootstrap,
    compare_arms,
    difference,
    holm,
    of_means,
    of_text,
)
from rlseq.evaluation.significance import (
    Floats,
    approximate_randomization,
    compare_means,
    compare_proportions,
    compare_text,
    score_text,
)

WORDS = "a small brown dog runs over the green grass and jumps into cold water".split()
METRICS = [BLEU(), CHRF(), TER()]
by_metric = pytest.mark.parametrize("metric", METRICS, ids=["bleu", "chrf", "ter"])


def corpus(seed: int, size: int = 60, noise: float = 0.3) -> tuple[list[str], list[list[str]]]:
    """Hypotheses that are their references with some words exchanged, and two reference streams."""
    words, changes = np.random.default_rng(7), np.random.default_rng(seed)
    references = [[" ".join(words.choice(WORDS, words.integers(4, 12))) for _ in range(size)] for _ in range(2)]
    return [
        " ".join(changes.choice(WORDS) if changes.random() < noise else word for word in line.split())
        for line in references[0]
    ], references


def texts(metric: Any, seeds: range, noise: float = 0.3) -> Scores:
    return of_text(metric, [corpus(seed, noise=noise)[0] for seed in seeds], corpus(0)[1])


def compared(first: Scores, second: Scores, **options: Any) -> SeedDifference:
    return compare_arms(first, second, resamples=200, seed=12345, **options)


# ------------------------------------------------------------------------------------------------------------- scores
@by_metric
def test_points_are_sacrebleus_scores(metric: Any) -> None:
    scores = texts(metric, range(3))
    assert scores.points.tolist() == [metric.corpus_score(corpus(seed)[0], corpus(0)[1]).score for seed in range(3)]


@by_metric
def test_linearised_values_have_the_score_as_mean_and_its_spread(metric: Any) -> None:
    scores = texts(metric, range(2))
    values = scores.linearised
    assert values.mean(axis=1) == pytest.approx(scores.points)
    size = values.shape[1]
    left_out = [[scores.score(t.sum(axis=0) - row) for row in t] for t in scores.statistics]
    jackknife = (size - 1) * np.var(left_out, axis=1)  # Efron & Tibshirani 1993, 11.5
    assert values.var(axis=1, ddof=1) / size == pytest.approx(jackknife, rel=0.1)


def test_linearised_means_are_the_values_themselves() -> None:
    values = np.random.default_rng(0).random((3, 40))
    assert of_means(values, unit=100.0).linearised == pytest.approx(100 * values)
    values[0, :10] = np.nan
    scores = of_means(values)
    assert scores.points == pytest.approx(np.nanmean(values, axis=1))
    assert scores.linearised[0, :10] == pytest.approx(np.nanmean(values[0]), rel=2e-3)
    spread = np.sqrt(np.nanvar(values[0]) / 30)
    assert np.sqrt(scores.linearised[0].var() / 40) == pytest.approx(spread, rel=2e-3)


def test_a_seed_without_any_value_has_no_mean() -> None:
    values = np.zeros((2, 5))
    values[1] = np.nan
    with pytest.raises(EvaluationError, match="no value for any instance of a seed"):
        of_means(values)


# ----------------------------------------------------------------------------------------------------------- one seed
@by_metric
def test_one_seed_of_text_is_sacrebleus_paired_test_to_the_digit(metric: Any) -> None:
    (first, references), (second, _) = corpus(1), corpus(2, noise=0.35)
    found = compared(of_text(metric, [first], references), of_text(metric, [second], references))
    one, other = (score_text(metric, lines, references, 200, 12345) for lines in (first, second))
    expected = compare_text(one, other)
    assert (found.delta, found.ci95, found.p_value) == (expected.delta, expected.ci95, expected.p_value)
    for test_type, p_value in (("bs", found.p_value), ("ar", found.p_randomization)):
        test = PairedTest([("a", first), ("b", second)], {"metric": metric}, references, test_type, n_samples=200)
        assert test._seed == 12345
        oracle = next(results for name, results in test()[1].items() if name != "System")
        assert p_value == oracle[1].p_value


def test_one_seed_of_values_is_the_single_seed_test_to_the_digit() -> None:
    first, second = np.random.default_rng(0).random((2, 1, 70))
    first[0, :5] = np.nan
    found = compared(of_means(first, unit=100.0), of_means(second, unit=100.0))
    expected = compare_means(first[0], second[0], 200, 12345).scaled(100.0)
    assert (found.delta, found.ci95, found.p_value) == (expected.delta, expected.ci95, expected.p_value)
    right = second > 0.4, second > 0.5
    found = compared(of_means(right[0], unit=100.0), of_means(right[1], unit=100.0))
    expected = compare_proportions(right[0][0], right[1][0]).scaled(100.0)
    assert (found.delta, found.ci95, found.p_value) == (expected.delta, expected.ci95, expected.p_value)


# ------------------------------------------------------------------------------------------------------ several seeds
def test_differences_are_second_minus_first_and_antisymmetric() -> None:
    generator = np.random.default_rng(0)
    for first, second in (
        (of_means(generator.random((3, 50))), of_means(generator.random((3, 50)) + 0.1)),
        (texts(BLEU(), range(3), 0.4), texts(BLEU(), range(3, 6))),
    ):
        there, back = compared(first, second), compared(second, first)
        assert there.per_seed == pytest.approx(second.points - first.points)
        assert there.delta == pytest.approx(np.mean(there.per_seed))
        assert there.ci95[0] < there.delta < there.ci95[1]
        assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]))
        assert back.ci95_percentile == pytest.approx((-there.ci95_percentile[1], -there.ci95_percentile[0]))
        assert (back.p_value, back.p_randomization) == pytest.approx((there.p_value, there.p_randomization))
        assert back.probability_of_improvement == pytest.approx(1 - there.probability_of_improvement)
        assert (back.wins, back.ties, back.losses) == (there.losses, there.ties, there.wins)
        assert (there.p_value < 0.05) == (there.ci95[0] > 0 or there.ci95[1] < 0)


def test_equal_arms_do_not_differ() -> None:
    for arm in (texts(TER(), range(3)), of_means(np.random.default_rng(0).random((3, 30)))):
        found = compared(arm, arm)
        assert (found.delta, found.ci95, found.p_value, found.p_randomization) == (0.0, (0.0, 0.0), 1.0, 1.0)
        assert (found.wins, found.losses, found.probability_of_improvement) == (0, 0, 0.5)


def test_pairing_removes_what_both_arms_of_a_seed_have_in_common() -> None:
    generator = np.random.default_rng(1)
    common = generator.normal(0, 1, (4, 1)) + generator.normal(0, 0.1, (4, 80))
    first, second = of_means(common), of_means(common + 0.2 + generator.normal(0, 0.1, (4, 80)))
    assert compared(first, second).p_value < 0.001
    apart = compared(first, second, paired=False)
    assert apart.p_value > 0.5
    assert apart.per_seed == []
    assert apart.delta == pytest.approx(compared(first, second).delta)


def test_seeds_of_different_numbers_must_be_unpaired() -> None:
    generator = np.random.default_rng(2)
    fixed, arm = of_means(generator.random((1, 40))), of_means(generator.random((3, 40)) + 1)
    with pytest.raises(EvaluationError, match="one arm has 1 seeds and the other 3"):
        compared(fixed, arm)
    found = compared(fixed, arm, paired=False)
    assert found.p_randomization is None
    assert found.ci95[0] > 0.5
    with pytest.raises(EvaluationError) as refused:
        compared(of_means(generator.random((2, 41))), arm)
    assert "41 instances and the other 40" in str(refused.value)
    assert "2 seeds and the other 3" in str(refused.value)


def test_the_bootstrap_draws_instances_for_all_seeds_and_arms_at_once() -> None:
    values = np.random.default_rng(3).random(50)
    first, second = of_means(np.tile(values, (3, 1))), of_means(np.tile(values + 1, (3, 1)))
    for one, other in zip(*bootstrap(first, second, resamples=20, seed=1), strict=True):
        assert np.ptp(one) < 1e-12
        assert other == pytest.approx(one + 1)


def test_the_bootstrap_draws_paired_seeds_as_pairs() -> None:
    of_seeds = np.array([[0.0], [10.0], [30.0]])
    arms = of_means(np.repeat(of_seeds, 4, axis=1)), of_means(np.repeat(of_seeds + 1, 4, axis=1))
    one, other = bootstrap(*arms, resamples=30, seed=1)
    assert other - one == pytest.approx(np.ones((30, 3)))
    assert set(one.ravel()) == {0.0, 10.0, 30.0}
    one, other = bootstrap(*arms, resamples=30, seed=1, paired=False)
    assert np.std(other.mean(axis=1) - one.mean(axis=1)) > 1


def test_few_seeds_make_the_percentile_interval_too_narrow() -> None:
    generator = np.random.default_rng(4)
    values = generator.normal(0, 1, (3, 1)) + generator.normal(0, 0.1, (3, 100))
    found = compared(of_means(np.zeros((3, 100))), of_means(values))
    assert found.ci95[1] - found.ci95[0] > 2 * (found.ci95_percentile[1] - found.ci95_percentile[0])


# ------------------------------------------------------------------------------------------------------- randomisation
def test_randomisation_approaches_the_exact_test_over_all_swaps() -> None:
    generator = np.random.default_rng(5)
    first, second = generator.integers(0, 3, (2, 2, 8)).astype(np.float64)
    second += 0.5 * (generator.random((2, 8)) < 0.7)
    gains = (second - first).mean(axis=0)
    swaps = np.array(list(itertools.product([1, -1], repeat=8)))
    exact = np.mean(np.abs(swaps @ gains) >= abs(gains.sum()) - 1e-9)
    one, other = of_means(first), of_means(second)
    found = approximate_randomization(one.statistics, other.statistics, one.score, 4000, 1, ties=True)
    assert found == pytest.approx(exact, abs=0.03)


def test_randomisation_has_its_false_alarms_and_says_nothing_of_other_seeds() -> None:
    generator = np.random.default_rng(6)
    found: list[list[float]] = []
    for _ in range(150):
        of_seeds = generator.normal(0, 0.5, (2, 3, 1))
        values = generator.normal(0, 1, (2, 3, 60))
        found.append([_randomised(values), _randomised(values + of_seeds)])
    alarms = (np.array(found) < 0.05).mean(axis=0)
    assert alarms[0] < 0.1
    assert alarms[1] > 0.3


def _randomised(values: Floats) -> float:
    one, other = map(of_means, values)
    return approximate_randomization(one.statistics, other.statistics, one.score, 100, 1, ties=True)


# ---------------------------------------------------------------------------------------- improvement, wins and losses
def test_probability_of_improvement_is_mann_whitneys() -> None:
    first, second = np.array([1.0, 2.0, 3.0, 3.0]), np.array([2.0, 3.0, 5.0])
    arms = [of_means(np.repeat(points[:, None], 5, axis=1)) for points in (first, second)]
    found = compared(*arms, paired=False)
    statistic = scipy.stats.mannwhitneyu(second, first).statistic
    assert found.probability_of_improvement == pytest.approx(statistic / 12)
    low, high = found.probability_ci95
    assert 0 <= low <= found.probability_of_improvement <= high <= 1
    less = compared(*arms, paired=False, larger_is_better=False)
    assert less.probability_of_improvement == pytest.approx(1 - statistic / 12)
    assert less.delta == found.delta


def test_wins_ties_and_losses_are_of_means_over_seeds() -> None:
    first = of_means(np.array([[1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, np.nan]]))
    second = of_means(np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]]))
    found = compared(first, second)
    assert (found.wins, found.ties, found.losses) == (1, 2, 1)
    found = compared(
        first, second, larger_is_better=False, values=(np.zeros((2, 3)), np.array([[1.0, 0, 2], [1, 0, -3]]))
    )
    assert (found.wins, found.ties, found.losses) == (1, 1, 1)


@by_metric
def test_instances_of_text_are_won_by_their_scores_alone(metric: Any) -> None:
    lines, references = corpus(1)
    found = compared(of_text(metric, [lines], references), of_text(metric, [references[0]], references), values=None)
    changed = sum(line != reference for line, reference in zip(lines, references[0], strict=True))
    assert found.wins + found.losses <= changed
    assert (found.losses if metric is METRICS[2] else found.wins) > 0.8 * changed


# --------------------------------------------------------------------------------------------------------- aggregates
@pytest.mark.parametrize("seeds", [1, 3, 4, 5, 8, 10])
def test_the_interquartile_mean_is_scipys_trimmed_mean(seeds: int) -> None:
    found = aggregate(of_means(np.random.default_rng(seeds).random((seeds, 20))))
    assert found.iqm == pytest.approx(scipy.stats.trim_mean(found.per_seed, 0.25))
    assert found.mean == pytest.approx(np.mean(found.per_seed))
    assert found.ci95[0] < found.mean < found.ci95[1]


def test_an_arms_interval_is_that_of_its_difference_from_nothing() -> None:
    arm = texts(CHRF(), range(3))
    nothing = Scores(np.zeros_like(arm.statistics), arm.score)
    assert aggregate(arm).ci95 == pytest.approx(difference(nothing, arm, resamples=1, seed=0).ci95)


# ------------------------------------------------------------------------------------------------- several comparisons
def test_holm_as_worked_out_by_hand() -> None:
    # 4 * 0.005, 3 * 0.01, then max(2 * 0.03, 1 * 0.04) twice, in the order given
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_the_step_down_maximum() -> None:
    """As ``statsmodels.stats.multitest.multipletests(method="holm")`` defines it."""
    for seed in range(20):
        p_values = np.random.default_rng(seed).random(7) ** 3
        order = np.argsort(p_values)
        expected = np.empty(7)
        expected[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * np.arange(7, 0, -1)))
        assert holm(p_values.tolist()) == pytest.approx(expected)


def over(delta: float, p_value: float) -> SeedDifference:
    return SeedDifference([], delta, (delta - 1, delta + 1), p_value, (0, 0), None, 0.5, (0, 1), 0, 0, 0)


def test_the_gain_is_what_is_left_beside_the_best_control() -> None:
    controls = {"weak": over(5.0, 0.001), "strong": over(2.0, 0.01), "noisy": over(3.0, 0.04)}
    found = best_control(controls)
    assert (found.best_control, found.delta, found.ci95) == ("strong", 2.0, (1.0, 3.0))
    assert found.p_value == 0.04  # the largest: the arm must be ahead of every one
    errors = best_control({"a": over(-5.0, 0.001), "b": over(-2.0, 0.01)}, larger_is_better=False)
    assert (errors.best_control, errors.p_value) == ("b", 0.01)


def test_an_arm_behind_its_best_control_is_told_so() -> None:
    found = best_control({"equal_time": over(-4.0, 0.001), "constant_reward": over(1.0, 0.6)})
    assert (found.best_control, found.delta) == ("equal_time", -4.0)
    assert found.p_value == pytest.approx(0.002)


def test_the_best_of_equal_controls_is_rarely_beaten_by_chance() -> None:
    generator = np.random.default_rng(7)
    alarms = []
    for _ in range(100):
        arm, *controls = (of_means(generator.normal(0, 1, (3, 40))) for _ in range(3))
        differences = {str(i): compare_arms(control, arm, resamples=1, seed=0) for i, control in enumerate(controls)}
        found = best_control(differences)
        alarms.append(found.delta > 0 and found.p_value < 0.05)
    assert np.mean(alarms) < 0.05
