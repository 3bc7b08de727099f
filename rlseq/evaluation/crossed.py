"""Means over seeds and instances that are crossed: every seed was judged on the same instances.

A table of values y of seeds s and instances i follows y_si = μ + a_s + b_i + e_si, all effects random. Its mean over S
seeds and N instances has the variance σ_a²/S + σ_b²/N + σ_e²/(S N), the sum of two parts that are estimated apart:

* σ_a²/S + σ_e²/(S N), from the spread of the seeds' means: S - 1 degrees of freedom;
* σ_b²/N, from the spread of the instances' means, less what the residuals bring to it: N - 1 degrees of freedom, and 0
  if the estimate is negative (analysis of variance; Searle, Casella & McCulloch 1992, chapter 4).

The critical value is the mean of Student's t of each part's degrees of freedom, weighted with the parts (Cochran & Cox
1950, section 4.14). Satterthwaite's degrees of freedom (1946) give narrower intervals, which fail at 3 seeds: they
cover the truth 92 times in 100 if nine tenths of the variance are the seeds', because a small estimate from
2 degrees of freedom makes the interval short twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.significance import Difference, Floats
from rlseq.evaluation.student import critical_value, density, two_sided_p


@dataclass(frozen=True)
class Part:
    """A part of an estimate's variance, and the degrees of freedom it was estimated with."""

    variance: float
    df: int


def crossed_mean(values: Floats) -> Difference:
    """The mean of one table of seeds and instances, with its 95 % interval and the p-value of a mean of 0.

    Args:
        values: (seeds, instances); of a difference of paired arms, the differences. The interval of one seed is over
            instances alone.

    Raises:
        EvaluationError: There are fewer than two instances.
    """
    return _contrast([values], [1.0])


def crossed_difference(first: Floats, second: Floats) -> Difference:
    """The mean of the second table minus that of the first, whose seeds are not paired, on the same instances.

    Args:
        first: (seeds, instances); a table of one seed is a fixed system, with no variance of seeds.
        second: (other seeds, instances).

    Raises:
        EvaluationError: There are fewer than two instances.
    """
    return _contrast([first, second], [-1.0, 1.0])


def _contrast(tables: Sequence[Floats], signs: Sequence[float]) -> Difference:
    if tables[0].shape[1] < 2:
        raise EvaluationError("one instance has no spread, so there is no interval: judge on two or more")
    parts, noise = [], 0.0
    for table in tables:
        seeds, instances = table.shape
        if seeds > 1:
            rows, columns = table.mean(axis=1, keepdims=True), table.mean(axis=0)
            residuals = table - rows - columns + table.mean()
            noise += float((residuals**2).sum()) / ((seeds - 1) * (instances - 1)) / seeds
            parts.append(Part(float(rows.var(ddof=1)) / seeds, seeds - 1))
    of_instances = np.sum([sign * table.mean(axis=0) for sign, table in zip(signs, tables, strict=True)], axis=0)
    size = len(of_instances)
    parts.append(Part(max(0.0, float(of_instances.var(ddof=1)) - noise) / size, size - 1))
    return cochran_cox(float(of_instances.mean()), parts)


def cochran_cox(estimate: float, parts: Sequence[Part]) -> Difference:
    """An estimate with its 95 % interval and two-sided p-value, from the parts of its variance."""
    variance = sum(part.variance for part in parts)
    if variance == 0.0:
        return Difference(estimate, (estimate, estimate), float(estimate == 0.0))
    error = math.sqrt(variance)
    counted = [Part(part.variance / variance, part.df) for part in parts if part.variance > 0.0]
    half = error * _critical(0.05, counted)
    return Difference(estimate, (estimate - half, estimate + half), _p_value(abs(estimate) / error, counted))


def _critical(p: float, weights: Sequence[Part]) -> float:
    return sum(part.variance * critical_value(p, part.df) for part in weights)


def _p_value(t: float, weights: Sequence[Part]) -> float:
    """The p whose critical value is t, by Newton's method on the logarithms of both, which are nearly proportional.

    It starts at the p of the fewest degrees of freedom, which is the highest that it can be.
    """
    p = highest = two_sided_p(t, min(part.df for part in weights))
    if not 1e-140 < highest < 1.0:
        return highest
    for _ in range(20):
        found = _critical(p, weights)
        fall = sum(p * part.variance / (2 * density(critical_value(p, part.df), part.df)) for part in weights) / found
        step = math.log(found / t) / fall
        p = min(highest, p * math.exp(step))
        if abs(step) < 1e-10:
            break
    return p
