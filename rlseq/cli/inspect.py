"""``rlseq inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlseq.api.checks import refuse
from rlseq.api.inspecting import inspect as inspected
from rlseq.cli.common import Debug, Json, check_writable, guarded, write_json
from rlseq.config.errors import UserError

EXAMPLES = [
    "rlseq inspect runs/hull-20260101-120000",
    "rlseq inspect runs/hull-20260101-120000/checkpoints/mle/latest --json -",
]


@guarded
def inspect(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run for its best one.")],
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Say what a checkpoint is, whether it is sound, and what code it would have executed.

    Nothing that it names is imported, so it may be somebody else's. Of one that is damaged it is said what can be said;
    the exit code is 2.
    """
    refuse(check_writable(json))

    from rlseq.report.inspection import inspection_lines

    found = inspected(checkpoint)
    if json:
        write_json(json, found)
    if str(json) != "-":
        for line in inspection_lines(found):
            typer.echo(line)
    if found["error"]:
        raise UserError(found["error"])
