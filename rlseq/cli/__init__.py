"""The command line: one file a command, heavy imports only once a command runs."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from rlseq.cli import compare, configs, evaluate, generate, inspect, jobs, preflight, study, submit, sweep, train
from rlseq.cli.common import INTERRUPTED, examples
from rlseq.training import stopping

app = typer.Typer(
    name="rlseq",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich doubles the time of a help page
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog=examples(["rlseq train hull"]),
)
for module in (train, study, sweep, submit, preflight, evaluate, compare, generate, inspect):
    name = module.__name__.rsplit(".", 1)[-1]
    app.command(name, epilog=examples(module.EXAMPLES))(getattr(module, name))
for group in (configs, jobs):
    app.add_typer(group.app, name=group.__name__.rsplit(".", 1)[-1], epilog=examples(group.EXAMPLES))


def _print_version(asked: bool) -> None:
    if asked:
        from rlseq import __version__

        typer.echo(f"rlseq {__version__}")
        raise typer.Exit


@app.callback()
def describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train sequence generators on the metric they are judged by.

    Cross-entropy first, then self-critical reinforcement learning; both checkpoints are compared in the end.
    """


def main() -> None:
    """Run the command line; a character that the terminal's encoding lacks is escaped, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for number in range(3):  # a standard stream that is closed: its number would be that of the next file opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    stopping.process_is_ours = True
    for number in (signal.SIGTERM, signal.SIGHUP):  # until a command saves on them, they end it as Ctrl-C does
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        app(prog_name="rlseq")
    except SystemExit as end:
        try:
            sys.stdout.flush()
        except OSError:  # nobody reads it any more: nothing is left to say when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if end.code == INTERRUPTED and threading.active_count() > 1:  # such as one in a reward that hangs
            os._exit(INTERRUPTED)
        raise
