"""Compare arms on the same instances: what the reward brought beyond its controls, and what else one may ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlseq.config.errors import did_you_mean
from rlseq.evaluation.arms import ArmSpec, arms_of_checkpoints, check_arms
from rlseq.evaluation.buckets import Buckets, make_buckets
from rlseq.evaluation.curves import curve_rows
from rlseq.evaluation.differences import Measured, Measures, PairDifference, attributable, differences, measure
from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.evaluate import json_numbers, number
from rlseq.evaluation.examples import examples
from rlseq.evaluation.judging import Arm, Judge
from rlseq.evaluation.loading import NO_DATA, check_trust, load_policy
from rlseq.evaluation.metrics import held_out
from rlseq.evaluation.options import DecodingOptions
from rlseq.evaluation.seeds import Attributable, Scores, aggregate
from rlseq.training.remote import display_path
from rlseq.training.trust import OWN, Trust
from rlseq_envs.settings.metrics import larger_is_better
from rlseq_envs.task import Ints, SequenceTask, SplitName


@dataclass(frozen=True)
class Comparison:
    """Arms side by side.

    Attributes:
        task: Of all arms.
        arms: In the order given.
        primary: The metric that decides.
        measures: Every metric that can be tested, of every arm that has it.
        differences: Of every pair every metric; see ``differences``.
        attributable: (metric, arm, gain over its best control), the primary metric first.
        settings: split, decoding, resamples and seed, JSON-ready.
        examples: ``regressions`` and ``examples``, JSON-ready; see ``rlseq.evaluation.examples``.
    """

    task: SequenceTask
    arms: list[Arm]
    primary: str
    measures: Measures
    differences: list[PairDifference]
    attributable: list[tuple[str, str, Attributable]]
    settings: dict[str, Any]
    examples: dict[str, list[dict[str, Any]]]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; what is not a number becomes null. ``docs/comparison.md`` explains every key."""
        arms = self.arms
        before = next((arm for arm in arms if arm.role == "mle"), None)
        rewards = {arm.name: arm.judged[0].rewards for arm in arms if arm.judged[0].rewards}
        trained_on = [reward for found in rewards.values() for reward in found]
        curves = {arm.name: [found.curves for found in arm.judged if found.curves] for arm in arms}
        return {
            "primary": self.primary,
            **self.settings,
            "method": _method(arms, self.settings["instances"], self.primary),
            "less_is_better": sorted(name for name in self.measures if not larger_is_better(name)),
            "profile_unit": "words" if self.task.text_metrics() else "tokens",
            "arms": [self._arm(arm) for arm in arms],
            "attributable": [
                {"metric": metric, "arm": arm} | vars(gain) | {"ci95": list(gain.ci95)}
                for metric, arm, gain in self.attributable
            ],
            "differences": [_difference(item) for item in self.differences],
            "trained_on": rewards,
            "held_out": held_out(self.measures, trained_on) if rewards else [],
            "buckets": [self._buckets(buckets) for buckets in self._partitions(before)],
            **(
                {"curves": curve_rows({n: found for n, found in curves.items() if found})}
                if any(curves.values())
                else {}
            ),
            "training_curves": {
                arm.name: [found.history.curve for found in arm.judged if found.history] for arm in arms
            },
            **self.examples,
        }

    # ------------------------------------------------------------------------------------------------ parts of the JSON
    def _arm(self, arm: Arm) -> dict[str, Any]:
        evaluations = [found.evaluation for found in arm.judged]
        measured = {name: by_arm[arm.name] for name, by_arm in self.measures.items() if arm.name in by_arm}
        found = {name: aggregate(one.scores) for name, one in measured.items()}
        metrics = {name: [e.metrics[name] for e in evaluations] for name in evaluations[0].metrics}
        cost = _means([judged.history.cost for judged in arm.judged if judged.history])
        return {
            "name": arm.name,
            "seeds": arm.seeds,
            "checkpoints": [display_path(e.checkpoint) for e in evaluations],
            "role": arm.role,
            "metrics": json_numbers({name: float(np.mean(values)) for name, values in metrics.items()}),
            "seconds": cost.get("cpu_seconds"),
            "per_seed": {name: [number(value) for value in values] for name, values in metrics.items()},
            "iqm": {name: one.iqm for name, one in found.items()},
            "ci95": {name: list(one.ci95) for name, one in found.items()},
            "signatures": evaluations[0].signatures,
            "profile": _means([judged.profile for judged in arm.judged]),
            "cost": cost,
            "selection": [_selection(arm, place) for place in range(len(arm.judged))],
        }

    def _partitions(self, before: Arm | None) -> list[Buckets]:
        by_arm = self.measures[self.primary]
        scores = by_arm[before.name].values.mean(axis=0) if before and before.name in by_arm else None
        return make_buckets(self.task, self.arms[0].judged[0].evaluation.outputs.ids, scores)

    def _buckets(self, buckets: Buckets) -> dict[str, Any]:
        rows = [
            {
                "bucket": label,
                "instances": len(rows),
                "values": {name: _within(one, rows) for name, one in self.measures[self.primary].items()},
            }
            for label, rows in zip(buckets.labels, buckets.rows, strict=True)
        ]
        return {"by": buckets.by, "rows": rows}


