"""``rlseq evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rlseq.cli.common import (
    Debug,
    Device,
    Json,
    blaming_input,
    check_checkpoint,
    check_device,
    check_writable,
    console,
    guarded,
    refuse,
    write_json,
    write_text,
)
from rlseq.cli.decoding import DecodingFlags, with_decoding


class SplitChoice(StrEnum):
    """A split."""

    train = "train"
    validation = "validation"
    test = "test"


Split = Annotated[SplitChoice, typer.Option(help="The instances to decode.")]
MaxInstances = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N instances.")]
Exposure = Annotated[
    bool,
    typer.Option(
        "--exposure-bias",
        help="Also count the tokens that are the reference's: after its own tokens, and in the greedy output.",
    ),
]

WithLikelihood = Annotated[
    bool, typer.Option("--likelihood", help="Also say how likely the references are: nats and bits a token.")
]


EXAMPLES = [
    "rlseq evaluate runs/hull-20260101-120000 --split test --json result.json",
    "rlseq evaluate runs/hull-20260101-120000 --beam 5 --output outputs.txt",
]


@guarded
@with_decoding
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run for its best one.")],
    split: Split = SplitChoice.test,
    json: Json = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write what was decoded, one line an instance."),
    ] = None,
    *,
    decoding: DecodingFlags,
    max_instances: MaxInstances = None,
    exposure_bias: Exposure = False,
    likelihood: WithLikelihood = False,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Decode a split and print every metric.

    The lines of --output are those that generate writes; compare takes them as --hypotheses.
    """
    wrong = check_checkpoint(checkpoint) + check_writable(json) + check_writable(output)
    refuse(wrong + check_device(device) + decoding.problems())

    from rlseq.evaluation import exposure
    from rlseq.evaluation import likelihood as of_references
    from rlseq.evaluation.evaluate import evaluate
    from rlseq.evaluation.loading import load_policy
    from rlseq.report.tables import evaluation_table, exposure_table, likelihood_table

    with blaming_input():
        loaded = load_policy(checkpoint, device)
        loaded.task.instances(split.value)
    options = decoding.options()
    evaluation = evaluate(loaded, split=split.value, decoding=options, max_instances=max_instances)
    result = evaluation.to_json()
    if output:
        lines = loaded.task.format_outputs(evaluation.outputs.sequences, evaluation.outputs.lengths)
        write_text(output, "".join(f"{line}\n" for line in lines))
    if exposure_bias:
        measured = exposure.exposure_bias(loaded, split=split.value, max_instances=max_instances)
        result["exposure_bias"] = measured.to_json()
    if likelihood:
        found = of_references.likelihood(loaded, split=split.value, max_instances=max_instances)
        result["likelihood"] = found.to_json()
    if json:
        write_json(json, result)
    console(json, output).print(evaluation_table(result))
    if exposure_bias:
        console(json, output).print(exposure_table(result["exposure_bias"]))
    if likelihood:
        console(json, output).print(likelihood_table(result["likelihood"]))
