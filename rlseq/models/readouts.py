"""What logits are made from: the attentional vector, the decoder's states, or the scores of attention themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.models.layers.attention import fast_tanh
from rlseq.models.layers.linear import Linear
from rlseq.models.parts import DecoderOutput, Readout


class AttentionalVector(Readout):
    """a_t = tanh(W [z_t; c_t]) (Luong et al. 2015, eq. 5); with input feeding the next step reads it (ibid., 3.3).

    Args:
        input_size: Width of state and context together.
        size: Of the vector.
        dropout: Of its features.
        feeds: Whether it is fed on.
    """

    def __init__(self, input_size: int, size: int, dropout: float, feeds: bool) -> None:
        super().__init__()
        self.combine = nn.Linear(input_size, size, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.feed_size = size if feeds else 0

    def features(self, out: DecoderOutput, linear: Linear = F.linear) -> Tensor:
        """The vector."""
        assert out.context is not None
        joined = linear(torch.cat([out.hidden, out.context], -1), self.combine.weight, None)
        return self.dropout(fast_tanh(joined))

    def feed(self, out: DecoderOutput, features: Tensor) -> Tensor:
        """The vector."""
        return features


class States(Readout):
    """The decoder's states, mapped if the output reads another width; for a decoder whose states hold the context.

    Args:
        hidden_size: Width of the states.
        size: Width of what the output reads.
        dropout: Of its features.
    """

    feed_size = 0

    def __init__(self, hidden_size: int, size: int, dropout: float) -> None:
        super().__init__()
        self.narrow = None if hidden_size == size else nn.Linear(hidden_size, size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def features(self, out: DecoderOutput, linear: Linear = F.linear) -> Tensor:
        """The states, or the map of them."""
        return self.dropout(out.hidden if self.narrow is None else linear(out.hidden, self.narrow.weight, None))

    def feed(self, out: DecoderOutput, features: Tensor) -> Tensor:
        """Nothing."""
        return features[..., :0]


class Scores(Readout):
    """The scores of attention, for an output that points; what attention read, a glimpse, may be fed on.

    Args:
        feed_size: Width of the glimpse; 0: it is not fed on.
    """

    def __init__(self, feed_size: int) -> None:
        super().__init__()
        self.feed_size = feed_size

    def features(self, out: DecoderOutput, linear: Linear = F.linear) -> Tensor:
        """The scores."""
        return out.scores

    def feed(self, out: DecoderOutput, features: Tensor) -> Tensor:
        """The glimpse."""
        assert out.context is not None
        return out.context
