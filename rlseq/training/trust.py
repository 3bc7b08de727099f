"""Whose code a checkpoint may have executed.

A checkpoint or run names code by import paths, and Python finds it wherever this process looks. What the user's
trainings named, and where it was found then, is kept in a list; a checkpoint may have that executed, from there.
Everything else is refused until the user says that it is trusted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rlseq.config.errors import UserError
from rlseq.config.named_code import Named, named_code
from rlseq.config.schema import Config
from rlseq_envs.user_code import find_module

# 1 trusts all code, as if every command was given --trust; import paths, separated by commas, trust these. It is for
# jobs on other machines, which do not have the list.
VARIABLE = "RLSEQ_TRUST"
_said: set[str] = set()  # of this process, so that a comparison of many checkpoints says it once


class TrustError(UserError):
    """Code that a checkpoint names, and that is not executed unless the user trusts it."""


@dataclass(frozen=True)
class Trust:
    """What may be executed besides what the user's trainings have named.

    Attributes:
        everything: The user trusts whoever made the checkpoint.
        also: Import paths that were checked before.
    """

    everything: bool = False
    also: frozenset[str] = frozenset()

    @classmethod
    def given(cls, trust: bool) -> Trust:
        """As the user says it, by an option or in the environment."""
        said = os.environ.get(VARIABLE, "")
        return cls(trust or said == "1", frozenset(said.split(",")))

    def including(self, code: Iterable[Named]) -> Trust:
        """Trust in this code, too: the user's configuration names it, or it was checked."""
        return replace(self, also=self.also | {named.path for named in code})

    def variable(self) -> str:
        """What ``VARIABLE`` has to be for a process that is to trust the same."""
        return "1" if self.everything else ",".join(sorted(self.also - {""}))

    def check(self, origin: Path | str, code: Sequence[Named]) -> None:
        """Refuse what is not trusted, before any of it is executed; say of the rest where it is imported from.

        Args:
            origin: The checkpoint or run, for messages.
            code: What is about to be executed.

        Raises:
            TrustError: Some of it is not trusted; all of that is named, with the file that would be executed.
        """
        known = set() if self.everything else _remembered()
        found = {named: find_module(named.module) if named.module else None for named in code}
        refused = [
            named
            for named, file in found.items()
            if not (self.everything or named.path in self.also or (named.path, _place(file)) in known)
        ]
        if refused:
            lines = [
                f"  {_shown(named.key)}: {_shown(named.path)}, {describe(named, found[named])}" for named in refused
            ]
            raise TrustError(
                "\n".join(
                    [
                        f"{origin} names code that none of your trainings has named; it was not executed:",
                        *lines,
                        f"look at it (rlseq inspect {origin}); if you trust who made it, add --trust "
                        "(in Python trust=True)",
                    ]
                )
            )
        for named, file in found.items():
            if named.module and (line := f"importing {_shown(named.path)}, {describe(named, file)}") not in _said:
                _said.add(line)
                with suppress(OSError):
                    print(line, file=sys.stderr, flush=True)


OWN = Trust()


def describe(named: Named, file: Path | None) -> str:
    """Where Python would find it."""
    if named.module is None:
        return "a Ray cluster that the training would join"
    if file is None:
        return "found nowhere now; if it is yours, go to its directory or name that in PYTHONPATH"
    return f"found in {file}"


def _shown(text: str) -> str:
    """A text of somebody else's: one that would end a line, or that a terminal would obey, is escaped."""
    return text if text.isprintable() else ascii(text)


def is_trusted(named: Named, file: Path | None) -> bool:
    """Whether a training of the user's has named it, found in this file."""
    return (named.path, _place(file)) in _remembered()


def code_of(*configs: Config) -> list[Named]:
    """What configurations name."""
    return list(dict.fromkeys(code for config in configs for code in named_code(config.model_dump(mode="json"))))


def remember(code: Iterable[Named]) -> None:
    """Keep what trainings name, with the files that it is found in now."""
    known = _remembered()
    found = {(each.path, _place(find_module(each.module) if each.module else None)) for each in code}
    if new := sorted(found - known):
        with suppress(OSError, RuntimeError):  # a home that cannot be written: it is asked for again
            path = _list()
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{json.dumps(each)}\n" for each in new))


def _place(file: Path | None) -> str:
    return "" if file is None else str(file)


def _list() -> Path:
    """The list; the XDG Base Directory Specification says where state of programs lies."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "rlseq" / "trusted.jsonl"


def _remembered() -> set[tuple[str, str]]:
    try:
        lines = _list().read_bytes().splitlines()
    except (OSError, RuntimeError):
        return set()
    found = set()
    for line in lines:
        with suppress(ValueError, TypeError):  # one that was cut short
            path, place = json.loads(line)
            found.add((str(path), str(place)))
    return found
