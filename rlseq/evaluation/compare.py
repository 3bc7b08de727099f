"""Compare checkpoints on the same instances: every metric, every difference with its interval and p-value."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.evaluate import Evaluation, display_path, evaluate, instance_ids, json_numbers, metric_is_share
from rlseq.evaluation.loading import LoadedPolicy, load_policy, signature_difference
from rlseq.evaluation.options import DecodingOptions
from rlseq.evaluation.significance import (
    Difference,
    TextScores,
    compare_means,
    compare_proportions,
    compare_text,
    score_text,
)
from rlseq_envs.task import Bools, Floats, Ints, SequenceTask, SplitName

EXAMPLES = 10  # instances shown side by side


@dataclass(frozen=True)
class Comparison:
    """Arms side by side.

    Attributes:
        arms: One evaluation each, on the same instances.
        differences: (metric, name of a, name of b, b minus a) for every pair, a standing before b; none where a
            metric's own rule says it failed for one of them.
        examples: The instances that changed most.
    """

    arms: list[Evaluation]
    differences: list[tuple[str, str, str, Difference]]
    examples: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: arms, differences, examples."""
        return {
            "arms": [
                {"name": arm.name, "checkpoint": display_path(arm.checkpoint), "metrics": json_numbers(arm.metrics)}
                for arm in self.arms
            ],
            "differences": [
                {"metric": metric, "a": a, "b": b, "delta": d.delta, "ci95": list(d.ci95), "p_value": d.p_value}
                for metric, a, b, d in self.differences
            ],
            "examples": self.examples,
        }


def compare_checkpoints(
    paths: Sequence[Path | str],
    *,
    names: Sequence[str] | None = None,
    split: SplitName = "test",
    decoding: DecodingOptions | None = None,
    max_instances: int | None = None,
    seed: int = 12345,
    resamples: int = 1000,
    device: str = "cpu",
) -> Comparison:
    """Decode each checkpoint on the same instances and compare them, each with each.

    Args:
        paths: Checkpoints or run directories, two or more.
        names: One for each; default: the shortest that tell them apart (``mle`` and ``rl``).
        split: What to decode.
        decoding: How; default: greedily.
        max_instances: Only the first ones.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
        device: Where to decode.

    Raises:
        EvaluationError: The arms do not share task and instances, or their names are not unique.
        CheckpointError: A checkpoint is missing or damaged.
    """
    if len(paths) < 2:
        raise EvaluationError(f"{len(paths)} checkpoint given: a comparison needs two or more")
    loaded = [load_policy(path, device) for path in paths]
    called = arm_names(loaded, names)
    ids = _shared_instances(loaded, called, split, max_instances)
    arms = [
        evaluate(arm, split=split, decoding=decoding, max_instances=len(ids), name=name)
        for arm, name in zip(loaded, called, strict=True)
    ]
    tests = _tests(loaded[0].task, arms, resamples, seed)
    differences = [
        (metric, arms[a].name, arms[b].name, test(a, b))
        for a, b in itertools.combinations(range(len(arms)), 2)
        for metric, test in tests.items()
        if not math.isnan(arms[a].metrics[metric] + arms[b].metrics[metric])
    ]
    return Comparison(arms, differences, _examples(loaded, arms))


# --------------------------------------------------------------------------------------------- the arms belong together
def arm_names(loaded: Sequence[LoadedPolicy], names: Sequence[str] | None) -> list[str]:
    """The given names, or the shortest ones that differ.

    Raises:
        EvaluationError: Names are not unique, or not one for each.
    """
    candidates = [list(names)] if names else list(map(list, zip(*(p.names for p in loaded), strict=True)))
    for called in candidates:
        if len(called) != len(loaded):
            raise EvaluationError(f"{len(called)} names for {len(loaded)} checkpoints: give one for each")
        if len(set(called)) == len(called):
            return called
    repeated = sorted({name for name in candidates[-1] if candidates[-1].count(name) > 1})
    raise EvaluationError(f"two arms are called {', '.join(repeated)}: give each another name, or another checkpoint")


