"""No source."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.config.encoders import NothingEncoderConfig
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq_envs.source import Source


class NothingEncoder(Encoder):
    """A learned summary, the same for all instances, and a bank of no position.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    def __init__(self, sizes: EncoderSizes, config: NothingEncoderConfig) -> None:
        super().__init__()
        self.summary = nn.Parameter(torch.zeros(sizes.hidden_size))

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """See ``Encoder``."""
        summary = self.summary.expand(source.size, -1)
        nowhere = summary.new_zeros(source.size, 0, summary.shape[1])
        return Memory({SOURCE: Bank(nowhere, nowhere[:, :, 0].bool())}, summary)
