"""Is a difference between two systems more than chance? Every test is paired: both were judged on the same instances.

* Corpus metrics on text: the paired bootstrap of sacrebleu (Koehn 2004), on sacrebleu's own sufficient statistics;
  beside it approximate randomisation.
* Yes-or-no instance metrics: McNemar's exact test, with Newcombe's score interval for paired proportions.
* Other instance metrics: the paired bootstrap on means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile
_TRIALS_AT_ONCE = 100  # of approximate randomisation: as many rows of floats as there are instances, each


@dataclass(frozen=True)
class Difference:
    """How much better the second of two systems is.

    Attributes:
        delta: Second minus first, in the metric's units.
        ci95: 95 % confidence interval of ``delta``.
        p_value: Two-sided, of no difference.
    """

    delta: float
    ci95: tuple[float, float]
    p_value: float

    def scaled(self, factor: float) -> Difference:
        """The same difference in other units."""
        return Difference(factor * self.delta, (factor * self.ci95[0], factor * self.ci95[1]), self.p_value)


# ------------------------------------------------------------------------------------------------------ bootstrap
def resamples(size: int, count: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of ``size`` indices drawn with replacement, as sacrebleu's ``PairedTest`` draws them with this seed."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield generator.choice(size, size=size, replace=True)


def compare_means(first: Floats, second: Floats, count: int, seed: int) -> Difference:
    """Paired bootstrap on the difference of two means.

    The interval is the percentile interval. The p-value is the share of resamples whose difference, shifted to a true
    difference of zero, is at least as large as the one observed (Efron & Tibshirani 1993, section 16.4).

    Args:
        first: (instances,) values of the first system; NaN if an instance does not count for it.
        second: (instances,) values of the second on the same instances.
        count: Resamples.
        seed: Of the resampling.
    """
    values = np.stack([first, second]).astype(np.float64)
    if np.array_equal(values[0], values[1], equal_nan=True):
        return Difference(0.0, (0.0, 0.0), 1.0)
    delta = _mean_difference(values)
    drawn = np.array([_mean_difference(values[:, rows]) for rows in resamples(len(first), count, seed)])
    # Sums of the same numbers in another order differ by rounding: such ties count as at least as large.
    reached = np.abs(drawn - delta) >= abs(delta) - 1e-12 * np.nanmax(np.abs(values))
    return Difference(delta, percentile_interval(drawn), _share(int(reached.sum()), count))


def _mean_difference(values: Floats) -> float:
    first, second = np.nanmean(values, axis=1)
    return float(second - first)


def percentile_interval(drawn: Floats) -> tuple[float, float]:
    """The middle 95 % of the resampled values, cut as sacrebleu's ``estimate_ci`` cuts them."""
    ordered = np.sort(drawn)
    lowest = len(ordered) // 40
    return float(ordered[lowest]), float(ordered[len(ordered) - lowest - 1])


def _share(reached: int, count: int) -> float:
    """With one added to both, so that chance is never ruled out altogether."""
    return (reached + 1) / (count + 1)


# ----------------------------------------------------------------------------------------------- sacrebleu's metrics
@dataclass(frozen=True)
class TextScores:
    """A text metric of one system, on the whole corpus and on every resample of it.

    Attributes:
        score: The corpus score.
        drawn: (resamples,) scores.
        signature: sacrebleu's signature of the metric.
    """

    score: float
    drawn: Floats
    signature: str


def score_text(
    metric: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]], count: int, seed: int
) -> TextScores:
    """Score a system with a sacrebleu metric, also on each resample.

    sacrebleu keeps the resampled scores of its ``PairedTest`` to itself and gives no interval of the difference;
    therefore its steps are taken here one by one, on the statistics it extracts and in its precision (float32).

    Args:
        metric: A metric object of sacrebleu.
        hypotheses: One text per instance.
        references: One list of texts per reference stream.
        count: Resamples.
        seed: Of the resampling.
    """
    statistics = metric._extract_corpus_statistics(hypotheses, references)
    score = float(metric._aggregate_and_compute(statistics).score)
    table = np.array(statistics, dtype=np.float32)
    rows = resamples(len(hypotheses), count, seed)
    drawn = np.array([metric._compute_score_from_stats(table[row].sum(0)).score for row in rows])
    return TextScores(score, drawn, str(metric.get_signature()))


def compare_text(first: TextScores, second: TextScores) -> Difference:
    """Paired bootstrap of sacrebleu from scores on the same resamples.

    The p-value is ``sacrebleu.significance.PairedTest``'s, except for equal scores: sacrebleu then calls identical
    systems significantly different, and here it is 1.
    """
    return paired_bootstrap(second.score - first.score, second.drawn - first.drawn)


