"""The pointer network (Vinyals et al. 2015): the attention over the input is the output distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.schema import PointerPolicyConfig
from rlseq.models.attention import products
from rlseq.models.linear import Linear
from rlseq.models.policy import Memory, RecurrentPolicy, forbid, length_mask
from rlseq.models.shape import TaskShape


class PointerPolicy(RecurrentPolicy):
    """Vectors in, positions out; any number of them at test time.

    Choice 0 is END, a learned position in front of the source; choice i + 1 is source position i. The decoder reads
    the embedded point it chose last; position 0's embedding stands for "begin".

    Args:
        config: The policy's section.
        shape: Sizes of the task.

    Raises:
        ValueError: The task's source is not an array of vectors, or its output no pointers.
    """

    def __init__(self, config: PointerPolicyConfig, shape: TaskShape) -> None:
        if shape.source_features is None or shape.vocabulary_size is not None:
            raise ValueError("policy.type 'pointer' needs a task that points into a source of vectors; use 'attention'")
        size = config.hidden_size
        super().__init__(config, size, feed_size=size)
        self.embed = nn.Linear(shape.source_features, size)
        self.begin = nn.Parameter(torch.randn(size) * size**-0.5)
        self.end = nn.Parameter(torch.randn(size) * size**-0.5)
        self.mask_revisits = config.mask_revisits

    def encode(self, source: Tensor, source_lengths: Tensor) -> Memory:
        """``source``: (batch_size, source_length, features); the memory has END in front, one position more."""
        embedded = self.dropout(self.embed(source))
        states, summary = self.encoder(embedded, source_lengths)
        rows = len(source)
        states = torch.cat([self.end.expand(rows, 1, -1), self.dropout(states)], 1)
        inputs = torch.cat([self.begin.expand(rows, 1, -1), embedded], 1)
        mask = length_mask(source_lengths + 1, states.shape[1])
        return Memory(states, self.attention.keys(states), mask, summary, inputs)

    def _embed(self, tokens: Tensor, memory: Memory) -> Tensor:
        assert memory.inputs is not None
        if memory.sharing is not None:
            return memory.inputs[memory.sharing.source[:, None], tokens]
        return memory.inputs.gather(1, tokens[:, :, None].expand(-1, -1, memory.inputs.shape[-1]))

    def _embed_law(self, law: Tensor, memory: Memory, linear: Linear) -> Tensor:
        assert memory.inputs is not None
        return products(law[:, None], memory.inputs, memory.sharing)[:, 0]

    def _attend(
        self, hidden: Tensor, memory: Memory, forbidden: Tensor | None, linear: Linear = F.linear
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits = forbid(self.attention(hidden, memory.keys, memory.mask, linear, memory.sharing), forbidden)
        attention = logits.softmax(-1)
        feed = products(attention, memory.states, memory.sharing) if self.feed_size else attention
        return logits, attention, feed

    def _first_visited(self, memory: Memory) -> Tensor | None:
        return torch.zeros_like(memory.mask) if self.mask_revisits else None

    def _visit(self, visited: Tensor, tokens: Tensor) -> Tensor:
        chosen = torch.zeros_like(visited).scatter(1, tokens[:, None], True)
        chosen[:, 0] = False  # END is never forbidden: it also stands for "begin"
        return visited | chosen
