"""What the commands share: exit codes, options, output."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from rlseq.api.checks import Stopped
from rlseq.config.errors import UserError, storage_problem

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")

_OPTIONS = {"source": "from", "arms": "arm", "controls": "control", "names": "name"}  # of other names in Python
FAILED, WRONG_INPUT, NOT_ADVISABLE, INTERRUPTED = 1, 2, 3, 130

ConfigName = Annotated[
    str | None, typer.Argument(metavar="CONFIG", help="A shipped name (see `rlseq configs`) or a YAML file.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="Where to compute: auto, cpu or cuda.")]
Trusted = Annotated[
    bool,
    typer.Option("--trust", help="Execute code that the checkpoint or run names, though none of your trainings has."),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result there as JSON; - for standard output.")]


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command raises into one clear message and an exit code.

    0 done; 2 the input is wrong; 3 done, and the answer is that it is not advisable; 1 anything else; 130 interrupted.
    Tracebacks are shown with ``--debug`` alone.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            _complain(error, bool(kwargs.get("debug")))
            raise typer.Exit(_exit_code(error)) from error

    return run


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UserError):
        return error.exit_code
    return INTERRUPTED if isinstance(error, KeyboardInterrupt | Stopped) else FAILED


def _complain(error: BaseException, debug: bool) -> None:
    if isinstance(error, Stopped):
        message = str(error)
    elif isinstance(error, KeyboardInterrupt):
        message = "interrupted"
    elif isinstance(error, UserError):
        message = f"error: {error}"
    elif isinstance(error, OSError) and error.strerror:
        message = f"error: {storage_problem(error)}"
    else:
        text = " ".join(str(error).split()) or "no message"
        hint = "" if debug else " (--debug shows where)"
        message = f"error: {type(error).__name__}: {text}{hint}"
    # A file of somebody else's may be quoted in it: what a terminal would obey is escaped.
    message = "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in message)
    with suppress(OSError):  # nobody reads it any more: the exit code still says what happened
        print(message, file=sys.stderr, flush=True)


def option(name: str, value: object = None) -> str:
    """What messages call an argument of ours on the command line: ``--phase``, ``--phase rl``."""
    flag = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
    return flag if value is None else f"{flag} {value}"


def examples(commands: Sequence[str]) -> str:
    """Commands as the last part of a help page, each on a line of its own."""
    title = "Examples:" if len(commands) > 1 else "Example:"
    return "\b\n" + "\n  ".join([title, *commands])  # \b: lines are not joined


def check_writable(path: Path | None) -> list[str]:
    """Problems with writing a result there, found before the work instead of after it."""
    if path is None or str(path) == "-":
        return []
    if path.is_dir():
        return [f"{path} is a directory: give a file"]
    if not path.absolute().parent.is_dir():
        return [f"{path}: the directory {path.absolute().parent} does not exist"]
    target = path if path.exists() else path.absolute().parent
    return [] if os.access(target, os.W_OK) else [f"{path} cannot be written"]


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, to standard output for ``-``."""
    write_text(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, to standard output for ``-``."""
    if str(path) == "-":
        # UTF-8 as in a file, whatever the terminal's encoding: another program reads it.
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
    else:
        path.write_text(text, encoding="utf-8")


def console(*written: Path | None) -> Console:
    """Where tables go: standard output, or standard error if a result is written there; wide if it is no terminal."""
    from rich.console import Console

    found = Console(stderr="-" in map(str, written), highlight=False)
    return found if found.is_terminal else Console(stderr=found.stderr, highlight=False, width=120)
