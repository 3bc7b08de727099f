"""``rlseq evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlseq.cli.common import (
    Debug,
    Device,
    Json,
    blaming_input,
    check_device,
    check_writable,
    console,
    guarded,
    refuse,
    write_json,
)

if TYPE_CHECKING:
    from rlseq.evaluation.decoding import DecodingOptions


class SplitChoice(StrEnum):
    """A split."""

    train = "train"
    validation = "validation"
    test = "test"


Split = Annotated[SplitChoice, typer.Option(help="The instances to decode.")]
MaxInstances = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N instances.")]
Beam = Annotated[int | None, typer.Option(min=1, metavar="N", help="Beam search of this size; default: greedy.")]
LengthPenalty = Annotated[
    float | None,
    typer.Option(min=0.0, metavar="A", help="Beam scores are divided by length to this power; default: 1."),
]


EXAMPLES = ["rlseq evaluate runs/hull-20260101-120000 --split test --json result.json"]


@guarded
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run for its best one.")],
    split: Split = SplitChoice.test,
    json: Json = None,
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    max_instances: MaxInstances = None,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Decode a split and print every metric."""
    refuse(check_writable(json) + check_device(device) + beam_problems(beam, length_penalty))

    from rlseq.evaluation.evaluate import evaluate
    from rlseq.evaluation.loading import load_policy
    from rlseq.report.tables import evaluation_table

    with blaming_input():
        loaded = load_policy(checkpoint, device)
        loaded.task.instances(split.value)
    decoding = greedy_or_beam(beam, length_penalty)
    result = evaluate(loaded, split=split.value, decoding=decoding, max_instances=max_instances).to_json()
    if json:
        write_json(json, result)
    console(json).print(evaluation_table(result))


def beam_problems(beam: int | None, length_penalty: float | None) -> list[str]:
    """Options of the beam without a beam."""
    if length_penalty is not None and beam is None:
        return ["--length-penalty is for beam search: give --beam too"]
    return []


def greedy_or_beam(beam: int | None, length_penalty: float | None) -> DecodingOptions:
    """How to decode: with a beam where its size is given, greedily otherwise."""
    from rlseq.evaluation.decoding import DecodingOptions

    if beam is None:
        return DecodingOptions()
    return DecodingOptions("beam", beam_size=beam, length_penalty=1.0 if length_penalty is None else length_penalty)
