"""The distribution that tokens are sampled from, and scored under: one definition for the decoder and for the loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rlseq.config.rl import RLConfig
from rlseq.objectives.logits import IMPOSSIBLE

NUCLEUS = 64  # likeliest choices that are looked through first: most often the nucleus is among them


@dataclass(frozen=True)
class SamplingDistribution:
    """The policy's distribution of the next token, tempered and cut to its likeliest choices.

    It is tempered first, then cut to ``top_k`` choices, then to ``top_p`` of what is left, as Hugging Face does. A cut
    distribution is renormalised: its logits are the tempered ones on its support and ``IMPOSSIBLE`` elsewhere. Choices
    as likely as the last one inside are inside, too, so nothing depends on the vocabulary's order. Gradients hold the
    support fixed.

    Decoder and scorer compute the logits by different products, which differ by rounding, some 1e-6. In about as few
    states the edge of the support falls into that difference, and one side counts a choice that the other does not. The
    scorer is therefore told what was sampled and counts it in: what could be drawn always has a probability, and
    the normaliser is off by one choice in those few states.

    Attributes:
        temperature: Logits are divided by it; above 0.
        top_k: The likeliest choices that are kept (Fan et al. 2018), 1 or more; None: all.
        top_p: Of the likeliest choices, the fewest that hold this probability are kept (nucleus, Holtzman et al.
            2020), in (0, 1]; 1: all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    @staticmethod
    def of(config: RLConfig) -> SamplingDistribution:
        """The distribution of the rl phase's samples."""
        return SamplingDistribution(config.temperature, config.top_k, config.top_p)

    def tempered(self, logits: Tensor) -> Tensor:
        """Logits of the tempered distribution over all choices; the very tensor where the temperature is 1."""
        return logits if self.temperature == 1.0 else logits / self.temperature

    def logits(self, logits: Tensor, sampled: Tensor | None = None) -> Tensor:
        """Logits of the distribution (N, C) from the policy's; the very tensor where the distribution is the policy's.

        Args:
            logits: (N, C).
            sampled: (N,) choices that the decoder drew: they are in the support.
        """
        logits = self.tempered(logits)
        if self.top_k is None and self.top_p == 1.0:
            return logits
        outside = self._outside(logits.detach())
        if sampled is not None:
            outside.scatter_(1, sampled[:, None], False)
        return logits.masked_fill(outside, IMPOSSIBLE)

    def _outside(self, logits: Tensor) -> Tensor:
        """What is not in the support, (N, C), of tempered logits."""
        outside = None
        if self.top_k is not None:
            outside = logits < logits.topk(min(self.top_k, logits.shape[1])).values[:, -1:]
            logits = logits.masked_fill(outside, IMPOSSIBLE)
        if self.top_p < 1.0:
            probabilities = logits.softmax(-1)
            beyond = probabilities < _least_of_nucleus(probabilities, self.top_p)
            outside = beyond if outside is None else outside | beyond
        assert outside is not None
        return outside


POLICY = SamplingDistribution()  # the policy's, as it is


def _least_of_nucleus(probabilities: Tensor, mass: float) -> Tensor:
    """The smallest probability among the fewest likeliest choices that hold ``mass``: (N, 1), from (N, C)."""
    if probabilities.is_cuda:  # looking whether a few suffice would wait for it
        return _last_inside(probabilities.sort(dim=1, descending=True).values, mass)[0]
    least, sufficed = _last_inside(probabilities.topk(min(NUCLEUS, probabilities.shape[1])).values, mass)
    rest = (~sufficed).nonzero()[:, 0]
    if len(rest):
        descending = torch.from_numpy(np.sort(probabilities[rest].numpy(), axis=1)).flip(
            1
        )  # torch sorts four times as slowly
        least[rest] = _last_inside(descending, mass)[0]
    return least


def _last_inside(descending: Tensor, mass: float) -> tuple[Tensor, Tensor]:
    """The last probability before those in front of it hold ``mass``, (N, 1), and whether all together do, (N,)."""
    held = descending.double().cumsum(1)
    inside = F.pad(held, (1, 0))[:, :-1] < mass
    return descending.gather(1, inside.sum(1, keepdim=True) - 1), held[:, -1] >= mass
