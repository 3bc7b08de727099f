"""Ready features of a picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlseq.config.encoders import FeaturesEncoderConfig
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq_envs.source import Source


class FeaturesEncoder(Encoder):
    """A linear map of features that another network made of a picture.

    The positions of a grid are its cells, row by row: the map of a cell, a learned vector for where it lies, and the
    map of the whole picture's vector if there is one, summed up and rectified. Without a grid, the vector is the one
    position. The summary is the mean over positions.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    def __init__(self, sizes: EncoderSizes, config: FeaturesEncoderConfig) -> None:
        super().__init__()
        self.fields, size = dict(sizes.sources), sizes.hidden_size
        self.maps = nn.ModuleDict({name: nn.Linear(space.largest[-1], size) for name, space in self.fields.items()})
        positions = max(math.prod(space.largest[:-1]) for space in self.fields.values())
        self.places = nn.Parameter(torch.randn(positions, size) * size**-0.5)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """See ``Encoder``."""
        summed: Tensor = self.places
        for name, layer in self.maps.items():
            values = self.dropout(source.fields[name].values)
            summed = summed + layer(values.view(len(values), -1, values.shape[-1]))
        values = self.dropout(torch.relu(summed))
        mask = values.new_ones(values.shape[:2], dtype=torch.bool)
        return Memory({SOURCE: Bank(values, mask)}, values.mean(1))
