"""How often the intervals of ``rlseq.evaluation.seeds`` hold the truth, in simulated pairs of arms of known truth.

``python scripts/studies.py coverage`` runs it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blocks import table
from rlseq.evaluation.seeds import Scores, bootstrap, difference, of_means
from rlseq.evaluation.significance import Floats, percentile_interval

INSTANCES = 300
RESAMPLES = 200
SEEDS = (3, 5, 10)

Draw = Callable[[np.random.Generator, Floats, Floats, float], Scores]


@dataclass(frozen=True)
class Regime:
    """A kind of arms: what their scores are made of.

    Attributes:
        name: As the table has it.
        of_seeds: Standard deviation of the effects of seeds, of each arm.
        of_instances: Standard deviation of the effects of instances that the two arms do not have in common.
        effect: How much better the second arm is.
        draw: (generator, (seeds, 1) effects, (1, instances) effects, the arm's effect) to the arm's scores.
        fixed: Whether the first arm is a fixed system, such as the outputs of another program.
    """

    name: str
    of_seeds: float
    of_instances: float
    effect: float
    draw: Draw
    fixed: bool = False

    def arms(self, generator: np.random.Generator, seeds: int, effect: float) -> tuple[Scores, Scores]:
        """Two arms on the same instances, which are hard or easy for both."""
        common = generator.normal(0, 1, (1, INSTANCES))
        first, second = (
            self.draw(
                generator,
                generator.normal(0, self.of_seeds, (count, 1)) * (count > 1),
                common + generator.normal(0, self.of_instances, (1, INSTANCES)),
                shift,
            )
            for count, shift in ((1 if self.fixed else seeds, 0.0), (seeds, effect))
        )
        return first, second

    def truth(self, effect: float) -> float:
        """The difference over all seeds and instances: the mean over 400 seeds with 20,000 instances each."""
        return self._expected(effect, self.of_seeds) - self._expected(0.0, 0.0 if self.fixed else self.of_seeds)

    def _expected(self, effect: float, of_seeds: float) -> float:
        generator = np.random.default_rng(1)
        scores = []
        for _ in range(400):
            of_seed = generator.normal(0, 1, (1, 1)) * of_seeds
            of_instances = generator.normal(0, np.hypot(1, self.of_instances), (1, 20_000))
            scores.append(self.draw(generator, of_seed, of_instances, effect).points[0])
        return float(np.mean(scores))


# ------------------------------------------------------------------------------------------------------ what is drawn
def normal_values(generator: np.random.Generator, of_seeds: Floats, of_instances: Floats, effect: float) -> Scores:
    """Means of normal values, with a residual of deviation 1."""
    of_both = of_seeds + of_instances + effect
    return of_means(of_both + generator.normal(0, 1, of_both.shape))


def accuracy(generator: np.random.Generator, of_seeds: Floats, of_instances: Floats, effect: float) -> Scores:
    """Yes-or-no values, in per cent; the effects are on their log-odds."""
    right = _sigmoid(0.8 + 1.5 * of_instances + of_seeds + effect)
    return of_means(generator.random(right.shape) < right, unit=100.0)


def corpus_bleu(generator: np.random.Generator, of_seeds: Floats, of_instances: Floats, effect: float) -> Scores:
    """BLEU of outputs whose lengths and numbers of right n-grams are drawn."""
    right = _sigmoid(0.8 + 0.6 * of_instances + of_seeds + effect)
    reference = generator.poisson(10, of_instances.shape) + 4
    length = np.maximum(4, reference + generator.integers(-2, 2, right.shape))
    orders = [length - n for n in range(4)]
    matches = [generator.binomial(length, right)]
    for _ in range(3):
        matches.append(generator.binomial(np.maximum(matches[-1] - 1, 0), right))
    columns = [length, np.broadcast_to(reference, right.shape), *matches, *orders]
    return Scores(np.stack(columns, axis=-1).astype(np.float64), bleu)


def bleu(totals: Floats) -> float:
    """SacreBLEU's BLEU of summed statistics that have matches of every order; the simulations need it faster."""
    length, reference, *counts = totals.tolist()
    precisions = sum(math.log(match / total) for match, total in zip(counts[:4], counts[4:], strict=True)) / 4
    return 100 * math.exp(precisions + min(0.0, 1 - reference / length))


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float64)


REGIMES = (
    Regime("means, mostly seeds vary", 0.4, 0.5, 0.3, normal_values),
    Regime("means, mostly instances vary", 0.01, 2.0, 0.3, normal_values),
    Regime("means, both vary", 0.1, 1.0, 0.3, normal_values),
    Regime("means, seeds do not vary", 0.0, 0.5, 0.3, normal_values),
    Regime("accuracy", 0.15, 0.5, 0.3, accuracy),
    Regime("corpus BLEU", 0.1, 0.5, 0.2, corpus_bleu),
    Regime("accuracy, against a fixed system", 0.15, 0.5, 0.3, accuracy, fixed=True),
)


# ------------------------------------------------------------------------------------------------------ what is counted
def coverage(simulations: int, seeds: Sequence[int] = SEEDS, regimes: Sequence[Regime] = REGIMES) -> dict[str, Any]:
    """Coverage and false positives of both intervals, in per cent of the simulations."""
    rows = []
    for regime in regimes:
        truth, no_truth = regime.truth(regime.effect), regime.truth(0.0) if regime.fixed else 0.0
        for count in seeds:
            hits, alarms = (
                held(regime, count, simulations, e, t) for e, t in ((regime.effect, truth), (0.0, no_truth))
            )
            rows.append({"regime": regime.name, "seeds": count} | _rates(hits, alarms))
            print(rows[-1], file=sys.stderr, flush=True)
    return {"simulations": simulations, "instances": INSTANCES, "resamples": RESAMPLES, "rows": rows}


def held(regime: Regime, seeds: int, simulations: int, effect: float, truth: float) -> Floats:
    """(simulations, 2) whether the crossed interval, and the percentile bootstrap's, hold the true difference."""
    found = []
    for simulation in range(simulations):
        generator = np.random.default_rng([simulation, seeds, effect > 0])
        first, second = regime.arms(generator, seeds, effect)
        paired = not regime.fixed
        crossed = difference(first, second, resamples=RESAMPLES, seed=0, paired=paired).ci95
        one, other = bootstrap(first, second, resamples=RESAMPLES, seed=0, paired=paired)
        percentile = percentile_interval(other.mean(axis=1) - one.mean(axis=1))
        found.append([low <= truth <= high for low, high in (crossed, percentile)])
    return np.array(found, dtype=np.float64)


def _rates(hits: Floats, alarms: Floats) -> dict[str, float]:
    covered, missed = (100 * hits.mean(axis=0)).tolist(), (100 * (1 - alarms.mean(axis=0))).tolist()
    return {
        "coverage_crossed": round(covered[0], 2),
        "coverage_percentile": round(covered[1], 2),
        "alarms_crossed": round(missed[0], 2),
        "alarms_percentile": round(missed[1], 2),
    }


def coverage_table(result: dict[str, Any]) -> list[str]:
    """A row for each regime and number of seeds."""
    header = ["scores", "seeds", "coverage", "coverage, percentile", "false positives", "false positives, percentile"]
    columns = ("coverage_crossed", "coverage_percentile", "alarms_crossed", "alarms_percentile")
    rows = [
        [row["regime"] if row["seeds"] == SEEDS[0] else "", str(row["seeds"]), *(f"{row[key]:.1f}" for key in columns)]
        for row in result["rows"]
    ]
    return table(header, rows)