def _within(measured: Measured, rows: Ints) -> float | None:
    """The metric on some of the instances, mean over seeds."""
    scores = measured.scores
    return number(float(Scores(scores.statistics[:, rows], scores.score).points.mean()))


def _means(columns: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each value over seeds; None if a seed has none."""
    means = {}
    for name in dict.fromkeys(name for column in columns for name in column):
        values = [column.get(name) for column in columns]
        means[name] = None if None in values else sum(value for value in values if value is not None) / len(values)
    return means


def _selection(arm: Arm, place: int) -> str:
    history = arm.judged[place].history
    parts = ["outputs of another system" if history is None else history.selection, arm.spec.chosen]
    return "; ".join(filter(None, parts))


def _difference(item: PairDifference) -> dict[str, Any]:
    found = vars(item.found) | {name: list(getattr(item.found, name)) for name in _INTERVALS}
    keys = ("delta", "ci95", "p_value", "p_holm", "p_randomization", "ci95_percentile")
    return {
        "metric": item.metric,
        "a": item.a,
        "b": item.b,
        **{key: item.p_holm if key == "p_holm" else found.pop(key) for key in keys},
        **found,
    }


_INTERVALS = ("ci95", "ci95_percentile", "probability_ci95")


def _method(arms: Sequence[Arm], instances: int, primary: str) -> str:
    """One sentence on the intervals and p-values."""
    seeds = max(len(arm.judged) for arm in arms)
    over = f"{instances:,} instances"
    if seeds == 1:
        how = (
            f"95 % intervals and two-sided p-values over {over}, one seed: paired bootstrap (sacreBLEU's for text), "
            "McNemar's test and Newcombe's interval for yes-or-no metrics"
        )
    else:
        how = (
            f"95 % intervals and two-sided p-values over up to {seeds} seeds and {over}, crossed random effects, "
            "critical values of Cochran & Cox (1950)"
        )
    return f"{how}; {primary} is the primary metric, p_holm adjusts the others of a pair (Holm 1979)"


# ------------------------------------------------------------------------------------------------------------ comparing
def compare(
    arms: Sequence[ArmSpec],
    *,
    split: SplitName = "test",
    decoding: DecodingOptions | None = None,
    max_instances: int | None = None,
    primary: str | None = None,
    seed: int = 12345,
    resamples: int = 1000,
    curves: bool = False,
    device: str = "cpu",
    trust: Trust = OWN,
    data: Mapping[str, Any] = NO_DATA,
) -> Comparison:
    """Decode every checkpoint of every arm on the same instances, and compare the arms, each with each.

    Args:
        arms: Two or more, with at least one checkpoint among them.
        split: What to decode.
        decoding: How; default: the task's own way.
        max_instances: Only the first ones.
        primary: The metric that decides; default: the one that selects checkpoints.
        seed: Of the resampling.
        resamples: Of the bootstrap, and trials of the randomisation.
        curves: Also beams and best-of-n, see ``rlseq.evaluation.curves``.
        device: Where to decode.
        trust: What of the code that checkpoints name may be executed.
        data: Data files of all arms that lie elsewhere now, by the task's key.

    Raises:
        EvaluationError: The arms do not share task and instances, two have one name, or there is no such metric.
        TrustError: Checkpoints name code that is not trusted; all of it is named.
        CheckpointError: A checkpoint is missing or damaged.
    """
    check_arms(arms)
    check_trust([path for arm in arms for path in arm.checkpoints], trust, data)
    load = partial(load_policy, device=device, trust=trust, data=data)
    judge = Judge(split, decoding or DecodingOptions(), max_instances, load=load, with_curves=curves)
    judged = judge.judge(arms)
    measures = measure(judge.task, judged)
    decides = _primary(judge.task, measures, primary)
    found = differences(judged, measures, decides, resamples=resamples, seed=seed)
    settings = {
        "split": split,
        "instances": len(judge.ids),
        "decoding": judge.options.to_dict(),
        "resamples": resamples,
        "seed": seed,
    }
    gains, shown = attributable(judged, found), examples(judge.task, judged, load)
    return Comparison(judge.task, judged, decides, measures, found, gains, settings, shown)


def _primary(task: SequenceTask, measures: Measures, asked: str | None) -> str:
    """The metric asked for; or the one that selects, or the reward if that is no mean over instances."""
    if asked is not None and asked not in measures:
        known = ", ".join(measures)
        raise EvaluationError(
            f"no metric {asked!r} can be tested{did_you_mean(asked, list(measures))}; choose from {known}"
        )
    selecting = task.selects_by("rl")
    return asked or (selecting if selecting in measures else "reward")


def compare_checkpoints(
    paths: Sequence[Path | str], *, names: Sequence[str] | None = None, **options: Any
) -> Comparison:
    """Compare checkpoints, each an arm of one seed; see ``arms_of_checkpoints`` and ``compare``."""
    return compare(arms_of_checkpoints(paths, names), **options)
