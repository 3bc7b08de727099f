"""``rlseq preflight``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlseq.api.checks import blaming_input, check_checkpoint, check_device, refuse
from rlseq.cli.common import NOT_ADVISABLE, Debug, Device, Json, check_writable, console, guarded, write_json

if TYPE_CHECKING:
    from rlseq.config.schema import Config

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
    debug: Debug = False,
) -> None:
    """Say whether rl is worth starting from a checkpoint: exit code 0 if it is, 3 if it is not.

    Samples, rewards, lengths, costs and the course of cross-entropy are measured; each figure is shown beside what it
    is judged by. Settings that promise more are recommended, with reasons. Nothing is changed.
    """
    given = settings or []
    name, overrides = (given[0], given[1:]) if given and "=" not in given[0] else (None, given)
    foreign = [key for key in overrides if "=" in key and not key.startswith(("rl.", "compute."))]
    wrong = [f"{key}: only rl.* and compute.* can be changed here; the rest is the checkpoint's" for key in foreign]
    refuse(wrong + check_checkpoint(checkpoint) + check_writable(json) + check_device(device, "--device"))
    config = _config(checkpoint, name, overrides)

    import torch

    from rlseq.evaluation import preflight
    from rlseq.evaluation.evaluate import instance_ids
    from rlseq.evaluation.loading import load_policy
    from rlseq.evaluation.verdict import verdict
    from rlseq.report.tables import preflight_tables

    with blaming_input():
        loaded = load_policy(checkpoint, device)
        ids = instance_ids(loaded, "validation", instances)
    if config.compute.threads:
        torch.set_num_threads(config.compute.threads)
    measured = preflight.preflight(loaded, config, ids)
    result = measured.to_json() | verdict(measured)
    if json:
        write_json(json, result)
    console(json).print(*preflight_tables(result), sep="\n")
    if result["verdict"] != "sound":
        raise typer.Exit(NOT_ADVISABLE)


def _config(checkpoint: Path, name: str | None, overrides: list[str]) -> Config:
    """The checkpoint's configuration, with the rl section of the named one if there is a name, and keys changed."""
    from rlseq.config.load import load_config, parse_config
    from rlseq.training.checkpoint import load_checkpoint
    from rlseq.training.run_directory import resolve_checkpoint

    saved = load_checkpoint(resolve_checkpoint(checkpoint))
    rl = {"rl": load_config(name).rl.model_dump(mode="json")} if name else {}
    return parse_config(saved.meta["config"] | rl, str(saved.directory), overrides)
