"""``rlseq compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
from rlseq.cli.decoding import DecodingFlags, with_decoding
from rlseq.cli.evaluate import MaxInstances, Split, SplitChoice

EXAMPLES = [
    "rlseq compare runs/mine/checkpoints/mle runs/mine/checkpoints/rl --json both.json",
    "rlseq compare runs/a runs/b runs/c --name a --name b --name c",
]


@guarded
@with_decoding
def compare(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CKPT CKPT", help="Checkpoints, or runs.")],
    json: Json = None,
    split: Split = SplitChoice.test,
    name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What to call an arm; once for each, in order.")
    ] = None,
    *,
    decoding: DecodingFlags,
    max_instances: MaxInstances = None,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Decode checkpoints on the same instances and test every difference.

    Each difference comes with a 95 % interval and a p-value, and the ten instances that changed most are shown.
    """
    wrong = _problems(checkpoints, name) + decoding.problems()
    refuse(wrong + check_writable(json) + check_device(device))

    from rlseq.evaluation.compare import compare_checkpoints
    from rlseq.report.tables import comparison_tables

    with blaming_input():
        comparison = compare_checkpoints(
            checkpoints,
            names=name,
            split=split.value,
            decoding=decoding.options(),
            max_instances=max_instances,
            device=device,
        )
    result = comparison.to_json()
    if json:
        write_json(json, result)
    console(json).print(*comparison_tables(result), sep="\n")


def _problems(checkpoints: list[Path], names: list[str] | None) -> list[str]:
    wrong = [] if len(checkpoints) > 1 else ["one checkpoint is no comparison: give two or more"]
    wrong += [f"{path}: no such checkpoint or run directory" for path in checkpoints if not path.exists()]
    if names and len(names) != len(checkpoints):
        wrong.append(f"{len(names)} names for {len(checkpoints)} checkpoints: give one --name for each")
    return wrong
