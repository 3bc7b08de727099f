"""``rlseq evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rlseq.api.checks import check_checkpoint, check_device, data_problems, refuse
from rlseq.api.decoding import Decoding, decoding_problems
from rlseq.cli.common import (
    Debug,
    Device,
    Json,
    Trusted,
    check_writable,
    console,
    guarded,
    option,
    write_json,
    write_text,
)
from rlseq.cli.decoding import with_decoding


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


DATA = "Data files that lie elsewhere now, or others: task.test_file=FILE, task.test_source=FILE and the like."

EXAMPLES = [
    "rlseq evaluate runs/hull-20260101-120000 --split test --json result.json",
    "rlseq evaluate runs/hull-20260101-120000 --beam 5 --output outputs.txt",
    "rlseq evaluate runs/translation-20260101-120000 task.test_source=new.en task.test_target=new.de",
]


@guarded
@with_decoding
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run for its best one.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="a.b=c", help=DATA)] = None,
    split: Split = SplitChoice.test,
    json: Json = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write what was decoded, one line an instance."),
    ] = None,
    *,
    decoding: Decoding,
    max_instances: MaxInstances = None,
    exposure_bias: Exposure = False,
    likelihood: WithLikelihood = False,
    device: Device = "auto",
    trust: Trusted = False,
    debug: Debug = False,
) -> None:
    """Decode a split and print every metric.

    The lines of --output are those that generate writes; compare takes them as --hypotheses.
    """
    wrong = (
        check_checkpoint(checkpoint) + data_problems(overrides or []) + check_writable(json) + check_writable(output)
    )
    refuse(wrong + check_device(device, "--device") + decoding_problems(decoding, option))

    from rlseq.api.policy import load
    from rlseq.report.tables import evaluation_table, exposure_table, likelihood_table

    policy = load(checkpoint, overrides or [], device=device, trust=trust)
    evaluation = policy.evaluate(
        split.value, max_instances=max_instances, exposure_bias=exposure_bias, likelihood=likelihood, **decoding
    )
    result = evaluation.to_json()
    if output:
        write_text(output, "".join(f"{line}\n" for line in policy.texts(evaluation.outputs)))
    if json:
        write_json(json, result)
    console(json, output).print(evaluation_table(result))
    if exposure_bias:
        console(json, output).print(exposure_table(result["exposure_bias"]))
    if likelihood:
        console(json, output).print(likelihood_table(result["likelihood"]))
