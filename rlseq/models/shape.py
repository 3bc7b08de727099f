"""What a policy must know of a task to be built."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlseq_envs.task import SequenceTask


@dataclass(frozen=True)
class TaskShape:
    """Sizes of a task's inputs and outputs.

    Attributes:
        vocabulary_size: Number of output tokens, END included; None for pointers into the source.
        source_vocabulary_size: Number of source tokens; None where the source is an array of vectors.
        source_features: Width of a source vector; None where the source is made of tokens.
        shared_vocabulary: Source and target tokens are the same set.
    """

    vocabulary_size: int | None
    source_vocabulary_size: int | None
    source_features: int | None
    shared_vocabulary: bool = False

    @classmethod
    def of(cls, task: SequenceTask) -> TaskShape:
        """The shape of ``task``."""
        return cls(
            task.vocabulary_size,
            task.source_vocabulary_size,
            task.source_features,
            task.shared_vocabulary,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TaskShape:
        """The inverse of ``to_dict``."""
        return cls(**data)
