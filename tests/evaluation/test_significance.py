"""The tests of significance, against scipy, sacrebleu and published figures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from rlseq.evaluation.significance import (
    Difference,
    compare_means,
    compare_proportions,
    compare_text,
    mcnemar_p_value,
    newcombe_interval,
    percentile_interval,
    resamples,
    score_text,
    wilson_interval,
)

WORDS = "a small brown dog runs over the green grass and jumps into cold water".split()


def corpus(seed: int, size: int = 60, noise: float = 0.3) -> tuple[list[str], list[list[str]]]:
    """Hypotheses that are their references with some words exchanged, and two reference streams."""
    words = np.random.default_rng(7)
    references = [[" ".join(words.choice(WORDS, words.integers(4, 12))) for _ in range(size)] for _ in range(2)]
    changes = np.random.default_rng(seed)
    hypotheses = [
        " ".join(changes.choice(WORDS) if changes.random() < noise else word for word in line.split())
        for line in references[0]
    ]
    return hypotheses, references


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int) -> None:
    expected = 1.0
    if only_first + only_second:
        expected = scipy.stats.binomtest(only_first, only_first + only_second, 0.5).pvalue
    assert mcnemar_p_value(only_first, only_second) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_stays_exact_where_floats_would_vanish() -> None:
    assert mcnemar_p_value(0, 1000) == 2.0**-999
    assert mcnemar_p_value(0, 5000) == 0.0
    assert mcnemar_p_value(3000, 3300) == pytest.approx(scipy.stats.binomtest(3000, 6300, 0.5).pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("table", "interval"),
    [
        # Bentur et al. (2009) and Cavo et al. (2012), as in Fagerland, Lydersen & Laake, Contingency Tables, chapter 8.
        ((1, 1, 7, 12), (-0.5069, -0.0256)),
        ((59, 6, 16, 80), (-0.1186, -0.0046)),
    ],
)
def test_newcombe_interval_as_published(table: tuple[int, int, int, int], interval: tuple[float, float]) -> None:
    assert newcombe_interval(*table) == pytest.approx(interval, abs=5e-5)


@settings(deadline=None, max_examples=100)
@given(st.tuples(*[st.integers(0, 50)] * 4).filter(any))
def test_newcombe_interval_is_sound(table: tuple[int, int, int, int]) -> None:
    both, only_first, only_second, neither = table
    low, high = newcombe_interval(*table)
    delta = (only_first - only_second) / sum(table)
    assert -1 - 1e-9 <= low <= delta <= high <= 1 + 1e-9
    swapped = newcombe_interval(both, only_second, only_first, neither)
    assert swapped == pytest.approx((-high, -low), abs=1e-12)


def test_newcombe_interval_covers_the_truth_19_times_in_20() -> None:
    shares, size = np.array([0.5, 0.08, 0.2, 0.22]), 40
    tables = np.random.default_rng(0).multinomial(size, shares, 4000)
    hits = [low <= shares[1] - shares[2] <= high for low, high in (newcombe_interval(*map(int, t)) for t in tables)]
    assert 0.94 < np.mean(hits) < 0.975


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(case: tuple[int, int]) -> None:
    expected = scipy.stats.binomtest(*case).proportion_ci(method="wilson")
    assert wilson_interval(*case) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_proportions_are_second_minus_first() -> None:
    first = np.array([True] * 30 + [False] * 70)
    second = np.array([True] * 50 + [False] * 50)
    difference = compare_proportions(first, second)
    assert difference.delta == pytest.approx(0.2)
    assert difference.ci95[0] < 0.2 < difference.ci95[1]
    assert difference.ci95[0] > 0
    assert difference.p_value == 2.0**-19


@pytest.mark.parametrize("metric", [BLEU(), CHRF(), TER()], ids=["bleu", "chrf", "ter"])
@pytest.mark.parametrize("seeds", [(1, 2), (3, 4)])
def test_text_p_value_is_that_of_sacrebleus_paired_test(metric: Any, seeds: tuple[int, int]) -> None:
    (first, references), (second, _) = corpus(seeds[0]), corpus(seeds[1], noise=0.35)
    systems: list[tuple[str, Sequence[str]]] = [("first", first), ("second", second)]
    test: Any = PairedTest(systems, {"metric": metric}, references, test_type="bs", n_samples=200)
    oracle = next(results for name, results in test()[1].items() if name != "System")

    one, other = (score_text(metric, lines, references, 200, test._seed) for lines in (first, second))
    difference = compare_text(one, other)
    assert difference.p_value == oracle[1].p_value
    assert (one.score, other.score) == (oracle[0].score, oracle[1].score)
    assert difference.delta == oracle[1].score - oracle[0].score
    low, high = percentile_interval(other.drawn)
    assert (high - low) / 2 == oracle[1].ci
    assert "nrefs:2" in one.signature


def test_text_interval_is_the_middle_of_the_differences() -> None:
    (first, references), (second, _) = corpus(1), corpus(2, noise=0.5)
    one, other = (score_text(BLEU(), lines, references, 400, 12345) for lines in (first, second))
    low, high = compare_text(one, other).ci95
    inside = np.mean((other.drawn - one.drawn >= low) & (other.drawn - one.drawn <= high))
    assert inside == pytest.approx(0.95, abs=0.005)
    assert low < compare_text(one, other).delta < high < 0


def test_equal_systems_do_not_differ() -> None:
    hypotheses, references = corpus(1)
    scores = score_text(BLEU(), hypotheses, references, 100, 12345)
    assert compare_text(scores, scores) == Difference(0.0, (0.0, 0.0), 1.0)
    values = np.linspace(0, 1, 50)
    assert compare_means(values, values, 100, 12345) == Difference(0.0, (0.0, 0.0), 1.0)
    assert compare_proportions(values > 0.5, values > 0.5).p_value == 1.0


def test_resamples_do_not_depend_on_how_they_are_drawn() -> None:
    at_once = np.random.default_rng(5).choice(17, size=(30, 17), replace=True)
    assert np.array_equal(np.stack(list(resamples(17, 30, 5))), at_once)


def test_means_agree_with_the_t_test_and_its_interval() -> None:
    generator = np.random.default_rng(0)
    first = generator.normal(0.0, 1.0, 400)
    for shift in (0.0, 0.08, 0.3):
        second = first + generator.normal(shift, 0.8, 400)
        difference = compare_means(first, second, 2000, 12345)
        oracle = scipy.stats.ttest_rel(second, first)
        interval = oracle.confidence_interval()
        assert difference.delta == pytest.approx(np.mean(second - first))
        assert difference.p_value == pytest.approx(oracle.pvalue, abs=0.03)
        assert difference.ci95 == pytest.approx((interval.low, interval.high), abs=0.012)


def test_instances_that_do_not_count_are_left_out_of_their_mean() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.normal(0.0, 1.0, 300), generator.normal(1.0, 1.0, 300)
    first[:100], second[50:200] = np.nan, np.nan
    difference = compare_means(first, second, 1000, 12345)
    assert difference.delta == np.nanmean(second) - np.nanmean(first)
    spread = np.sqrt(np.nanvar(first) / 200 + np.nanvar(second) / 150)
    interval = (difference.delta - 1.96 * spread, difference.delta + 1.96 * spread)
    assert difference.ci95 == pytest.approx(interval, abs=0.05)
    assert difference.p_value < 0.01


def test_one_changed_instance_is_no_evidence() -> None:
    first = np.zeros(100)
    second = first.copy()
    second[3] = 0.25
    assert compare_means(first, second, 1000, 12345).p_value > 0.3


def test_false_alarms_are_as_rare_as_promised() -> None:
    generator = np.random.default_rng(1)
    alarms = [compare_means(np.zeros(50), generator.normal(size=50), 300, seed).p_value < 0.05 for seed in range(300)]
    assert 0.02 < np.mean(alarms) < 0.09


def test_every_test_is_antisymmetric() -> None:
    (first, references), (second, _) = corpus(1), corpus(2)
    texts = [score_text(BLEU(), lines, references, 100, 1) for lines in (first, second)]
    values = np.random.default_rng(2).random((2, 80))
    pairs = [
        (compare_text(*texts), compare_text(*texts[::-1])),
        (compare_means(values[0], values[1], 100, 1), compare_means(values[1], values[0], 100, 1)),
        (compare_proportions(*(values > 0.5)), compare_proportions(*(values[::-1] > 0.5))),
    ]
    for forwards, backwards in itertools.chain(pairs):
        assert backwards.delta == pytest.approx(-forwards.delta)
        assert backwards.ci95 == pytest.approx((-forwards.ci95[1], -forwards.ci95[0]))
        assert backwards.p_value == pytest.approx(forwards.p_value)
