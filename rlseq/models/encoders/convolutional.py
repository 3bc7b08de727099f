"""A picture as a grid of vectors."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.encoders import ConvolutionalEncoderConfig
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq_envs.source import Source


class ConvolutionalEncoder(Encoder):
    """Layers of 3 × 3 maps (LeCun et al. 1998): a position of the bank is a cell of the last one, row by row.

    Each cell has a learned vector for where it lies. The summary is the mean over cells.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    def __init__(self, sizes: EncoderSizes, config: ConvolutionalEncoderConfig) -> None:
        super().__init__()
        ((self.field, self.picture),) = sizes.sources.items()
        rows, columns, colors = self.picture.largest
        widths = [colors, *(config.channels << number for number in range(config.layers))]
        strides = [2 if number < config.halvings else 1 for number in range(config.layers)]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride, padding=1)
            for (before, after), stride in zip(pairwise(widths), strides, strict=True)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        for _ in range(config.halvings):
            rows, columns = -(-rows // 2), -(-columns // 2)
        self.widen = nn.Linear(widths[-1], sizes.hidden_size)
        self.places = nn.Parameter(torch.randn(rows * columns, sizes.hidden_size) * sizes.hidden_size**-0.5)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """See ``Encoder``."""
        values = embedding(source.fields[self.field].values).to(self.places.dtype)
        maps = (values / 255 if self.picture.dtype == "uint8" else values).movedim(-1, 1)
        for layer in self.layers:
            maps = F.relu(layer(maps))
        cells = self.dropout(F.relu(self.widen(maps.flatten(2).transpose(1, 2)) + self.places))
        mask = torch.ones(cells.shape[:2], dtype=torch.bool, device=cells.device)
        return Memory({SOURCE: Bank(cells, mask)}, cells.mean(1))
