"""``rlseq submit``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlseq.api.checks import Stopped, refuse
from rlseq.cli.common import Debug, guarded

if TYPE_CHECKING:
    from rlseq.rllib.submission import Jobs

EXAMPLES = [
    "rlseq submit hull compute.runners=8 --address http://10.0.0.1:8265 --run /shared/runs/hull",
    "rlseq submit mine.yaml --address http://10.0.0.1:8265 --run s3://bucket/runs/mine --detach --retries 3",
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="The cluster's dashboard; default: RAY_API_SERVER_ADDRESS, or http://127.0.0.1:8265."
    ),
]


@guarded
def submit(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A shipped name (see `rlseq configs`) or a YAML file.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="a.b=c", help="Keys of the configuration to change.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="DIR",
            help="The run directory, on storage that outlives the job, or a URI such as s3://bucket/hull; one with a "
            "checkpoint is resumed.",
        ),
    ] = None,
    address: Address = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow/--detach", help="Show what the job prints and end with its exit code, or return at once."
        ),
    ] = True,
    retries: Annotated[
        int, typer.Option(min=0, metavar="N", help="How often a training that was killed or failed is resumed.")
    ] = 0,
    cpus: Annotated[float, typer.Option(min=0, metavar="N", help="CPUs reserved for the driver.")] = 0,
    gpus: Annotated[float, typer.Option(min=0, metavar="N", help="GPUs reserved for the driver.")] = 0,
    debug: Debug = False,
) -> None:
    """Train as a job of a Ray cluster, which gets the working directory with the user's modules.

    Workers that the configuration asks for run on the same cluster. The working directory is copied without runs/,
    .git, .venv and what .gitignore names.
    """
    from rlseq.api.settings import new_settings
    from rlseq.training.remote import uri_of
    from rlseq.training.trust import Trust, code_of

    refuse(_problems(config, run))
    assert run is not None
    settings = new_settings(config, overrides or [], None, mle_only=False)  # what is wrong is told here
    trusted = Trust.given(False).including(code_of(settings)).variable()  # a machine that resumes it may be another one

    jobs, place, where = connected(address), dashboard(address), uri_of(run) or os.path.abspath(run)
    job = jobs.submit([config, *(overrides or [])], where, retries=retries, cpus=cpus, gpus=gpus, trusted=trusted)
    again = f"{job} --address {shlex.quote(place)}"
    typer.echo(f"job {job}, run directory {where}")
    if not follow:
        typer.echo(f"follow it with: rlseq jobs logs {again} --follow")
        typer.echo(f"stop it with: rlseq jobs stop {again}")
        return
    try:
        code = jobs.follow(job, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt as stop:
        raise Stopped(f"the job goes on; save and stop it with: rlseq jobs stop {again}") from stop
    raise typer.Exit(code)


def _problems(config: str, run: Path | None) -> list[str]:
    wrong = []
    if run is None:
        wrong.append(
            "give the run a directory with --run DIR, on storage that the cluster keeps and you can read, or a URI"
        )
    elif run.is_file():
        wrong.append(f"--run {run}: is a file; give a directory")
    path = Path(config)
    if path.suffix in (".yaml", ".yml") and (path.is_absolute() or ".." in path.parts):
        wrong.append(f"{config}: lies outside the working directory, which is what the job gets; copy it here")
    return wrong


def dashboard(address: str | None) -> str:
    """The URL that is meant."""
    return address or os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265"


def connected(address: str | None) -> Jobs:
    """The jobs of the cluster that is meant.

    Raises:
        UserError: It cannot be reached.
    """
    from rlseq.rllib.joining import Place
    from rlseq.rllib.submission import Jobs

    variable = "RAY_API_SERVER_ADDRESS"
    return Jobs(Place(dashboard(address), variable if not address and os.environ.get(variable) else "--address"))
