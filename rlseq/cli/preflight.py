"""``rlseq preflight``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlseq.api.checks import refuse
from rlseq.cli.common import (
    NOT_ADVISABLE,
    Debug,
    Device,
    Json,
    Trusted,
    check_writable,
    console,
    guarded,
    option,
    write_json,
)

EXAMPLES = [
    "rlseq preflight runs/hull-20260101-120000/checkpoints/mle rl.samples=4 rl.temperature=0.6",
    "rlseq preflight runs/hull-20260101-120000/checkpoints/mle hull-long --json preflight.json",
]


@guarded
def preflight(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run for its best one.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG a.b=c",
            help="The configuration whose rl section is meant, by default the checkpoint's; keys of it to change.",
        ),
    ] = None,
    instances: Annotated[int, typer.Option(min=20, metavar="N", help="Validation instances to look at.")] = 300,
    json: Json = None,
    device: Device = "auto",
    trust: Trusted = False,
    debug: Debug = False,
) -> None:
    """Say whether rl is worth starting from a checkpoint: exit code 0 if it is, 3 if it is not.

    Samples, rewards, lengths, costs and the course of cross-entropy are measured; each figure is shown beside what it
    is judged by. Settings that promise more are recommended, with reasons. Nothing is changed.
    """
    given = settings or []
    name, overrides = (given[0], given[1:]) if given and "=" not in given[0] else (None, given)

    from rlseq.api import judging

    refuse(judging.preflight_problems(checkpoint, overrides, instances, device, option) + check_writable(json))

    from rlseq.report.tables import preflight_tables

    result = judging.preflight(checkpoint, name, overrides, instances=instances, device=device, trust=trust)
    if json:
        write_json(json, result)
    console(json).print(*preflight_tables(result), sep="\n")
    if result["verdict"] != "sound":
        raise typer.Exit(NOT_ADVISABLE)
