"""An LSTM that chooses a position by its number, not by what stands there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.config.decoders import FixedOutputLSTMConfig
from rlseq.config.errors import UserError
from rlseq.models.decoders.lstm import LSTMDecoder
from rlseq.models.layers.attention import Attention
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import SOURCE, Memory
from rlseq.models.parts import DecoderOutput, DecoderSizes
from rlseq.objectives.logits import IMPOSSIBLE


class FixedOutputLSTM(LSTMDecoder):
    """The baseline of pointer networks: one weight vector for each position that there was in training.

    z_t and what attention reads of the source choose (Bahdanau et al. 2015; Vinyals et al. 2015, table 1). Positions
    that a source does not have are never chosen.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    bank = SOURCE

    def __init__(self, sizes: DecoderSizes, config: FixedOutputLSTMConfig) -> None:
        super().__init__(sizes, config)
        size = sizes.hidden_size
        self.attention = Attention(config.match, size, size)
        self.numbers = nn.Linear(2 * size, sizes.positions)

    def prepare(self, memory: Memory) -> Memory:
        """With the keys that the match function needs.

        Raises:
            UserError: A source has more positions than there were in training.
        """
        values = memory.banks[self.bank].values
        if values.shape[1] > self.numbers.out_features:
            raise UserError(
                f"a source has {values.shape[1] - 1} positions, but policy.decoder.type 'fixed_output_lstm' knows the "
                f"{self.numbers.out_features - 1} of its training alone: give smaller sources, or train a policy whose "
                "decoder is attention_lstm"
            )
        return super().prepare(memory).with_bank(self.bank, keys=(self.attention.keys(values),))

    def _output(self, hidden: Tensor, memory: Memory, forbidden: Tensor | None, linear: Linear) -> DecoderOutput:
        """The scores of positions by number; where attention looks is not what is chosen."""
        bank = memory.banks[self.bank]
        weights = self.attention(hidden, bank.keys[0], bank.mask, linear, memory).softmax(-1)
        features = torch.cat([hidden, memory.products(weights, bank.values)], -1)
        scores = linear(features, self.numbers.weight, self.numbers.bias)[..., : bank.mask.shape[1]]
        scores = scores.masked_fill(~memory.rows(bank.mask)[:, None], IMPOSSIBLE)
        if forbidden is not None:
            scores = scores.masked_fill(forbidden, IMPOSSIBLE)
        return DecoderOutput(hidden, scores, scores.softmax(-1), None)
