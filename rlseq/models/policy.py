"""The interface of a policy: all that decoding, objectives and training know of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.models.feeding import Feeding
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import Memory
from rlseq.models.state import State
from rlseq_envs.source import Source


@dataclass(frozen=True)
class Forced:
    """What one pass of teacher forcing gave at every token that counts.

    Attributes:
        features: (N, D) what ``head`` reads, row by row; N is the number of tokens that count.
        counted: (batch_size, time) True at these tokens.
        hidden_steps: The decoder's states, parts of (batch_size, time, hidden_size) along time.
        attention_steps: Likewise the attention, (batch_size, time, positions).
    """

    features: Tensor
    counted: Tensor
    hidden_steps: list[Tensor]
    attention_steps: list[Tensor]

    @property
    def hidden(self) -> Tensor:
        """The states (N, hidden_size) that the tokens are chosen from: they have read the source and all before."""
        return torch.cat(self.hidden_steps, 1)[self.counted]

    @property
    def attention(self) -> Tensor:
        """(batch_size, time, positions), of no meaning beyond a length."""
        return torch.cat(self.attention_steps, 1)


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """(batch_size, size) True at positions below each length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def is_for_training(name: str) -> bool:
    """Whether a parameter is of what only training needs, so that it may be missing or too much."""
    return name.partition(".")[0] in ("attention_target", "critic")


def shift_right(targets: Tensor) -> Tensor:
    """Decoder inputs for teacher forcing: END stands for "begin", then all targets but the last."""
    return torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], 1)


class SequencePolicy(nn.Module, ABC):
    """Gives the distribution of the next token; knows no reward and no optimiser.

    Attributes:
        attention_target: The attention that each source position is to get in all, if cross-entropy learns it.
        critic: Reads ``Forced.hidden``, if one is trained beside the policy.
    """

    attention_target: nn.Parameter | None
    critic: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("attention_target", None)
        self.register_module("critic", None)

    def learn_attention_target(self) -> None:
        """Make the attention's target a parameter; it starts at 1, where Xu et al. 2015, sec. 4.2.1 have it fixed."""
        self.attention_target = nn.Parameter(torch.ones(()))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """See ``nn.Module``; what only training needs may be missing on either side."""
        own = {name: value for name, value in self.state_dict().items() if is_for_training(name)}
        given = {name: value for name, value in state_dict.items() if name in own or not is_for_training(name)}
        return super().load_state_dict(own | given, strict, assign)

    @abstractmethod
    def encode(self, source: Source[Tensor]) -> Memory:
        """Encode sources as a task gives them."""

    @abstractmethod
    def initial_state(self, memory: Memory) -> State:
        """The decoder's state before the first token."""

    @abstractmethod
    def step(
        self, tokens: Tensor, time: int, state: State, memory: Memory, linear: Linear = F.linear
    ) -> tuple[Tensor, State, Tensor]:
        """One decoding step.

        Args:
            tokens: (batch_size,) the last emitted tokens; END at the start.
            time: How many steps came before.
            state: As ``initial_state`` or the last step gave it.
            memory: The encoded sources.
            linear: Does the linear maps; a ``PackedLinear`` makes many steps under the same weights faster.

        Returns:
            Logits (batch_size, choices), the caller's to change; the new state; attention (batch_size, positions), of
            0 positions if the policy attends to nothing.
        """

    @abstractmethod
    def attention_mask(self, memory: Memory) -> Tensor:
        """(sources, positions) True at the positions that each source has for attention."""

    @abstractmethod
    def forced(self, memory: Memory, targets: Tensor, lengths: Tensor, feeding: Feeding | None = None) -> Forced:
        """Read ``targets`` (batch_size, time), the last token of each step given: teacher forcing.

        Args:
            memory: The encoded sources.
            targets: Tokens that a policy can emit.
            lengths: (batch_size,) how many of them are real.
            feeding: What is read in place of the targets' tokens; None: nothing.
        """

    @property
    def head(self) -> tuple[Tensor, Tensor] | None:
        """Weight (choices, D) and bias (choices,) that turn features into logits; None: features are logits."""
        return None

    def token_logits(self, memory: Memory, targets: Tensor, lengths: Tensor) -> Tensor:
        """Logits at every real token of ``targets`` (batch_size, time), row by row: (lengths.sum(), choices)."""
        return self.project(self.forced(memory, targets, lengths).features)

    def project(self, features: Tensor, linear: Linear = F.linear) -> Tensor:
        """Logits (…, choices) of features (…, D)."""
        return features if self.head is None else linear(features, *self.head)

    def forward(self, source: Source[Tensor], targets: Tensor, lengths: Tensor) -> Tensor:
        """Log-probabilities (batch_size, time, choices) of all next tokens under teacher forcing; 0 beyond a length."""
        packed = self.token_logits(self.encode(source), targets, lengths).log_softmax(-1)
        out = packed.new_zeros(*targets.shape, packed.shape[-1])
        out[length_mask(lengths, targets.shape[1])] = packed
        return out
