"""Every difference between arms, by every metric, and what of it is the reward's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.evaluate import metric_is_share
from rlseq.evaluation.judging import Arm
from rlseq.evaluation.seeds import (
    Attributable,
    Scores,
    SeedDifference,
    best_control,
    compare_arms,
    holm,
    of_means,
    of_text,
)
from rlseq_envs.settings.metrics import larger_is_better
from rlseq_envs.task import Bools, Floats, SequenceTask


@dataclass(frozen=True)
class Measured:
    """A metric of an arm.

    Attributes:
        scores: Of all its seeds and instances.
        values: (seeds, instances) the score of each instance alone; NaN if it does not count.
    """

    scores: Scores
    values: Floats


Measures = Mapping[str, Mapping[str, Measured]]  # metric to arm


def measure(task: SequenceTask, arms: Sequence[Arm]) -> Measures:
    """The metrics that can be tested: those of text, then means over instances, each of the arms that have it.

    An arm has none if the metric's own rule says that it failed for a seed.

    Raises:
        EvaluationError: A corpus metric and a mean over instances of one name are different things.
    """
    found: dict[str, dict[str, Measured]] = {}
    for name, metric in task.text_metrics().items():
        found[name] = {}
        for arm in arms:
            texts = [judged.texts for judged in arm.judged if judged.texts is not None]
            scores = of_text(metric, [text.hypotheses for text in texts], texts[0].references)
            found[name][arm.name] = Measured(scores, scores.of_instances())
    for name in dict.fromkeys(name for arm in arms for name in arm.judged[0].evaluation.outputs.values):
        having = [arm for arm in arms if name in arm.judged[0].evaluation.outputs.values]
        unit = _unit(name, having)
        made = {arm.name: _mean(name, arm, unit) for arm in having if not np.isnan(_shown(name, arm)).any()}
        found.setdefault(name, made)
    return {name: by_arm for name, by_arm in found.items() if by_arm}


def _mean(name: str, arm: Arm, unit: float) -> Measured:
    values: Bools | Floats = np.stack(_columns(name, arm))  # type: ignore[assignment]
    return Measured(of_means(values, unit), unit * values.astype(np.float64))


def _columns(name: str, arm: Arm) -> list[Bools | Floats]:
    return [judged.evaluation.outputs.values[name] for judged in arm.judged]


def _shown(name: str, arm: Arm) -> list[float]:
    return [judged.evaluation.metrics[name] for judged in arm.judged]


def _unit(name: str, arms: Sequence[Arm]) -> float:
    """What a mean over instances is multiplied with to be the metric of that name: 100 if that is in per cent, or 1.

    Raises:
        EvaluationError: It is neither, so the name stands for two things.
    """
    shown = [value for arm in arms for value in _shown(name, arm)]
    columns = [column for arm in arms for column in _columns(name, arm)]
    means = [math.nan if math.isnan(total) else float(np.nanmean(c)) for total, c in zip(shown, columns, strict=True)]
    for unit in (100.0, 1.0) if metric_is_share(columns[0]) else (1.0, 100.0):
        if np.allclose(shown, [unit * mean for mean in means], rtol=1e-6, atol=1e-9, equal_nan=True):
            return unit
    raise EvaluationError(
        f"the task calls two things {name!r}: a corpus metric {shown} and a mean over instances {means}; rename one"
    )


# --------------------------------------------------------------------------------------------------------- differences
@dataclass(frozen=True)
class PairDifference:
    """One metric of two arms.

    Attributes:
        metric: The metric.
        a: The arm that is compared against.
        b: The other.
        found: b minus a.
        p_holm: The p-value adjusted for the other metrics of this pair; the primary metric's as it is.
    """

    metric: str
    a: str
    b: str
    found: SeedDifference
    p_holm: float


def pairs(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Each arm with each later one, as (a, b); an arm of the reward is b beside cross-entropy and controls."""
    return [
        (b, a) if a.role == "reward" and b.role in ("mle", "control") else (a, b)
        for a, b in itertools.combinations(arms, 2)
    ]


def differences(
    arms: Sequence[Arm], measures: Measures, primary: str, *, resamples: int, seed: int
) -> list[PairDifference]:
    """Of every pair every metric that both have, the primary one first; see ``compare_arms`` for the arguments."""
    names = [primary, *(name for name in measures if name != primary)]
    found = []
    for a, b in pairs(arms):
        tested = {
            name: _compare(name, a, b, measures[name], resamples, seed)
            for name in names
            if {a.name, b.name} <= measures[name].keys()
        }
        others = [name for name in tested if name != primary]
        adjusted = dict(zip(others, holm([tested[name].p_value for name in others]), strict=True))
        found += [
            PairDifference(name, a.name, b.name, difference, adjusted.get(name, difference.p_value))
            for name, difference in tested.items()
        ]
    return found


def _compare(name: str, a: Arm, b: Arm, by_arm: Mapping[str, Measured], resamples: int, seed: int) -> SeedDifference:
    """Seeds are paired if the arms have the same ones; one seed each is a pair, whatever its number."""
    first, second = by_arm[a.name], by_arm[b.name]
    return compare_arms(
        first.scores,
        second.scores,
        resamples=resamples,
        seed=seed,
        paired=a.seeds == b.seeds or len(a.judged) == len(b.judged) == 1,
        larger_is_better=larger_is_better(name),
        values=(first.values, second.values),
    )


def attributable(arms: Sequence[Arm], found: Sequence[PairDifference]) -> list[tuple[str, str, Attributable]]:
    """(metric, arm, gain over its best control) of every arm of the reward, in the order of ``found``."""
    controls = {arm.name for arm in arms if arm.role == "control"}
    rows = []
    for arm in (arm.name for arm in arms if arm.role == "reward"):
        against: dict[str, dict[str, SeedDifference]] = {}
        for item in found:
            if item.b == arm and item.a in controls:
                against.setdefault(item.metric, {})[item.a] = item.found
        for metric, by_control in against.items():
            gain = best_control(by_control, larger_is_better=larger_is_better(metric))
            rows.append((metric, arm, gain))
    return rows
