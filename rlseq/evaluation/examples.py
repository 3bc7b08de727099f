"""Single instances, the outputs of the arms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlseq.evaluation.judging import Arm, Judged
from rlseq_envs.task import Floats, SequenceTask

EXAMPLES = 10  # instances shown side by side


def changed_most(task: SequenceTask, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The instances whose rewards lie farthest apart, those that differ at all; the first ones among equals.

    Rewards are means over seeds; the outputs shown are those of the seed in which they lie farthest apart.
    """
    means = np.stack([arm.rewards.mean(axis=0) for arm in arms])
    seeds = min(len(arm.judged) for arm in arms)
    each = np.stack([arm.rewards[:seeds] for arm in arms])
    return _shown(task, arms, means.max(axis=0) - means.min(axis=0), each.max(axis=0) - each.min(axis=0))


def regressions(task: SequenceTask, arms: Sequence[Arm], before: Arm, after: Arm) -> list[dict[str, Any]]:
    """The instances on which ``after`` lost most against ``before``; as above."""
    seeds = min(len(before.judged), len(after.judged))
    losses = before.rewards[:seeds] - after.rewards[:seeds]
    return _shown(task, arms, before.rewards.mean(axis=0) - after.rewards.mean(axis=0), losses)


def _shown(task: SequenceTask, arms: Sequence[Arm], sizes: Floats, each: Floats) -> list[dict[str, Any]]:
    """The instances of the largest ``sizes`` (instances,) above 0, from the seed of the largest of ``each``."""
    rows = np.argsort(-sizes, kind="stable")[:EXAMPLES]
    return [_example(task, arms, int(row), int(each[:, row].argmax())) for row in rows if sizes[row] > 0]


def _example(task: SequenceTask, arms: Sequence[Arm], row: int, seed: int) -> dict[str, Any]:
    instance = int(arms[0].judged[0].evaluation.outputs.ids[row])
    chosen = [(arm, arm.judged[min(seed, len(arm.judged) - 1)]) for arm in arms]
    seeds = [found.seed for _, found in chosen if found.seed is not None]
    reference = task.render(instance, task.references(np.array([instance]))[0][0])
    example: dict[str, Any] = {
        "id": instance, "seed": seeds[0], "source": reference.source, "reference": reference.reference,
    }  # fmt: skip
    if reference.points is not None:
        example |= {"points": reference.points.tolist(), "reference_polygon": list(reference.reference_polygon or ())}
    return example | {"outputs": [{"name": arm.name} | _output(task, found, instance, row) for arm, found in chosen]}


def _output(task: SequenceTask, judged: Judged, instance: int, row: int) -> dict[str, Any]:
    outputs = judged.evaluation.outputs
    drawn = task.render(instance, outputs.sequences[row, : outputs.lengths[row]])
    text = drawn.output if judged.seed is not None or judged.texts is None else judged.texts.hypotheses[row]
    shown: dict[str, Any] = {"output": text, "reward": float(outputs.rewards[row])}
    return shown | ({} if drawn.polygon is None else {"polygon": list(drawn.polygon)})
