"""What an encoder made of a batch of sources, read by every step of a decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

KEPT_ABOVE = 0.8  # sources that no row reads are dropped once fewer than this fraction is still read
SOURCE = "source"  # the bank of an encoder that has one
NOWHERE = "nowhere"  # the bank of no position, of decoders that attend to nothing
TAPE = "tape"  # the bank of an encoder that writes one, a position for each of its locations


def memory_bank(number: int) -> str:
    """The bank with one more vector of each position of ``SOURCE``, of decoders that read several."""
    return f"memory {number}"


@dataclass(frozen=True)
class Sharing:
    """Which of a few sources each of many rows reads, so that no source is there twice.

    Attributes:
        source: (rows,) the source of each row.
        place: (rows,) its place among the rows of that source.
        most: The most rows that read one source; every place is below it.
    """

    source: Tensor
    place: Tensor
    most: int

    @staticmethod
    def of(source: Tensor) -> Sharing:
        """For rows that read these sources, (rows,)."""
        counts, order = source.bincount(), source.argsort()
        first = (counts.cumsum(0) - counts)[source[order]]
        place = torch.empty_like(source)
        place[order] = torch.arange(len(source), device=source.device) - first
        return Sharing(source, place, int(counts.max()))

    def select(self, rows: Tensor) -> Sharing:
        """Of some of the rows."""
        return Sharing(self.source[rows], self.place[rows], self.most)


@dataclass(frozen=True)
class Bank:
    """Positions that can be attended to: (sources, positions, …) in every tensor.

    Attributes:
        values: (sources, positions, width) what is read of a position.
        mask: (sources, positions) True where a source has this position.
        keys: (sources, positions, …) what a position is matched by; a decoder's ``prepare`` makes them.
        inputs: (sources, positions, width) what is read of a position that was pointed at; None: none is.
    """

    values: Tensor
    mask: Tensor
    keys: tuple[Tensor, ...] = ()
    inputs: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Bank:
        """Every tensor changed."""
        inputs = None if self.inputs is None else change(self.inputs)
        return Bank(change(self.values), change(self.mask), tuple(map(change, self.keys)), inputs)

    @staticmethod
    def concatenate(banks: Sequence[Bank]) -> Bank:
        """Join the sources; positions that a bank does not have are masked."""
        longest = max(bank.mask.shape[1] for bank in banks)
        wide = [bank.map(lambda values: _widened(values, longest)) for bank in banks]
        keys = tuple(torch.cat(each) for each in zip(*(bank.keys for bank in wide), strict=True))
        inputs = [bank.inputs for bank in wide if bank.inputs is not None]
        return Bank(
            torch.cat([bank.values for bank in wide]),
            torch.cat([bank.mask for bank in wide]),
            keys,
            torch.cat(inputs) if inputs else None,
        )


@dataclass(frozen=True)
class Memory:
    """An encoded batch of sources; its length is their number.

    A decoder's rows may share sources: it reads them by ``rows`` and ``products``, which work either way.

    Attributes:
        banks: What can be attended to, by name.
        summary: (sources, width) all of a source in one vector, of width 0 if the encoder has none.
        sharing: The source of each row of a decoding step; None: row i reads source i.
    """

    banks: Mapping[str, Bank]
    summary: Tensor
    sharing: Sharing | None = None

    def __len__(self) -> int:
        return len(self.summary)

    # ------------------------------------------------------------------------------------------------ as rows read it
    def rows(self, values: Tensor) -> Tensor:
        """Of values (sources, …), those of each row's source: (rows, …)."""
        return values if self.sharing is None else values.index_select(0, self.sharing.source)

    def products(self, rows: Tensor, sources: Tensor) -> Tensor:
        """Each row's matrix (rows, time, n) times its source's (sources, n, m): (rows, time, m).

        Both may have heads as their second axis, (rows, heads, time, n). If rows share sources, time is 1. Rows are
        then scattered into a grid (source, place), multiplied in one batched product, and gathered back.
        """
        if self.sharing is None:
            return torch.matmul(rows, sources)
        most = self.sharing.most
        index = self.sharing.source * most + self.sharing.place
        one_step = rows.squeeze(-2)
        grid = one_step.new_zeros(len(sources) * most, *one_step.shape[1:]).index_copy_(0, index, one_step)
        grid = grid.unflatten(0, (-1, most))
        if rows.dim() == 3:  # no heads: half as many calls, at each step of a decoding
            product = torch.bmm(grid, sources)
        else:
            product = torch.matmul(grid.movedim(1, -2), sources).movedim(-2, 1)
        return product.flatten(0, 1).index_select(0, index).unsqueeze(-2)

    def shared_by(self, sharing: Sharing) -> Memory:
        """The memory for rows that share its sources; it drops unread ones once they are many."""
        read = torch.zeros(len(self), dtype=torch.bool, device=self.summary.device)
        read[sharing.source] = True
        kept = read.nonzero()[:, 0]
        if len(kept) >= KEPT_ABOVE * len(read):
            return replace(self, sharing=sharing)
        source = (read.cumsum(0) - 1)[sharing.source]
        return replace(self.select(kept), sharing=replace(sharing, source=source))

    # ------------------------------------------------------------------------------------------------ as a whole
    def with_bank(self, name: str, **columns: Any) -> Memory:
        """The memory with other tensors in one bank."""
        return replace(self, banks={**self.banks, name: replace(self.banks[name], **columns)})

    def nowhere(self) -> Memory:
        """The memory with the bank ``NOWHERE``."""
        nothing = self.summary[:, :0]
        return replace(self, banks={**self.banks, NOWHERE: Bank(nothing[:, :, None], nothing.bool())})

    def with_row(self, name: str, values: Tensor) -> Memory:
        """The memory with one more vector of each source, (sources, width), which ``row`` gives the rows of a step."""
        one = values[:, None]
        return replace(self, banks={**self.banks, name: Bank(one, one.new_ones(one.shape[:2], dtype=torch.bool))})

    def row(self, name: str) -> Tensor:
        """What ``with_row`` added, of each row's source: (rows, width)."""
        return self.rows(self.banks[name].values)[:, 0]

    def select(self, sources: Tensor) -> Memory:
        """The memory of some sources, in the order given; they may repeat."""
        return self._map(lambda values: values.index_select(0, sources))

    def detach(self) -> Memory:
        """The same values, cut from the graph."""
        return self._map(Tensor.detach)

    @staticmethod
    def concatenate(parts: Sequence[Memory]) -> Memory:
        """Join the sources; positions that a part does not have are masked."""
        if len(parts) == 1:
            return parts[0]
        banks = {name: Bank.concatenate([part.banks[name] for part in parts]) for name in parts[0].banks}
        return Memory(banks, torch.cat([part.summary for part in parts]))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Memory:
        banks = {name: bank.map(change) for name, bank in self.banks.items()}
        return replace(self, banks=banks, summary=change(self.summary))


def _widened(values: Tensor, positions: int) -> Tensor:
    return F.pad(values, (*[0] * (2 * (values.dim() - 2)), 0, positions - values.shape[1]))
