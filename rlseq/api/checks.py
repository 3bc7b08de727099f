"""What is checked before work begins; nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlseq.config.errors import ConfigError, UserError
from rlseq.training.remote import is_uri

Naming = Callable[..., str]  # what messages call an argument, and its value if there is one


def in_python(name: str, value: object = None) -> str:
    """An argument of a function: ``phase``, ``phase='rl'``."""
    return name if value is None else f"{name}={str(value)!r}"


class Stopped(Exception):
    """Work ended early at the user's wish; the message says what was kept."""


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


def beginning_problems(
    what: str,
    config: object,
    overrides: Sequence[str],
    run: Path | str | None,
    resume: Path | str | None,
    called: Naming,
) -> list[str]:
    """What is wrong with how several runs are begun or gone on with.

    Args:
        what: They are together.
        config: To begin with; None: none is given.
        overrides: Of it.
        run: The directory to begin in.
        resume: The directory to go on with.
        called: What messages call an argument.
    """
    wrong = []
    if resume is not None and (config is not None or overrides or run is not None):
        again = f"leave out CONFIG, its keys and {called('run')}"
        wrong.append(f"{called('resume')} takes the configuration from the {what}: {again}")
    if resume is None and config is None:
        wrong.append("give a CONFIG, such as hull; `rlseq configs` lists the shipped ones")
    if resume is None and run is None:
        wrong.append(f"give the {what} a directory with {called('run', 'DIR')}")
    if is_uri(place := run or resume or ""):
        wrong.append(f"{place}: a {what} is kept in a directory of this machine, or of storage that machines share")
    return wrong


def check_checkpoint(path: Path) -> list[str]:
    """Problems with finding the checkpoint that a path means."""
    from rlseq.training.checkpoint import CheckpointError
    from rlseq.training.finding import resolve_checkpoint

    try:
        resolve_checkpoint(path)
    except CheckpointError as error:
        return [str(error)]
    return []


def data_problems(overrides: Sequence[str]) -> list[str]:
    """What is wrong with data files that are given anew."""
    from rlseq.config.load import data_files

    try:
        data_files(overrides)
    except ConfigError as error:
        return error.problems
    return []


def check_device(device: str, asked_by: str) -> list[str]:
    """Problems with a device's name, which is asked for by a key, an option or an argument."""
    if device not in ("auto", "cpu", "cuda"):
        return [f"{asked_by} {device}: give auto, cpu or cuda"]
    if device == "cuda":
        import torch

        return [] if torch.cuda.is_available() else [f"{asked_by} cuda: torch finds no GPU here; give cpu or auto"]
    return []
