"""``rlseq jobs``."""

from __future__ import annotations

from typing import Annotated

import typer

from rlseq.api.checks import Stopped
from rlseq.cli.common import Debug, examples, guarded
from rlseq.cli.submit import Address, connected

app = typer.Typer(help="List, show, follow or stop the trainings that were submitted.", no_args_is_help=False)
EXAMPLES = [
    "rlseq jobs --address http://10.0.0.1:8265",
    "rlseq jobs status raysubmit_4LamXRuQpYdSMg7J --address http://10.0.0.1:8265",
    "rlseq jobs logs raysubmit_4LamXRuQpYdSMg7J --follow --address http://10.0.0.1:8265",
    "rlseq jobs stop raysubmit_4LamXRuQpYdSMg7J --address http://10.0.0.1:8265",
]
Job = Annotated[str, typer.Argument(metavar="ID", help="As `rlseq submit` printed it.")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context, address: Address = None) -> None:
    """List, show, follow or stop the trainings that were submitted."""
    if context.invoked_subcommand is None:
        list_jobs(address, debug=False)


@app.command("list", epilog=examples(EXAMPLES[:1]))
@guarded
def list_jobs(address: Address = None, debug: Debug = False) -> None:
    """List all jobs with their state and run directory."""
    for job in connected(address).all():
        typer.echo(f"{job.submission_id}  {job.status.value.lower():<9}  {(job.metadata or {}).get('run', '')}")


@app.command(epilog=examples(EXAMPLES[1:2]))
@guarded
def status(job: Job, address: Address = None, debug: Debug = False) -> None:
    """Print a job's state, exit code and run directory."""
    found = connected(address).find(job)
    typer.echo(found.status.value.lower())
    if found.driver_exit_code is not None:
        typer.echo(f"exit code: {found.driver_exit_code}")
    if run := (found.metadata or {}).get("run"):
        typer.echo(f"run directory: {run}")


@app.command(epilog=examples(EXAMPLES[2:3]))
@guarded
def logs(
    job: Job,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until it ends, and end with its exit code.")] = False,
    debug: Debug = False,
) -> None:
    """Print what a job printed."""
    jobs = connected(address)
    if not follow:
        typer.echo(jobs.logs(job), nl=False)
        return
    try:
        code = jobs.follow(job, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt as stop:
        raise Stopped("the job goes on") from stop
    raise typer.Exit(code)


@app.command(epilog=examples(EXAMPLES[3:]))
@guarded
def stop(job: Job, address: Address = None, debug: Debug = False) -> None:
    """Have a job save and end, and wait until it has."""
    jobs = connected(address)
    jobs.stop(job)
    found = jobs.find(job)
    typer.echo(f"{job} {found.status.value.lower()}")
    if run := (found.metadata or {}).get("run"):
        typer.echo(f"go on with it on a machine that has {run}, or submit it anew with the same --run")