def _shared_instances(
    loaded: Sequence[LoadedPolicy], names: Sequence[str], split: SplitName, max_instances: int | None
) -> Ints:
    """The instances of the first arm, after seeing that the others have the same task and the same instances."""
    first, called = loaded[0], names[0]
    ids = instance_ids(first, split, max_instances)
    for arm, name in zip(loaded[1:], names[1:], strict=True):
        if arm.task.signature != first.task.signature:
            raise EvaluationError(
                f"{called} and {name} were trained for different tasks, their figures cannot be compared:\n"
                f"{signature_difference(first.task.signature, arm.task.signature)}"
            )
        other = instance_ids(arm, split, max_instances)
        if not np.array_equal(ids, other) or _fingerprint(first, ids) != _fingerprint(arm, other):
            raise EvaluationError(
                f"{called} and {name} have different {split} instances: compare checkpoints with the same task section"
            )
    return ids


def _fingerprint(loaded: LoadedPolicy, ids: Ints) -> str:
    """Of the sources and references of these instances."""
    digest = hashlib.sha256()
    for start in range(0, len(ids), 1000):
        part = ids[start : start + 1000]
        for array in (*loaded.task.source(part), *loaded.task.references(part)):
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        texts = loaded.task.text_pairs(*loaded.task.references(part), part)
        digest.update(repr(texts.references if texts else None).encode())
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------------------------- tests
_Test = Callable[[int, int], Difference]  # from the places of two arms


def _tests(task: SequenceTask, arms: Sequence[Evaluation], resamples: int, seed: int) -> dict[str, _Test]:
    """A paired test for each metric: the text metrics, then those that are means over instances."""
    tests: dict[str, _Test] = {}
    pairs = [task.text_pairs(arm.outputs.sequences, arm.outputs.lengths, arm.outputs.ids) for arm in arms]
    for name, metric in task.text_metrics().items():
        scores = [score_text(metric, p.hypotheses, p.references, resamples, seed) for p in pairs if p is not None]
        tests[name] = partial(_text_test, scores)
    for name in arms[0].outputs.values:
        values = [arm.outputs.values[name] for arm in arms]
        tests[name] = partial(_instance_test, values, _unit(name, values, arms), resamples, seed)
    return tests


def _text_test(scores: Sequence[TextScores], a: int, b: int) -> Difference:
    return compare_text(scores[a], scores[b])


def _instance_test(
    values: Sequence[Bools | Floats], unit: float, resamples: int, seed: int, a: int, b: int
) -> Difference:
    if metric_is_share(values[a]):
        return compare_proportions(values[a], values[b]).scaled(unit)  # type: ignore[arg-type]
    return compare_means(values[a], values[b], resamples, seed).scaled(unit)  # type: ignore[arg-type]


def _unit(name: str, values: Sequence[Bools | Floats], arms: Sequence[Evaluation]) -> float:
    """What a mean over instances is multiplied with to be the metric of that name: 100 where that is in per cent, or 1.

    Raises:
        EvaluationError: It is neither, so the name stands for two things.
    """
    shown = [arm.metrics[name] for arm in arms]
    means = [math.nan if math.isnan(total) else float(np.nanmean(v)) for total, v in zip(shown, values, strict=True)]
    for unit in (100.0, 1.0) if metric_is_share(values[0]) else (1.0, 100.0):
        if np.allclose(shown, [unit * mean for mean in means], rtol=1e-6, atol=1e-9, equal_nan=True):
            return unit
    raise EvaluationError(
        f"the task calls two things {name!r}: a corpus metric {shown} and a mean over instances {means}; rename one"
    )


# ------------------------------------------------------------------------------------------------------------ examples
def _examples(loaded: Sequence[LoadedPolicy], arms: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """The instances whose rewards lie farthest apart, those that differ at all; the first ones among equals."""
    rewards = np.stack([arm.outputs.rewards for arm in arms])
    spread = rewards.max(axis=0) - rewards.min(axis=0)
    order = np.argsort(-spread, kind="stable")[:EXAMPLES]
    return [_example(loaded[0], arms, int(row)) for row in order if spread[row] > 0]


def _example(loaded: LoadedPolicy, arms: Sequence[Evaluation], row: int) -> dict[str, Any]:
    instance = int(arms[0].outputs.ids[row])
    drawn = [loaded.task.render(instance, arm.outputs.sequences[row, : arm.outputs.lengths[row]]) for arm in arms]
    return {
        "id": instance,
        "source": drawn[0].source,
        "reference": drawn[0].reference,
        "outputs": [
            {"name": arm.name, "output": shown.output, "reward": float(arm.outputs.rewards[row])}
            for arm, shown in zip(arms, drawn, strict=True)
        ],
    }
