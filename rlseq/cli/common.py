"""What the commands share: exit codes, options, output."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from rlseq.config.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")

FAILED, WRONG_INPUT, NOT_ADVISABLE, INTERRUPTED = 1, 2, 3, 130

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="Where to compute: auto, cpu or cuda.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result there as JSON; - for standard output.")]


class Stopped(Exception):
    """Work ended early at the user's wish; the message says what was kept."""


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
    else:
        text = " ".join(str(error).split()) or "no message"
        hint = "" if debug else " (--debug shows where)"
        message = f"error: {type(error).__name__}: {text}{hint}"
    print(message, file=sys.stderr)


def examples(commands: Sequence[str]) -> str:
    """Commands as the last part of a help page, each on a line of its own."""
    title = "Examples:" if len(commands) > 1 else "Example:"
    return "\b\n" + "\n  ".join([title, *commands])  # \b: lines are not joined


@contextmanager
def blaming_input() -> Iterator[None]:
    """What a task refuses here (a corpus, a line, a split) is the user's input, not a fault of the program.

    So is a task that cannot be found under its name, or that does not know the arguments it is given.
    """
    try:
        yield
    except UserError:
        raise
    except (ValueError, OSError, NotImplementedError, ImportError) as error:
        raise UserError(str(error)) from error
    except Exception as error:
        import gymnasium

        if isinstance(error, gymnasium.error.Error) or "unexpected keyword argument" in str(error):
            raise UserError(str(error)) from error
        raise


def refuse(problems: list[str]) -> None:
    """Report all problems at once, if there are any.

    Raises:
        UserError: There is one.
    """
    if problems:
        raise UserError("\n       ".join(problems))


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


def check_checkpoint(path: Path) -> list[str]:
    """Problems with finding the checkpoint that a path means."""
    from rlseq.training.checkpoint import CheckpointError
    from rlseq.training.run_directory import resolve_checkpoint

    try:
        resolve_checkpoint(path)
    except CheckpointError as error:
        return [str(error)]
    return []


def check_device(device: str, asked_by: str = "--device ") -> list[str]:
    """Problems with a device's name."""
    if device not in ("auto", "cpu", "cuda"):
        return [f"{asked_by}{device}: give auto, cpu or cuda"]
    if device == "cuda":
        import torch

        return [] if torch.cuda.is_available() else [f"{asked_by}cuda: torch finds no GPU here; give cpu or auto"]
    return []


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, to standard output for ``-``."""
    write_text(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, to standard output for ``-``."""
    if str(path) == "-":
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")


def console(*written: Path | None) -> Console:
    """Where tables go: standard output, or standard error if a result is written there; wide if it is no terminal."""
    from rich.console import Console

    found = Console(stderr="-" in map(str, written), highlight=False)
    return found if found.is_terminal else Console(stderr=found.stderr, highlight=False, width=120)
