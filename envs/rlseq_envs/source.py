"""The sources of a batch of instances: named fields, padded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Array = TypeVar("Array")  # of numpy in tasks, of torch in networks
Other = TypeVar("Other")


class Padded(NamedTuple, Generic[Array]):
    """One field of a batch.

    Attributes:
        values: (batch_size, *axes) padded with 0 to the longest of the batch.
        lengths: (batch_size,) how many positions each source has; of sentences (batch_size, sentences) the words of
            each, 0 at sentences that are not there; None: the field has a fixed size.
    """

    values: Array
    lengths: Array | None


@dataclass(frozen=True)
class Source(Generic[Array]):
    """What a batch of sequences is generated from.

    Attributes:
        size: How many instances there are, known even if there is no field.
        fields: By name, as ``SequenceTask.sources`` describes them.
    """

    size: int
    fields: Mapping[str, Padded[Array]]

    @staticmethod
    def of(**fields: tuple[Array, Array | None]) -> Source[Array]:
        """From values and lengths of each field, one at least."""
        padded = {name: Padded(*field) for name, field in fields.items()}
        return Source(len(next(iter(padded.values())).values), padded)  # type: ignore[arg-type]

    def map(self, change: Callable[[Array], Other]) -> Source[Other]:
        """Every array changed."""
        return Source(
            self.size,
            {
                name: Padded(change(values), None if lengths is None else change(lengths))
                for name, (values, lengths) in self.fields.items()
            },
        )

    def select(self, rows: Array) -> Source[Array]:
        """Some sources, (rows,), in the order given."""
        return Source(len(rows), self.map(lambda values: values[rows]).fields)  # type: ignore[arg-type, index]

    def part(self, start: int, stop: int) -> Source[Array]:
        """Consecutive sources; what is padding in all of them is cut off."""
        rows = self.map(lambda values: values[start:stop])  # type: ignore[index]
        return Source(len(range(self.size)[start:stop]), {name: _cut(field) for name, field in rows.fields.items()})


def _cut(field: Padded[Any]) -> Padded[Any]:
    values, lengths = field
    if lengths is None:
        return field
    longest = int(lengths.max())
    if lengths.ndim == 1:
        return Padded(values[:, :longest], lengths)
    sentences = int((lengths > 0).sum(1).max())
    return Padded(values[:, :sentences, :longest], lengths[:, :sentences])


def source_sizes(source: Source[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """Positions of each source's first field, (batch_size,): all there are if its size is fixed; 0 without a field."""
    if not source.fields:
        return np.zeros(source.size, np.int64)
    values, lengths = next(iter(source.fields.values()))
    if lengths is None:
        return np.full(source.size, values.shape[1], np.int64)
    return lengths.reshape(source.size, -1).sum(1)
