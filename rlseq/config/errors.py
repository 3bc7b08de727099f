"""Errors a user can mend, and suggestions of what was meant."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """The input is wrong, not the program: shown without a traceback, ends a command with ``exit_code``."""

    exit_code = 2


class StorageError(UserError):
    """A file that could not be written, or read where it has to be; what was written before it is whole."""

    exit_code = 1


_REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room in your quota there",
    errno.EROFS: "give a place that can be written",
    errno.EACCES: "allow yourself to write there",
    errno.EPERM: "allow yourself to write there",
    errno.EIO: "have the disk looked at, or give another place",
    errno.EMFILE: "raise the limit of open files, `ulimit -n`",
}


def storage_problem(error: OSError, place: Path | None = None) -> str:
    """The file, what is wrong with it, and what to do; ``place`` names it if the error does not."""
    named = [str(part) for part in (error.filename or place, error.strerror or str(error)) if part]
    remedy = _REMEDIES.get(error.errno or 0)
    return ": ".join(named) + (f"; {remedy}" if remedy else "")


class ConfigError(UserError):
    """Everything that is wrong with a configuration, one problem a line.

    Attributes:
        problems: The lines, each naming the key, what is wrong and what would be right.
    """

    def __init__(self, origin: str, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join([f"{origin}:", *(f"  {problem}" for problem in problems)]))


def closest(word: str, candidates: Iterable[str], likeness: float = 0.6) -> str | None:
    """The candidate most like ``word``, or None if none is at least this much like it (1: equal).

    One of the very same letters comes before others: letters are swapped more often than replaced.
    """
    matches = difflib.get_close_matches(word, list(candidates), n=5, cutoff=likeness)
    return min(matches, key=lambda match: sorted(match) != sorted(word), default=None)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """``"; did you mean 'hull'?"``, or nothing if no candidate is close."""
    match = closest(word, candidates)
    return f"; did you mean {match!r}?" if match else ""
