"""What a search looks for, and how a beam goes about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlseq.decoding.ranking import Ranking


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search looks for.

    Attributes:
        ranking: How it compares finished hypotheses.
        min_length: Fewest tokens, END included; see ``without_end``. Probabilities stay the policy's.
        n_best: Hypotheses returned for each source, best first. If there are fewer, the rest have length 0 and
            log-probability −1e30.
    """

    ranking: Ranking = field(default_factory=Ranking)
    min_length: int = 1
    n_best: int = 1


@dataclass(frozen=True, kw_only=True)
class Beam(Search):
    """A search that keeps a few hypotheses.

    Attributes:
        size: Hypotheses kept for each source, by all groups together, at least ``n_best``.
        groups: A divisor of ``size``; 1: an ordinary beam.
        diversity: λ ≥ 0, what a token costs for each time that groups before chose it (Vijayakumar et al. 2018).
    """

    size: int
    groups: int = 1
    diversity: float = 0.0

    @property
    def width(self) -> int:
        """Hypotheses of a group."""
        return self.size // self.groups
