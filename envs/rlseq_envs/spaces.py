"""What the sources of a task are made of, and what can be emitted: all that must be known of it to build a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Space:
    """One field of a source: (batch_size, *axes).

    Axes that vary come first, and there are two of them at most: sentences, and the words of each.

    Attributes:
        axes: Size along each axis; None: it varies from source to source. Tokens (None,), points (None, 2), a picture
            (28, 28, 1), sentences (None, None).
        longest: The most along each axis that varies, over all splits.
        tokens: Values are ids below this; None: they are numbers.
        dtype: Of the values; tokens are int64.
    """

    axes: tuple[int | None, ...]
    longest: tuple[int, ...] = ()
    tokens: int | None = None
    dtype: Literal["int64", "float32", "uint8"] = "float32"

    def __post_init__(self) -> None:
        """Raises ValueError if the axes are not as the class says."""
        varying = self.varying
        if varying > 2 or None in self.axes[varying:]:
            raise ValueError(f"axes {self.axes}: those that vary come first, two at most")
        if len(self.longest) != varying:
            raise ValueError(f"longest {self.longest} has to name the most along each of {varying} axes that vary")
        if self.tokens is not None and self.dtype != "int64":
            raise ValueError(f"tokens are int64, not {self.dtype}")

    @property
    def varying(self) -> int:
        """How many axes vary."""
        return sum(axis is None for axis in self.axes)

    @property
    def largest(self) -> tuple[int, ...]:
        """Axes that hold every source."""
        return (*self.longest, *(axis for axis in self.axes if axis is not None))

    @property
    def is_sequence(self) -> bool:
        """Whether it is a sequence of tokens, or of vectors of numbers."""
        if self.tokens is not None:
            return len(self.axes) == 1
        return len(self.axes) == 2 and self.axes[1] is not None and self.dtype == "float32"

    @property
    def is_picture(self) -> bool:
        """Whether it is rows, columns and colours of a fixed size."""
        return self.tokens is None and not self.varying and len(self.axes) == 3

    @staticmethod
    def of_tokens(count: int, longest: int) -> Space:
        """A sequence of ids below ``count``, ``longest`` of them at most."""
        return Space((None,), (longest,), count, "int64")

    @staticmethod
    def of_vectors(width: int, longest: int) -> Space:
        """A sequence of vectors, ``longest`` of them at most."""
        return Space((None, width), (longest,))


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer of a pretrained model. Its ids are a task's, but that of END, which changes places with 0.

    Attributes:
        place: Its directory, as settings name it; None once it was read.
        digest: SHA-256 of its files.
        end: Its id of END.
        special: Its ids that stand for no text, in order, without those of END and of what is unknown: they are never
            emitted.
        before: Its ids that it puts before a text.
    """

    place: str | None = None
    digest: str = ""
    end: int = 0
    special: tuple[int, ...] = ()
    before: tuple[int, ...] = ()


@dataclass(frozen=True)
class Choices:
    """What can be emitted; 0 is END.

    Attributes:
        longest: Longest sequence that any instance may need, END included.
        size: Number of tokens, END included; None: they follow from the source.
        points_to: A field of the source: token i + 1 is its position i.
        same_as: A field of the source whose ids are these tokens, id by id.
        tokenizer: What tokens are cut by, if that came with a model and was not learnt from the task's data.
        ends: Whether END may be emitted. If not, a sequence is whole at its limit, and END has no probability.
        columns: Tokens are the pixels of a picture of so many columns, row by row; None: they are a line.
    """

    longest: int
    size: int | None = None
    points_to: str | None = None
    same_as: str | None = None
    tokenizer: Tokenizer | None = None
    ends: bool = True
    columns: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless tokens are either of a fixed number or positions, and fill the rows of a picture."""
        if (self.size is None) == (self.points_to is None):
            raise ValueError("choices have a size, or they point to a field of the source")
        if not self.ends and self.size is None:
            raise ValueError("choices that point have END: sequences without it need choices of a fixed number")
        if self.columns is not None and (self.ends or self.longest % self.columns):
            raise ValueError(f"{self.columns} columns need sequences without END that fill their rows")
