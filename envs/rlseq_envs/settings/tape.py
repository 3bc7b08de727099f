"""The settings of the tape tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from rlseq_envs.settings.base import Settings
from rlseq_envs.settings.rules import (
    Instances,
    Limit,
    NonNegativeFloat,
    Range,
    RewardName,
    Seconds,
    Seed,
    falling_ranges,
    wrong_weights,
)
from rlseq_envs.spaces import Choices, Space

LONGEST = 10**5  # symbols read or emitted
TAPE = "tape"  # the field of a source
TAPE_REWARDS = ("bits", "symbols", "exact")
TapeReward = Annotated[str, RewardName(TAPE_REWARDS)]
Length = Annotated[int, Range(gt=0), Limit(10**4)]
Bits = Annotated[int, Range(gt=0), Limit(12)]


@dataclass(frozen=True, kw_only=True)
class TapeSettings(Settings):
    """Symbols in, some of them out: copies of all, or the item behind one that is asked for."""

    env_id: ClassVar[str] = "rlseq/Tape-v0"

    type: Literal["tape"] = "tape"
    # copy: the tape, as often as its mark says; recall: the item that followed the one that is asked for.
    kind: Literal["copy", "recall"] = "copy"
    bits: Bits = 6  # of a symbol: there are 2^bits symbols
    lengths: tuple[Length, Length] = (1, 20)  # range of the symbols of a tape, of kind recall of its items
    test_lengths: tuple[Length, Length] | None = None  # range in the test set; default: as in training
    repeats: tuple[Length, Length] = (1, 1)  # range of the copies that kind copy asks for
    test_repeats: tuple[Length, Length] | None = None  # range in the test set, within repeats; default: repeats
    item_length: Length = 3  # symbols of an item, of kind recall
    reward: dict[TapeReward, NonNegativeFloat] = field(default_factory=lambda: {"bits": 1.0})  # weights of the mixture
    reward_timeout: Seconds = 60.0  # seconds that one call of a user's reward may take
    train_size: Instances | None = None  # tapes to train on; default: endless
    validation_size: Instances = 500  # tapes to validate on, of lengths as in training
    test_size: Instances = 1000  # tapes to evaluate on
    seed: Seed = 0  # chooses all tapes

    def conflicts(self) -> Iterator[str]:
        """See the base class."""
        yield from wrong_weights(self.reward, TAPE_REWARDS)
        yield from falling_ranges(self, "lengths", "test_lengths", "repeats", "test_repeats")
        most = max(self.lengths[1], (self.test_lengths or self.lengths)[1])
        most *= self.repeats[1] if self.kind == "copy" else self.item_length + 1
        if most > LONGEST:
            yield (
                f"a tape may come to {most:,} symbols, more than {LONGEST:,}: make lengths, test_lengths, repeats or "
                "item_length smaller"
            )
        few = [key for key in ("lengths", "test_lengths") if (span := getattr(self, key)) is not None and span[0] < 2]
        if self.kind == "recall":
            yield from (f"{key} begins at 1, but recall needs an item and one behind it: give 2 or more" for key in few)
            yield from (
                f"{key} is of kind copy: leave it out, or set kind to copy"
                for key, default in (("repeats", (1, 1)), ("test_repeats", None))
                if getattr(self, key) != default
            )
        tested = self.test_repeats
        if tested is not None and not self.repeats[0] <= tested[0] <= tested[1] <= self.repeats[1]:
            yield (
                f"test_repeats {tested} leaves repeats {self.repeats}, but each number of copies is a mark that has to "
                "be learned: give a range within repeats, or widen repeats"
            )

    def outline(self) -> tuple[Mapping[str, Space], Choices]:
        """Symbols and marks in, symbols out."""
        symbols = 2**self.bits
        marks = self.repeats[1] if self.kind == "copy" else 2
        longest = max(self.lengths[1], (self.test_lengths or self.lengths)[1])
        if self.kind == "copy":
            size, copied = longest + 1, longest * self.repeats[1]
        else:
            size, copied = (longest + 1) * (self.item_length + 1), self.item_length
        return {TAPE: Space.of_tokens(1 + symbols + marks, size)}, Choices(copied + 1, 1 + symbols)
