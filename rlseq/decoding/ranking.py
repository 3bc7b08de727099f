"""How a search compares hypotheses that are finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LengthNorm = Literal["power", "gnmt"]


@dataclass(frozen=True)
class Ranking:
    """Score of a sequence y: log p(y) / norm(|y|) + β · coverage, more is better.

    Attributes:
        length_penalty: α ≥ 0; 0: log-probabilities are compared as they are.
        length_norm: ``power``: norm(n) = n^α, with α = 1 the mean a token; ``gnmt``: ((5 + n) / 6)^α (Wu et al. 2016,
            eq. 14), which differs less among short sequences. Lengths count END.
        coverage_penalty: β ≥ 0; coverage is Σ_i log min(Σ_t a_ti, 1) (ibid.), a_ti the attention of step t to source
            position i: 0 where each position got a step's worth of attention, below 0 otherwise.
    """

    length_penalty: float = 1.0
    length_norm: LengthNorm = "power"
    coverage_penalty: float = 0.0

    def score(self, log_probs: Tensor, lengths: Tensor, attended: Tensor | None, real: Tensor) -> Tensor:
        """Scores of hypotheses, of the shape of ``log_probs``.

        Args:
            log_probs: Of whole sequences.
            lengths: Of a shape that broadcasts to theirs.
            attended: (…, source_length) attention summed over steps; needed if there is a coverage penalty.
            real: True at source positions that count, of a shape that broadcasts to that of ``attended``.
        """
        scores = self.bound(log_probs, lengths)
        if not self.coverage_penalty:
            return scores
        assert attended is not None
        covered = attended.clamp(torch.finfo(attended.dtype).tiny, 1.0).log()
        return scores + self.coverage_penalty * torch.where(real, covered, 0.0).sum(-1)

    def bound(self, log_probs: Tensor, lengths: Tensor) -> Tensor:
        """What a score of hypotheses that go on cannot pass, of the shape of ``log_probs``.

        A log-probability l only falls, to l' ≤ l ≤ 0, and norm rises with the length n, so that at any length up to
        the limit N, l' / norm(n) ≤ l / norm(n) ≤ l / norm(N). Each term of the coverage is log min(…, 1) ≤ 0, and
        β ≥ 0: it adds nothing. Each step holds in floating point, too: divisions and sums are rounded monotonically.

        Args:
            log_probs: Of what is there.
            lengths: The longest that a sequence can become, of a shape that broadcasts to theirs.
        """
        size = lengths.double() if self.length_norm == "power" else (5.0 + lengths.double()) / 6.0
        return log_probs / (size**self.length_penalty).to(log_probs.dtype)
