"""What the settings of every task have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rlseq_envs.settings.rules import DIRECTORY, FILE, field_hints, wrong_values
from rlseq_envs.spaces import Choices, Space


@dataclass(frozen=True, kw_only=True)
class Settings(ABC):
    """The settings of a task; each field is a key of the configuration's section ``task``.

    A subclass gives every field its annotation, its default and a comment with its meaning. Rules of single values are
    in the annotations, rules of several values in ``conflicts``.

    Attributes:
        type: The task's name in the configuration.
        env_id: Gymnasium's id of the task's environment.
    """

    type: str
    env_id: ClassVar[str]

    def __post_init__(self) -> None:
        """Raises ValueError with a line for everything that is wrong."""
        problems = list(wrong_values(self))
        try:
            problems += self.conflicts()
        except (AttributeError, LookupError, TypeError):  # values of a wrong type cannot be compared
            if not problems:
                raise
        if problems:
            raise ValueError("\n".join(problems))

    def conflicts(self) -> Iterator[str]:
        """A line for each rule about several values that is broken; it names the keys and what would be right."""
        yield from ()

    @abstractmethod
    def outline(self) -> tuple[Mapping[str, Space], Choices] | None:
        """What sources and choices of the task will be, as far as the settings tell: sizes of its data are 0.

        None if only the task itself knows.
        """

    @property
    def trains_rl_on_others(self) -> bool:
        """Whether rl may be trained on other instances than cross-entropy; a task that can says when."""
        return False

    def environment(self) -> tuple[str, dict[str, Any]]:
        """The id and the arguments that ``gymnasium.make`` makes the task's environment from."""
        return self.env_id, {key: value for key, value in vars(self).items() if key != "type"}

    @classmethod
    def file_keys(cls) -> list[str]:
        """The keys that name files to read, each one file or several."""
        return cls._keys_marked(FILE)

    @classmethod
    def directory_keys(cls) -> list[str]:
        """The keys that name directories to read."""
        return cls._keys_marked(DIRECTORY)

    @classmethod
    def _keys_marked(cls, mark: str) -> list[str]:
        return [key for key, hint in field_hints(cls).items() if mark in getattr(hint, "__metadata__", ())]
