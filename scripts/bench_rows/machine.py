"""What fp32 matrix products reach on this machine: torch's default library beside oneDNN with packed weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench_rows.measure import interleaved
from rlseq.models.layers.linear import PackedLinear, packing_is_exact

SQUARE = 2048  # rows and columns of the factors: large enough that nothing but the product counts
SLOW = 1.5  # the best over the default, from which on the default is called slow
DEFAULT, PACKED = "torch's default", "oneDNN, packed"


def products() -> dict[str, Callable[[int], object]]:
    """fp32 products of two large square matrices, by each library within reach."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(SQUARE, SQUARE, generator=generator) for _ in range(2))
    out = torch.empty(SQUARE, SQUARE)
    found: dict[str, Callable[[int], object]] = {DEFAULT: lambda turn: torch.mm(a, b, out=out)}
    if packing_is_exact():
        linear, weight = PackedLinear(SQUARE), b.t().contiguous()
        found[PACKED] = lambda turn: linear(a, weight)
    return found


def rate(seconds: float) -> float:
    """GFLOP/s of one such product."""
    return 2 * SQUARE**3 / seconds * 1e-9


@dataclass(frozen=True)
class Machine:
    """Which of two cases this machine is.

    Attributes:
        rates: GFLOP/s of the large product by library.
    """

    rates: dict[str, float]

    @property
    def default_is_fast(self) -> bool:
        """Whether torch's default product is near the best within reach: then what others do is fast, too."""
        return max(self.rates.values()) < SLOW * self.rates[DEFAULT]

    @property
    def case(self) -> str:
        """What follows for the rows."""
        if self.default_is_fast:
            return "the default is fast here: rows that are compared with its products do not count"
        return "the default is slow here: every row counts"

    def __str__(self) -> str:
        speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in self.rates.items())
        return f"{SQUARE}³ in fp32, GFLOP/s: {speeds}"


def look(turns: int) -> Machine:
    """Measure this machine."""
    competitors = products()
    for competitor in competitors.values():
        competitor(0)
    seconds = interleaved(list(competitors.values()), turns)
    return Machine({name: rate(taken) for name, taken in zip(competitors, seconds, strict=True)})
