"""Single instances, the outputs of the arms side by side, and what each of their tokens read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rlseq.decoding.attention_map import Weights, column_labels, grid_of, without_padding
from rlseq.decoding.encoding import encode_sources
from rlseq.evaluation.evaluate import Outputs
from rlseq.evaluation.judging import Arm, Judged
from rlseq.evaluation.loading import LoadedPolicy
from rlseq_envs.drawing import drawing_to_json
from rlseq_envs.source import source_sizes
from rlseq_envs.task import Floats, Rendering, SequenceTask

EXAMPLES = 10  # instances shown side by side
Load = Callable[[Path], LoadedPolicy]
Attention = Mapping[tuple[Path, int], Weights]  # of a checkpoint on a row: (tokens, positions), padded


class Shown(NamedTuple):
    """An instance to show.

    Attributes:
        row: Of the instances.
        place: Of the seed among those of an arm; an arm of fewer seeds shows its last one.
    """

    row: int
    place: int

    def of(self, arm: Arm) -> Judged:
        """What the arm shows."""
        return arm.judged[min(self.place, len(arm.judged) - 1)]


def examples(task: SequenceTask, arms: Sequence[Arm], load: Load) -> dict[str, list[dict[str, Any]]]:
    """The instances to look at, JSON-ready.

    Args:
        task: Of all arms.
        arms: As they were judged.
        load: Loads the policy of a checkpoint: every one shown, again, to find out what its greedy outputs read.

    Returns:
        regressions: Where the first arm of the reward lost most against the first mle; empty if one is missing.
        examples: Where the arms lie farthest apart.
    """
    before, after = (next((arm for arm in arms if arm.role == role), None) for role in ("mle", "reward"))
    shown = {"regressions": _regressions(before, after) if before and after else [], "examples": _changed_most(arms)}
    attention = _attention(task, arms, {each for found in shown.values() for each in found}, load)
    return {name: [_example(task, arms, each, attention) for each in found] for name, found in shown.items()}


# --------------------------------------------------------------------------------------------------- which instances
def _changed_most(arms: Sequence[Arm]) -> list[Shown]:
    """The instances whose rewards lie farthest apart, those that differ at all; the first ones among equals.

    Rewards are means over seeds; the outputs shown are those of the seed in which they lie farthest apart.
    """
    means = np.stack([arm.rewards.mean(axis=0) for arm in arms])
    seeds = min(len(arm.judged) for arm in arms)
    each = np.stack([arm.rewards[:seeds] for arm in arms])
    return _largest(means.max(axis=0) - means.min(axis=0), each.max(axis=0) - each.min(axis=0))


def _regressions(before: Arm, after: Arm) -> list[Shown]:
    """The instances on which ``after`` lost most against ``before``; as above."""
    seeds = min(len(before.judged), len(after.judged))
    losses = before.rewards[:seeds] - after.rewards[:seeds]
    return _largest(before.rewards.mean(axis=0) - after.rewards.mean(axis=0), losses)


def _largest(sizes: Floats, each: Floats) -> list[Shown]:
    """The instances of the largest ``sizes`` (instances,) above 0, from the seed of the largest of ``each``."""
    rows = np.argsort(-sizes, kind="stable")[:EXAMPLES]
    return [Shown(int(row), int(each[:, row].argmax())) for row in rows if sizes[row] > 0]


# ---------------------------------------------------------------------------------------------------------- attention
def _attention(task: SequenceTask, arms: Sequence[Arm], shown: Iterable[Shown], load: Load) -> Attention:
    """What greedy outputs read; one policy is in memory at a time."""
    wanted: dict[Path, tuple[Outputs, set[int]]] = {}
    for arm in arms:
        for each in shown:
            judged = each.of(arm)
            if judged.seed is not None and judged.evaluation.decoding.method == "greedy":
                wanted.setdefault(judged.evaluation.checkpoint, (judged.evaluation.outputs, set()))[1].add(each.row)
    return {
        (checkpoint, row): weights
        for checkpoint, (outputs, rows) in wanted.items()
        for row, weights in zip(rows, _read(task, load(checkpoint), outputs, list(rows)), strict=True)
    }


@torch.no_grad()
def _read(task: SequenceTask, loaded: LoadedPolicy, outputs: Outputs, rows: list[int]) -> list[Weights]:
    """Attention (time, columns) of a policy that is forced to emit its outputs again, of each row."""
    source = task.source(outputs.ids[rows])
    memory = encode_sources(loaded.policy, source, loaded.device).detach()
    targets, lengths = (torch.from_numpy(part[rows]).to(loaded.device) for part in (outputs.sequences, outputs.lengths))
    attention = loaded.policy.forced(memory, targets, lengths).attention.cpu().numpy()
    return without_padding(task, attention, source_sizes(source))


# ------------------------------------------------------------------------------------------------------------- the JSON
def _example(task: SequenceTask, arms: Sequence[Arm], shown: Shown, attention: Attention) -> dict[str, Any]:
    instance = int(arms[0].judged[0].evaluation.outputs.ids[shown.row])
    chosen = [(arm.name, shown.of(arm)) for arm in arms]
    seeds = [found.seed for _, found in chosen if found.seed is not None]
    reference = task.render(instance, task.references(np.array([instance]))[0][0])
    example: dict[str, Any] = {
        "id": instance, "seed": seeds[0], "source": reference.source, "reference": reference.reference,
    }  # fmt: skip
    example |= _drawing(reference)
    outputs = [{"name": name} | _output(task, found, instance, shown.row, attention) for name, found in chosen]
    if all(output.get("drawing") == example.get("drawing") for output in outputs):  # that of the source
        outputs = [{key: value for key, value in output.items() if key != "drawing"} for output in outputs]
    return example | {"outputs": outputs}


def _output(task: SequenceTask, judged: Judged, instance: int, row: int, attention: Attention) -> dict[str, Any]:
    outputs = judged.evaluation.outputs
    drawn = task.render(instance, outputs.sequences[row, : outputs.lengths[row]])
    text = drawn.output if judged.seed is not None or judged.texts is None else judged.texts.hypotheses[row]
    shown: dict[str, Any] = {"output": text, "reward": float(outputs.rewards[row])} | _drawing(drawn)
    read = attention.get((judged.evaluation.checkpoint, row))
    grid = None if read is None else grid_of(task, read.shape[1])
    if read is not None and (drawn.input_labels or grid) and drawn.output_labels:
        shown |= {
            "attention": read[: outputs.lengths[row]].astype(np.float64).round(3).tolist(),
            "input_labels": list(column_labels(task, drawn, read.shape[1])),
            "output_labels": list(drawn.output_labels),
        }
        shown |= {"grid": list(grid)} if grid else {}
    return shown


def _drawing(drawn: Rendering) -> dict[str, Any]:
    return {} if drawn.drawing is None else {"drawing": drawing_to_json(drawn.drawing)}
