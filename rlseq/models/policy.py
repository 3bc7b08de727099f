"""The interface of a policy, and the recurrent decoder that every attention policy shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.schema import AttentionPolicyConfig, PointerPolicyConfig
from rlseq.models.attention import Attention, Sharing
from rlseq.models.feeding import Feeding, OwnTokens
from rlseq.models.linear import Linear, UnrolledLinear
from rlseq.models.recurrent import BidirectionalEncoder, LSTMLayer, lstm_step
from rlseq.objectives.logits import IMPOSSIBLE

State = tuple[Tensor, ...]  # every tensor has the batch first

KEPT_ABOVE = 0.8  # sources that no row reads any more are let go when fewer than this share is still read


def select_rows(state: State, rows: Tensor) -> State:
    """The state of some rows, (rows,), in the order given; rows may repeat."""
    return tuple(part.index_select(0, rows) for part in state)


@dataclass(frozen=True)
class Forced:
    """What one pass of teacher forcing gave at every token that counts.

    Attributes:
        features: (N, D) what ``head`` reads, row by row; N is the number of tokens that count.
        counted: (batch_size, time) True at these tokens.
        hidden_steps: The decoder's states (batch_size, time, hidden_size), or (batch_size, hidden_size) of each step.
        attention_steps: Likewise the attention over (…, source_length).
    """

    features: Tensor
    counted: Tensor
    hidden_steps: Tensor | Sequence[Tensor]
    attention_steps: Tensor | Sequence[Tensor]

    @property
    def hidden(self) -> Tensor:
        """The states (N, hidden_size) that the tokens are chosen from: they have read the source and all before."""
        return _joined(self.hidden_steps)[self.counted]

    @property
    def attention(self) -> Tensor:
        """(batch_size, time, source_length), of no meaning beyond a length."""
        return _joined(self.attention_steps)


def _joined(steps: Tensor | Sequence[Tensor]) -> Tensor:
    return steps if isinstance(steps, Tensor) else torch.stack(list(steps), 1)


@dataclass(frozen=True)
class Memory:
    """An encoded batch of sources.

    Attributes:
        states: (batch_size, source_length, hidden_size) encoder outputs.
        keys: (batch_size, source_length, key_size) what the match function needs of them.
        mask: (batch_size, source_length) True at real positions.
        summary: (batch_size, hidden_size) the encoder's last states.
        inputs: (batch_size, source_length, embedding_size) the embedded source, for pointers; None otherwise.
        sharing: The source of each row of a decoding step; None: row i reads source i.
    """

    states: Tensor
    keys: Tensor
    mask: Tensor
    summary: Tensor
    inputs: Tensor | None = None
    sharing: Sharing | None = None

    def select(self, rows: Tensor) -> Memory:
        """The memory of some rows, in the order given; rows may repeat."""
        return self._with(lambda _, column: column.index_select(0, rows))

    def shared_by(self, sharing: Sharing) -> Memory:
        """The memory for rows that share its sources; sources that few still read are let go."""
        read = torch.zeros(len(self.mask), dtype=torch.bool, device=self.mask.device)
        read[sharing.source] = True
        kept = read.nonzero()[:, 0]
        if len(kept) >= KEPT_ABOVE * len(read):
            return replace(self, sharing=sharing)
        source = (read.cumsum(0) - 1)[sharing.source]
        return replace(self.select(kept), sharing=replace(sharing, source=source))

    def detach(self) -> Memory:
        """The same values, cut from the graph."""
        return self._with(lambda _, column: column.detach())

    @staticmethod
    def concatenate(parts: Sequence[Memory]) -> Memory:
        """Join along the batch; positions that a part does not have are masked."""
        if len(parts) == 1:
            return parts[0]
        longest = max(part.mask.shape[1] for part in parts)
        columns = [vars(part._padded(longest)) for part in parts]
        return parts[0]._with(lambda name, _: torch.cat([column[name] for column in columns]))

    def _padded(self, longest: int) -> Memory:
        missing = longest - self.mask.shape[1]
        pads = {2: (0, missing), 3: (0, 0, 0, missing)}
        return self._with(lambda name, column: column if name == "summary" else F.pad(column, pads[column.dim()]))

    def _with(self, change: Callable[[str, Tensor], Tensor]) -> Memory:
        columns = ((name, column) for name, column in vars(self).items() if isinstance(column, Tensor))
        changed: dict[str, Any] = {name: change(name, column) for name, column in columns}
        return replace(self, **changed)


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """(batch_size, size) True at positions below each length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def _is_for_training(name: str) -> bool:
    return name.partition(".")[0] in ("attention_target", "critic")


