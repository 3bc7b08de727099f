"""Errors a user can mend, and suggestions of what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """The input is wrong, not the program: shown without a traceback, ends a command with ``exit_code``."""

    exit_code = 2


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
