"""Comparisons with seeds as a level: would the difference be there with other seeds, on other instances?

An arm is trained with several seeds, and every seed is judged on the same instances. The interval of a difference is
that of ``rlseq.evaluation.crossed``; a corpus metric enters it as its linearisation at the summed statistics. Beside it
stand the two-level percentile bootstrap, which is too narrow if seeds are few, and approximate randomisation, which
says nothing about other seeds. Arms of one seed are compared as in ``rlseq.evaluation.significance``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq.evaluation.crossed import crossed_difference, crossed_mean
from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.significance import (
    Bools,
    Difference,
    Floats,
    approximate_randomization,
    compare_means,
    compare_proportions,
    paired_bootstrap,
    percentile_interval,
)
from rlseq.evaluation.significance import (
    resamples as resampled_rows,
)


# -------------------------------------------------------------------------------------------------- scores of an arm
@dataclass(frozen=True)
class MeanScore:
    """The mean over the instances that count, from their sum and their number.

    Attributes:
        unit: What the mean is multiplied with: 100 if the metric is in per cent.
        yes_or_no: Whether the values are.
    """

    unit: float
    yes_or_no: bool

    def __call__(self, totals: Floats) -> float:
        """The mean; NaN if no instance counts."""
        return self.unit * float(totals[0]) / float(totals[1]) if totals[1] else math.nan


@dataclass(frozen=True)
class TextScore:
    """A corpus metric of sacrebleu, from the sum of its statistics."""

    metric: Any

    def __call__(self, totals: Floats) -> float:
        """The corpus score."""
        return float(self.metric._compute_score_from_stats(totals).score)


@dataclass(frozen=True, eq=False)
class Scores:
    """One metric of one arm, for every seed and instance.

    Attributes:
        statistics: (seeds, instances, k) additive statistics of each instance.
        score: The corpus score, from the (k,) sum of the statistics over instances.
    """

    statistics: Floats
    score: Callable[[Floats], float]

    @cached_property
    def points(self) -> Floats:
        """(seeds,) the corpus score of each seed."""
        return np.array([self.score(table.sum(axis=0)) for table in self.statistics])

    @cached_property
    def linearised(self) -> Floats:
        """(seeds, instances) values whose mean is a seed's score and whose spread over instances is the score's.

        A value is the score plus what the instance contributes to it, to first order: score + N ∇score · (x - x̄), the
        influence function (Hampel 1974). ∇score is a central difference over steps of 1, since BLEU cuts lengths to
        whole numbers, or of half a total that is smaller.
        """
        return np.stack([self._linearise(table) for table in self.statistics])

    def _linearise(self, table: Floats) -> Floats:
        totals, size = table.sum(axis=0), len(table)
        steps = np.minimum(1.0, np.abs(totals) / 2)
        moves = np.diag(steps)
        rises = [self.score(totals + move) - self.score(totals - move) for move in moves]
        gradient = np.divide(rises, 2 * steps, out=np.zeros_like(steps), where=steps > 0)
        return self.score(totals) + size * ((table - totals / size) @ gradient)

    def of_instances(self) -> Floats:
        """(seeds, instances) the score of each instance alone; NaN if it does not count."""
        return np.array([[self.score(row) for row in table] for table in self.statistics])


def of_means(values: Floats | Bools, unit: float = 1.0) -> Scores:
    """A metric that is a mean over instances.

    Args:
        values: (seeds, instances); NaN if an instance does not count. Yes-or-no values are booleans.
        unit: What the mean is multiplied with: 100 if the metric is in per cent.

    Raises:
        EvaluationError: No instance counts for some seed, so there is no mean.
    """
    numbers = np.asarray(values, dtype=np.float64)
    counts = ~np.isnan(numbers)
    if not counts.any(axis=1).all():
        raise EvaluationError("a metric has no value for any instance of a seed, so it has no mean: leave it out")
    return Scores(
        np.stack([np.where(counts, numbers, 0.0), counts], axis=-1),
        MeanScore(unit, np.asarray(values).dtype == np.bool_),
    )


def of_text(metric: Any, hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> Scores:
    """A corpus metric on text.

    Args:
        metric: A metric object of sacrebleu.
        hypotheses: For each seed one text an instance.
        references: One list of texts per reference stream, the same for all seeds.
    """
    tables = [metric._extract_corpus_statistics(texts, references) for texts in hypotheses]
    return Scores(np.array(tables, dtype=np.float64), TextScore(metric))


# ------------------------------------------------------------------------------------------------------ two arms
@dataclass(frozen=True)
class SeedDifference:
    """How much higher the second of two arms scores, over seeds and instances.

    Attributes:
        per_seed: Second minus first of each pair of seeds; empty if they are not paired.
        delta: Mean of the second over its seeds minus mean of the first, in the metric's units.
        ci95: 95 % interval of ``delta`` over seeds and instances.
        p_value: Two-sided, of no difference; below 0.05 exactly if ``ci95`` excludes 0 (with one seed a test of
            significance.py, which may differ by a hair).
        ci95_percentile: The percentile bootstrap over seeds and instances, for comparison: too narrow with few seeds.
        p_randomization: Of approximate randomisation over instances, for these very seeds; None if numbers differ.
        probability_of_improvement: That a run of the second is better than a run of the first, ties counting half
            (Agarwal et al. 2021).
        probability_ci95: Its percentile bootstrap interval.
        wins: Instances on which the second is better, on average over seeds.
        ties: Instances on which they are equal.
        losses: Instances on which the first is better.
    """

    per_seed: list[float]
    delta: float
    ci95: tuple[float, float]
    p_value: float
    ci95_percentile: tuple[float, float]
    p_randomization: float | None
    probability_of_improvement: float
    probability_ci95: tuple[float, float]
    wins: int
    ties: int
    losses: int


def compare_arms(
    first: Scores,
    second: Scores,
    *,
    resamples: int,
    seed: int,
    paired: bool = True,
    larger_is_better: bool = True,
    values: tuple[Floats, Floats] | None = None,
) -> SeedDifference:
    """Compare two arms on the same instances.

    Args:
        first: The arm that is compared against.
        second: The other arm; seed s of it belongs to seed s of the first.
        resamples: Of the bootstrap, and trials of the randomisation.
        seed: Of both.
        paired: False if the seeds of the arms have nothing in common; then their numbers may differ. An arm of one
            seed beside one of several is a fixed system, which is not judged as one draw of many.
        larger_is_better: False for error rates: it decides what wins and what is an improvement.
        values: Of both arms (seeds, instances), what wins and losses are counted by; default: the score of each
            instance alone.

    Raises:
        EvaluationError: The arms have different numbers of instances, or of seeds although they are paired.
    """
    tested = difference(first, second, resamples=resamples, seed=seed, paired=paired)
    drawn = bootstrap(first, second, resamples=resamples, seed=seed, paired=paired)
    sign = 1.0 if larger_is_better else -1.0
    same_seeds = len(first.points) == len(second.points)
    improved = np.array([_probability_of_improvement(sign * a, sign * b) for a, b in zip(*drawn, strict=True)])
    wins, ties, losses = _outcomes(*(values or (first.of_instances(), second.of_instances())), sign)
    return SeedDifference(
        (second.points - first.points).tolist() if paired else [],
        tested.delta,
        tested.ci95,
        tested.p_value,
        percentile_interval(drawn[1].mean(axis=1) - drawn[0].mean(axis=1)),
        _randomization(first, second, resamples, seed) if same_seeds else None,
        _probability_of_improvement(sign * first.points, sign * second.points),
        percentile_interval(improved),
        wins,
        ties,
        losses,
    )


def _refuse_mismatch(first: Scores, second: Scores, paired: bool) -> None:
    (seeds, instances, _), (other_seeds, other_instances, _) = first.statistics.shape, second.statistics.shape
    wrong = []
    if instances != other_instances:
        wrong.append(f"one arm has {instances} instances and the other {other_instances}: judge both on the same")
    if paired and seeds != other_seeds:
        wrong.append(f"one arm has {seeds} seeds and the other {other_seeds}: give both the same, or do not pair them")
    if wrong:
        raise EvaluationError("\n".join(wrong))


def difference(first: Scores, second: Scores, *, resamples: int, seed: int, paired: bool = True) -> Difference:
    """Second minus first with its interval over seeds and instances, and its p-value.

    Arguments and errors are those of ``compare_arms``; resamples and seed count only if both arms have one seed.
    """
    _refuse_mismatch(first, second, paired)
    if len(first.points) == len(second.points) == 1:
        return _single_seed(first, second, resamples, seed)
    if paired:
        return crossed_mean(second.linearised - first.linearised)
    return crossed_difference(first.linearised, second.linearised)


def _single_seed(first: Scores, second: Scores, count: int, seed: int) -> Difference:
    """The test that significance.py has for this kind of metric."""
    if isinstance(first.score, MeanScore):
        one, other = (np.where(arm.statistics[0, :, 1] > 0, arm.statistics[0, :, 0], np.nan) for arm in (first, second))
        if first.score.yes_or_no:
            return compare_proportions(one > 0, other > 0).scaled(first.score.unit)
        return compare_means(one, other, count, seed).scaled(first.score.unit)
    tables = [arm.statistics[0].astype(np.float32) for arm in (first, second)]  # sacrebleu's precision
    drawn = [
        [first.score(table[rows].sum(0)) for table in tables] for rows in resampled_rows(len(tables[0]), count, seed)
    ]
    scores = np.array(drawn)
    return paired_bootstrap(float(second.points[0] - first.points[0]), scores[:, 1] - scores[:, 0])


def bootstrap(
    first: Scores, second: Scores, *, resamples: int, seed: int, paired: bool = True
) -> tuple[Floats, Floats]:
    """The scores of both arms on resamples in which seeds and instances are drawn with replacement.

    Arguments and errors are those of ``compare_arms``. Paired seeds are drawn as pairs. Instances are drawn as
    ``significance.resamples`` draws them, the same for all seeds of both arms.

    Returns:
        (resamples, seeds) scores of each arm.
    """
    _refuse_mismatch(first, second, paired)
    generator = np.random.default_rng([seed, 1])
    scores = [_resampled(arm, resamples, seed) for arm in (first, second)]
    chosen = [generator.integers(table.shape[1], size=table.shape) for table in scores]
    if paired:
        chosen[1] = chosen[0]
    return np.take_along_axis(scores[0], chosen[0], axis=1), np.take_along_axis(scores[1], chosen[1], axis=1)


@lru_cache(maxsize=64)  # an arm is compared with several others
def _resampled(arm: Scores, count: int, seed: int) -> Floats:
    """(resamples, seeds) the score of each seed on instances drawn with replacement."""
    seeds, instances, size = arm.statistics.shape
    by_instance = arm.statistics.transpose(1, 0, 2).reshape(instances, seeds * size)
    parts = np.array_split(_times_drawn(instances, count, seed), -(-count // 100))  # few at a time as floats
    totals = np.concatenate([part.astype(np.float64) @ by_instance for part in parts])
    return np.array([[arm.score(total) for total in drawn] for drawn in totals.reshape(count, seeds, size)])


@lru_cache(maxsize=2)  # all arms and metrics have the same
def _times_drawn(instances: int, count: int, seed: int) -> npt.NDArray[np.uint16]:
    """(resamples, instances) how often each instance is drawn."""
    drawn = resampled_rows(instances, count, seed)
    return np.stack([np.bincount(rows, minlength=instances).astype(np.uint16) for rows in drawn])


def _randomization(first: Scores, second: Scores, count: int, seed: int) -> float:
    """Ties count for means, whose values are often equal, and not for text, as sacrebleu has it."""
    ties = isinstance(first.score, MeanScore)
    return approximate_randomization(first.statistics, second.statistics, first.score, count, seed, ties=ties)


def _probability_of_improvement(first: Floats, second: Floats) -> float:
    signs = np.sign(second[:, None] - first[None, :])
    return float((1 + signs).mean() / 2)


def _outcomes(first: Floats, second: Floats, sign: float) -> tuple[int, int, int]:
    """Wins, ties and losses; instances that do not count for an arm are left out."""
    counted = ~(np.isnan(first).all(axis=0) | np.isnan(second).all(axis=0))
    gains = sign * (np.nanmean(second[:, counted], axis=0) - np.nanmean(first[:, counted], axis=0))
    gains[np.abs(gains) < 1e-12] = 0.0
    return int((gains > 0).sum()), int((gains == 0).sum()), int((gains < 0).sum())


# -------------------------------------------------------------------------------------------------------- one arm
@dataclass(frozen=True)
class Aggregate:
    """One metric of one arm over its seeds.

    Attributes:
        per_seed: The corpus score of each seed.
        mean: Their mean.
        iqm: Their interquartile mean (Agarwal et al. 2021): without the lowest and the highest quarter, rounded down,
            so that of up to 3 seeds none is left out.
        ci95: 95 % interval of the mean over seeds and instances; of one seed, over instances alone.
    """

    per_seed: list[float]
    mean: float
    iqm: float
    ci95: tuple[float, float]


def aggregate(scores: Scores) -> Aggregate:
    """What an arm scores over its seeds."""
    points = scores.points
    cut = len(points) // 4
    middle = np.sort(points)[cut : len(points) - cut]
    return Aggregate(points.tolist(), float(points.mean()), float(middle.mean()), crossed_mean(scores.linearised).ci95)


# ---------------------------------------------------------------------------------------------- several comparisons
def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, so that the chance of any false alarm stays below the level (Holm 1979)."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


@dataclass(frozen=True)
class Attributable:
    """What an arm gains over the best of its controls.

    Attributes:
        best_control: The control that scores best on average.
        delta: Arm minus that control, in the metric's units.
        ci95: 95 % interval of this difference. The best of several controls is partly the luckiest, so both are
            biased against the arm: the gain is underrated, never overrated, by the choice.
        p_value: If the arm is ahead of every control, of the claim that it is: the largest p-value of its comparisons,
            an intersection-union test (Berger 1982), in which no correction for their number is needed. Otherwise of
            the claim that the best control is better: its p-value times the number of controls (Bonferroni).
    """

    best_control: str
    delta: float
    ci95: tuple[float, float]
    p_value: float


def best_control(differences: Mapping[str, SeedDifference], *, larger_is_better: bool = True) -> Attributable:
    """The gain that is attributable to the reward: what is left of it beside the best control.

    Args:
        differences: Of each control by name, ``compare_arms(control, arm)``.
        larger_is_better: False for error rates.
    """
    sign = 1.0 if larger_is_better else -1.0
    name = min(differences, key=lambda control: sign * differences[control].delta)
    best = differences[name]
    if sign * best.delta > 0:
        p_value = max(difference.p_value for difference in differences.values())
    else:
        p_value = min(1.0, len(differences) * best.p_value)
    return Attributable(name, best.delta, best.ci95, p_value)