def shift_right(targets: Tensor) -> Tensor:
    """Decoder inputs for teacher forcing: END stands for "begin", then all targets but the last."""
    return torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], 1)


class SequencePolicy(nn.Module, ABC):
    """Gives the law of the next token; knows no reward and no optimiser.

    Attributes:
        attention_target: The share of attention that each source position is to get, where cross-entropy learns it.
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
        own = {name: value for name, value in self.state_dict().items() if _is_for_training(name)}
        given = {name: value for name, value in state_dict.items() if name in own or not _is_for_training(name)}
        return super().load_state_dict(own | given, strict, assign)

    @abstractmethod
    def encode(self, source: Tensor, source_lengths: Tensor) -> Memory:
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
            Logits (batch_size, choices), the caller's to change; the new state; attention (batch_size, source_length).
        """

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

    def forward(self, source: Tensor, source_lengths: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """Log-probabilities (batch_size, time, choices) of all next tokens under teacher forcing; 0 beyond a length."""
        packed = self.token_logits(self.encode(source, source_lengths), targets, lengths).log_softmax(-1)
        out = packed.new_zeros(*targets.shape, packed.shape[-1])
        out[length_mask(lengths, targets.shape[1])] = packed
        return out


class RecurrentPolicy(SequencePolicy):
    """What attention and pointer policies share: encoder, first state, LSTM decoder, attention, optional feeding.

    Args:
        config: The policy's section.
        embedding_size: Width of the encoder's and the decoder's embedded tokens.
        feed_size: Width of what is fed into the next step, when feeding is on.
    """

    def __init__(
        self, config: AttentionPolicyConfig | PointerPolicyConfig, embedding_size: int, feed_size: int
    ) -> None:
        super().__init__()
        size = config.hidden_size
        self.embedding_size = embedding_size
        self.feed_size = feed_size if config.feed_context else 0
        self.encoder = BidirectionalEncoder(
            embedding_size, size, config.encoder_layers, config.forget_bias, config.dropout
        )
        self.decoder = LSTMLayer(embedding_size + self.feed_size, size, config.forget_bias)
        self.attention = Attention(config.match, size, size)
        self.dropout = nn.Dropout(config.dropout)
        if config.first_state == "encoder":
            self.bridge = nn.Linear(size, 2 * size)
        else:
            self.first_state = nn.Parameter(torch.zeros(2 * size))
        self.first_state_given = config.first_state == "encoder"

    @abstractmethod
    def _embed(self, tokens: Tensor, memory: Memory) -> Tensor:
        """Decoder inputs (batch_size, time, embedding_size) for ``tokens`` (batch_size, time)."""

    @abstractmethod
    def _embed_law(self, law: Tensor, memory: Memory, linear: Linear) -> Tensor:
        """The expected decoder input (batch_size, embedding_size) under a law of tokens (batch_size, choices).

        END's share of it has the embedding of "begin".
        """

    @abstractmethod
    def _attend(
        self, hidden: Tensor, memory: Memory, forbidden: Tensor | None, linear: Linear = F.linear
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From decoder states (batch_size, time, hidden_size): features, attention, and what feeding passes on."""

    def _first_visited(self, memory: Memory) -> Tensor | None:
        """What is forbidden before the first token: (batch_size, choices), or None where nothing ever is."""
        return None

    def _visit(self, visited: Tensor, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def initial_state(self, memory: Memory) -> State:
        """(hidden, cell), then what was fed and what was visited, where the policy has them."""
        joined = (
            torch.tanh(self.bridge(memory.summary))
            if self.first_state_given
            else self.first_state.expand(len(memory.summary), -1)
        )
        hidden, cell = joined.chunk(2, 1)
        state: State = (hidden.contiguous(), cell.contiguous())
        if self.feed_size:
            state += (hidden.new_zeros(len(hidden), self.feed_size),)
        visited = self._first_visited(memory)
        return state if visited is None else (*state, visited)

    def step(
        self, tokens: Tensor, time: int, state: State, memory: Memory, linear: Linear = F.linear
    ) -> tuple[Tensor, State, Tensor]:
        """See ``SequencePolicy.step``."""
        gates = self._token_gates(tokens, memory, linear)
        features, state, attention = self._advance(gates, tokens, state, memory, linear)
        return self.project(features, linear), state, attention

    def _token_gates(self, tokens: Tensor, memory: Memory, linear: Linear) -> Tensor:
        """The gates' share of the tokens (batch_size,) that are read: (batch_size, 4 * hidden_size)."""
        embedded = self._embed(tokens[:, None], memory)[:, 0]
        return self.decoder.input_gates(embedded, self.embedding_size, linear)

    def _advance(
        self, gates: Tensor, tokens: Tensor, state: State, memory: Memory, linear: Linear
    ) -> tuple[Tensor, State, Tensor]:
        """One step from the gates' share of the embedded tokens; features (batch_size, feature_size)."""
        hidden, cell, *rest = state
        gates = gates + linear(hidden, self.decoder.weight_hh_l0, None)
        if self.feed_size:
            gates = gates + linear(rest.pop(0), self.decoder.weight_ih_l0[:, self.embedding_size :], None)
        visited = self._visit(rest[0], tokens) if rest else None
        hidden, cell = lstm_step(gates, cell)
        forbidden = None if visited is None else visited[:, None]
        features, attention, feed = self._attend(hidden[:, None], memory, forbidden, linear)
        state = (hidden, cell, *((feed[:, 0],) if self.feed_size else ()), *(() if visited is None else (visited,)))
        return features[:, 0], state, attention[:, 0]

    def forced(self, memory: Memory, targets: Tensor, lengths: Tensor, feeding: Feeding | None = None) -> Forced:
        """All steps at once if nothing is fed back, step by step otherwise.

        Revisits are those of the targets' tokens, whatever is read in their place: no target is ever forbidden.
        """
        inputs, counted = shift_right(targets), length_mask(lengths, targets.shape[1])
        if self.feed_size or feeding is not None:
            steps, states, attentions = zip(*self._steps(inputs, memory, feeding), strict=True)
            return Forced(torch.stack(steps, 1)[counted], counted, [state[0] for state in states], attentions)
        hidden = self._hidden(inputs, memory)
        features, attention, _ = self._attend(hidden, memory, self._visited_before(inputs, memory))
        return Forced(features[counted], counted, hidden, attention)

    def _hidden(self, inputs: Tensor, memory: Memory) -> Tensor:
        hidden, cell = self.initial_state(memory)[:2]
        outputs: Tensor = self.decoder(self._embed(inputs, memory), (hidden[None], cell[None]))[0]
        return outputs

    def _visited_before(self, inputs: Tensor, memory: Memory) -> Tensor | None:
        visited = self._first_visited(memory)
        if visited is None:
            return None
        steps = []
        for tokens in inputs.unbind(1):
            visited = self._visit(visited, tokens)
            steps.append(visited)
        return torch.stack(steps, 1)

    def _steps(
        self, inputs: Tensor, memory: Memory, feeding: Feeding | None = None
    ) -> Iterator[tuple[Tensor, State, Tensor]]:
        """Features, state and attention of each step under teacher forcing."""
        known: Sequence[Tensor] = ()
        if feeding is None:
            known = self.decoder.input_gates(self._embed(inputs, memory), self.embedding_size).unbind(1)
        state, linear = self.initial_state(memory), UnrolledLinear(len(inputs))
        steps: list[Tensor] = []
        for time, tokens in enumerate(inputs.unbind(1)):
            gates = known[time] if feeding is None else self._fed_gates(tokens, steps, memory, feeding, linear)
            features, state, attention = self._advance(gates, tokens, state, memory, linear)
            steps.append(features)
            yield features, state, attention

    def _fed_gates(
        self, tokens: Tensor, steps: list[Tensor], memory: Memory, feeding: Feeding, linear: Linear
    ) -> Tensor:
        """The gates' share of the next input, given the targets' tokens (batch_size,) and the features so far."""
        if steps and feeding == "distribution":
            embedded = self._embed_law(self.project(steps[-1], linear).softmax(-1), memory, linear)
        else:
            if steps and isinstance(feeding, OwnTokens):
                tokens = self._replace(tokens, steps, feeding, linear)
            embedded = self._embed(tokens[:, None], memory)[:, 0]
        return self.decoder.input_gates(embedded, self.embedding_size, linear)

    @torch.no_grad()
    def _replace(self, tokens: Tensor, steps: list[Tensor], feeding: OwnTokens, linear: Linear) -> Tensor:
        rows = feeding.rows[len(steps)]
        if not len(rows):
            return tokens
        logits = self.project(steps[-1].index_select(0, rows), linear)
        return tokens.index_copy(0, rows, feeding.choose(logits, rows, len(steps)))


def forbid(logits: Tensor, forbidden: Tensor | None) -> Tensor:
    """Logits with ``IMPOSSIBLE`` where ``forbidden``."""
    return logits if forbidden is None else logits.masked_fill(forbidden, IMPOSSIBLE)
