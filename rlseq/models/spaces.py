"""What a policy must know of a task to be built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rlseq_envs.spaces import Choices, Space, Tokenizer

if TYPE_CHECKING:
    from rlseq_envs.task import SequenceTask


@dataclass(frozen=True)
class TaskSpaces:
    """What a task's sources are made of, and what can be emitted.

    Attributes:
        sources: The fields of a source by name.
        choices: What can be emitted.
    """

    sources: Mapping[str, Space]
    choices: Choices

    @classmethod
    def of(cls, task: SequenceTask) -> TaskSpaces:
        """Those of ``task``."""
        return cls(dict(task.sources), task.choices)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskSpaces:
        """The inverse of ``to_dict``."""
        sources = {
            name: Space(**field | {key: tuple(field[key]) for key in ("axes", "longest")})
            for name, field in data["sources"].items()
        }
        choices, tokenizer = dict(data["choices"]), data["choices"].get("tokenizer")
        if tokenizer is not None:
            lists = {key: tuple(map(int, tokenizer[key])) for key in ("special", "before")}
            choices["tokenizer"] = Tokenizer(**tokenizer | lists)
        return cls(sources, Choices(**choices))

    def differences(self, other: TaskSpaces) -> Iterator[tuple[str, Any, Any]]:
        """What a policy for one is too small or too large for in the other: key, its value here, its value there.

        Lengths do not count: a policy may be used on longer sources than it was trained on.
        """
        ours, theirs = dict(self.facts()), dict(other.facts())
        for key in dict.fromkeys([*ours, *theirs]):
            if ours.get(key) != theirs.get(key):
                yield key, ours.get(key), theirs.get(key)

    def facts(self) -> Iterator[tuple[str, Any]]:
        """Each key and value but the lengths."""
        described = self.to_dict()
        fields = {f"sources.{name}": field for name, field in described["sources"].items()}
        for section, facts in (fields | {"choices": described["choices"]}).items():
            yield from ((f"{section}.{key}", value) for key, value in facts.items() if key != "longest")
