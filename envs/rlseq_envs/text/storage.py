"""Rows of unequal length in a few flat buffers: millions of sentences cost bytes, not Python objects."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import compress, pairwise

import numpy as np
import numpy.typing as npt

from rlseq_envs.task import Bools, Ints

_TWO_BYTES = 1 << 16  # as many ids


def _lengths_to_offsets(lengths: npt.NDArray[np.integer]) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


class TokenRows:
    """Rows of token ids.

    Attributes:
        values: (total,) uint16 or int32, all rows one after another.
        offsets: (rows + 1,) int64, row i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    def __init__(self, values: npt.NDArray[np.uint16 | np.int32], offsets: Ints) -> None:
        self.values = values
        self.offsets = offsets

    @classmethod
    def gather(cls, rows: Iterable[list[int]], num_tokens: int) -> TokenRows:
        """Rows taken one by one from any iterable, of ids below ``num_tokens``: two bytes a token where they do."""
        values, lengths = array("H" if num_tokens <= _TWO_BYTES else "i"), array("q")
        for row in rows:
            values.extend(row)
            lengths.append(len(row))
        return cls(np.asarray(values), _lengths_to_offsets(np.asarray(lengths)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> list[int]:
        return self.values[self.offsets[row] : self.offsets[row + 1]].tolist()

    @property
    def lengths(self) -> Ints:
        """(rows,) the length of each row."""
        return np.diff(self.offsets)

    def sizes(self, rows: Ints) -> Ints:
        """Lengths of these rows, (batch_size,)."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def padded(self, rows: Ints) -> tuple[Ints, Ints]:
        """These rows padded with 0, (batch_size, longest) int64, and their lengths, (batch_size,)."""
        lengths = self.sizes(rows)
        width = int(lengths.max(initial=0))
        inside = np.arange(width) < lengths[:, None]
        out = np.zeros((len(rows), width), dtype=np.int64)
        out[inside] = self.values[(self.offsets[rows][:, None] + np.arange(width))[inside]]
        return out, lengths

    def select(self, keep: Bools) -> TokenRows:
        """Only the rows where ``keep`` (rows,) is true."""
        if keep.all():
            return self
        return TokenRows(self.values[np.repeat(keep, self.lengths)], _lengths_to_offsets(self.lengths[keep]))

    def truncated(self, length: int, last: int) -> TokenRows:
        """Rows cut to ``length`` tokens; a row that is cut ends in the token ``last``."""
        lengths = self.lengths
        position = np.arange(len(self.values)) - np.repeat(self.offsets[:-1], lengths)
        values = self.values.copy()
        values[(position == length - 1) & np.repeat(lengths > length, lengths)] = last
        return TokenRows(values[position < length], _lengths_to_offsets(np.minimum(lengths, length)))


class TextRows:
    """Rows of text, kept as UTF-8.

    Attributes:
        values: (total,) uint8, all rows one after another.
        offsets: (rows + 1,) int64, row i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    def __init__(self, values: npt.NDArray[np.uint8], offsets: Ints) -> None:
        self.values = values
        self.offsets = offsets

    @classmethod
    def gather(cls, texts: Iterable[str]) -> TextRows:
        """Rows taken one by one from any iterable."""
        values, offsets = bytearray(), array("q", [0])
        for text in texts:
            values += text.encode()
            offsets.append(len(values))
        return cls(np.asarray(values), np.asarray(offsets))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        return str(self.values[self.offsets[row] : self.offsets[row + 1]].data, "utf-8")

    def __iter__(self) -> Iterator[str]:
        values = self.values.data
        return (str(values[start:stop], "utf-8") for start, stop in pairwise(self.offsets.data))

    def take(self, rows: Ints) -> list[str]:
        """These rows, in this order."""
        return [self[row] for row in rows.tolist()]

    def select(self, keep: Bools) -> TextRows:
        """Only the rows where ``keep`` (rows,) is true."""
        if keep.all():
            return self
        return TextRows.gather(compress(self, keep))