def paired_bootstrap(delta: float, differences: Floats) -> Difference:
    """The paired bootstrap of sacrebleu from the difference of two scores, and the (resamples,) differences drawn."""
    sizes = np.abs(differences)
    beyond = int((sizes - sizes.mean() > abs(delta)).sum())
    p_value = _share(beyond, len(sizes)) if delta else 1.0
    return Difference(delta, percentile_interval(differences), p_value)


def approximate_randomization(
    first: Floats, second: Floats, score: Callable[[Floats], float], count: int, seed: int, *, ties: bool = False
) -> float:
    """Two-sided p-value of approximate randomisation (Noreen 1989; Riezler & Maxwell 2005).

    Each trial swaps the outputs of the two systems on about half the instances, those of all seeds of an instance
    together. The p-value is ``sacrebleu.significance.PairedTest``'s for one seed, except for equal scores, as above.

    Args:
        first: (seeds, instances, k) additive statistics of the first system.
        second: Those of the second on the same instances, with as many seeds.
        score: From the (k,) sum of statistics to the corpus score.
        count: Trials.
        seed: Of the trials.
        ties: Whether a trial that reaches the observed difference counts, too; sacrebleu counts those beyond it.
    """
    seeds, instances, _ = first.shape
    delta = _mean_score(second.sum(axis=1), score) - _mean_score(first.sum(axis=1), score)
    if not delta:
        return 1.0
    swapped = np.random.default_rng(seed).integers(2, size=(count, instances), dtype=bool)
    both = np.concatenate([first, second]).transpose(1, 0, 2).reshape(instances, -1)
    totals = both.sum(axis=0).reshape(2, seeds, -1)
    reached, bound = 0, abs(delta) * (1 - 1e-9) if ties else abs(delta)
    for trials in np.array_split(swapped, -(-count // _TRIALS_AT_ONCE)):
        for taken in (trials @ both).reshape(len(trials), 2, seeds, -1):
            left = totals - taken
            size = abs(_mean_score(taken[0] + left[1], score) - _mean_score(left[0] + taken[1], score))
            reached += size >= bound if ties else size > bound
    return _share(reached, count)


def _mean_score(totals: Floats, score: Callable[[Floats], float]) -> float:
    """Over the seeds, from their (seeds, k) sums."""
    return sum(map(score, totals)) / len(totals)


# -------------------------------------------------------------------------------------------------- paired proportions
def compare_proportions(first: Bools, second: Bools) -> Difference:
    """McNemar's exact test and Newcombe's interval for yes-or-no values of the same instances, both (instances,)."""
    first, second = np.asarray(first, np.bool_), np.asarray(second, np.bool_)
    both = int((first & second).sum())
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    neither = len(first) - both - only_first - only_second
    return Difference(
        (only_second - only_first) / len(first),
        newcombe_interval(both, only_second, only_first, neither),
        mcnemar_p_value(only_first, only_second),
    )


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value of McNemar's test (1947): the discordant pairs as tosses of a fair coin.

    Computed in whole numbers, so that it is right however small.
    """
    discordant = only_first + only_second
    term, total = 1, 0
    for k in range(min(only_first, only_second) + 1):
        total += term
        term = term * (discordant - k) // (k + 1)
    return min(1.0, 2 * total / (1 << discordant))


def newcombe_interval(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """95 % interval of p₁ - p₂ for paired proportions: method 10 of Newcombe (1998), Statistics in Medicine 17:2635.

    Wilson intervals of both proportions, squared and added with the correlation of the pairs.

    Args:
        both: Pairs with two successes.
        only_first: Pairs where only the first succeeded.
        only_second: Pairs where only the second succeeded.
        neither: Pairs with no success.
    """
    size = both + only_first + only_second + neither
    share_1, share_2 = (both + only_first) / size, (both + only_second) / size
    (low_1, high_1), (low_2, high_2) = (
        wilson_interval(both + only_first, size),
        wilson_interval(both + only_second, size),
    )
    correlation = _correlation(both, only_first, only_second, neither)
    difference = share_1 - share_2
    below = _hypotenuse(share_1 - low_1, high_2 - share_2, correlation)
    above = _hypotenuse(high_1 - share_1, share_2 - low_2, correlation)
    return difference - below, difference + above


def wilson_interval(successes: int, size: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927)."""
    centre = successes + _Z95**2 / 2
    spread = _Z95 * math.sqrt(successes * (size - successes) / size + _Z95**2 / 4)
    return max(0.0, (centre - spread) / (size + _Z95**2)), min(1.0, (centre + spread) / (size + _Z95**2))


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Correlation φ of the pairs; a positive one is corrected for continuity, as method 10 has it."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    agreement: float = both * neither - only_first * only_second
    if agreement > 0:
        agreement = max(0.0, agreement - (both + only_first + only_second + neither) / 2)
    return agreement / math.sqrt(margins)


def _hypotenuse(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))
