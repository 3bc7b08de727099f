"""The attention LSTM and the pointer network as tutorials write them: correct, readable, and nothing made fast.

They share our policies' weights, so that both sides can be held to the same tokens before anything is timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rlseq.models.decoders.attention_lstm import AttentionLSTM
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.encoders.recurrent import RecurrentEncoder
from rlseq.models.outputs.pointer import PointerOutput

IGNORED = -100  # the target of padding
Choose = Callable[[Tensor], Tensor]  # logits (batch_size, choices) → tokens (batch_size,)
State = tuple[Tensor, Tensor]


def greedy(logits: Tensor) -> Tensor:
    """The most likely token of each row."""
    return logits.log_softmax(-1).argmax(-1)


def categorical(logits: Tensor) -> Tensor:
    """A token of each row, drawn by torch's Categorical."""
    return torch.distributions.Categorical(logits=logits).sample()


def multinomial(logits: Tensor) -> Tensor:
    """A token of each row, drawn by torch's multinomial."""
    return torch.multinomial(logits.softmax(-1), 1)[:, 0]


class _Recurrent(nn.Module):
    """Bidirectional LSTM encoder, bridge, LSTM decoder."""

    def __init__(self, policy: EncoderDecoder, match: str) -> None:
        """Raises ValueError if the policy is none that tutorials write: see the subclasses."""
        super().__init__()
        encoder, decoder = policy.encoder, policy.decoder
        assert isinstance(encoder, RecurrentEncoder) and isinstance(decoder, AttentionLSTM)
        plain = decoder.normalises and not policy.readout.feed_size and len(encoder.lstm.forwards) == 1
        if not plain or decoder.attention.match != match:
            raise ValueError(f"only one layer, {match} match, a softmax and no feeding can be converted")
        size, width = decoder.bridge.in_features, decoder.input_size
        self.encoder = nn.LSTM(width, size // 2, bidirectional=True, batch_first=True)
        self.bridge = nn.Linear(size, 2 * size)
        self.decoder = nn.LSTM(width, size, batch_first=True)
        self.bridge.load_state_dict(decoder.bridge.state_dict())
        self.decoder.load_state_dict(decoder.lstm.state_dict())
        there, back = encoder.lstm.forwards[0].state_dict(), encoder.lstm.backwards[0].state_dict()
        self.encoder.load_state_dict(there | {f"{name}_reverse": value for name, value in back.items()})

    def encode_inputs(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """States (batch_size, source_length, size) and the decoder's first state."""
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, (hidden, _) = self.encoder(packed)
        states, _ = pad_packed_sequence(outputs, batch_first=True)
        first = torch.tanh(self.bridge(torch.cat([hidden[0], hidden[1]], 1)))
        hidden, cell = (part.contiguous()[None] for part in first.chunk(2, 1))
        return states, (hidden, cell)


class NaiveTranslator(_Recurrent):
    """An attention encoder–decoder (Luong et al. 2015, "general") with a policy's weights.

    Raises:
        ValueError: The policy is none that tutorials write: several layers, another match, or something fed back.
    """

    def __init__(self, policy: EncoderDecoder) -> None:
        super().__init__(policy, "bilinear")
        weights = {name: value.clone() for name, value in policy.state_dict().items()}
        tables = [weights[f"{side}embedding.table.weight"] for side in ("", "output.")]
        source, target = (table * math.sqrt(table.shape[1]) for table in tables)
        self.source_embedding = nn.Embedding.from_pretrained(source, freeze=False)
        self.target_embedding = nn.Embedding.from_pretrained(target, freeze=False)
        self.key = self._linear(weights["decoder.attention.key.weight"])
        self.combine = self._linear(weights["readout.combine.weight"])
        self.output = self._linear(weights["output.weight"], weights["output.bias"])

    @staticmethod
    def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        return layer

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, State]:
        """Encoder states, the mask of real positions, the decoder's first state."""
        states, first = self.encode_inputs(self.source_embedding(source), lengths)
        return states, torch.arange(states.shape[1]) < lengths[:, None], first

    def step(self, tokens: Tensor, state: State, states: Tensor, mask: Tensor) -> tuple[Tensor, State]:
        """Logits (batch_size, time, vocabulary) after ``tokens`` (batch_size, time), and the new state."""
        outputs, state = self.decoder(self.target_embedding(tokens), state)
        scores = torch.bmm(outputs, self.key(states).transpose(1, 2)).masked_fill(~mask[:, None], -1e9)
        context = torch.bmm(scores.softmax(-1), states)
        return self.output(torch.tanh(self.combine(torch.cat([outputs, context], -1)))), state

    def forward(self, source: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Logits (batch_size, time, vocabulary) of all positions under teacher forcing, padding included."""
        states, mask, first = self.encode(source, lengths)
        inputs = torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], 1)
        return self.step(inputs, first, states, mask)[0]

    @torch.no_grad()
    def decode(self, source: Tensor, lengths: Tensor, limits: Tensor, choose: Choose) -> tuple[Tensor, Tensor]:
        """Sequences (batch_size, time) padded with END, and lengths: step by step until every row has ended."""
        states, mask, state = self.encode(source, lengths)

        def advance(tokens: Tensor, state: State) -> tuple[Tensor, State]:
            logits, state = self.step(tokens[:, None], state, states, mask)
            return logits[:, 0], state

        return _decode(advance, state, limits, choose)


class NaivePointer(_Recurrent):
    """A pointer network (Vinyals et al. 2015) with a policy's weights.

    Raises:
        ValueError: The policy is none that tutorials write: several layers, another match, feeding, or masked revisits.
    """

    def __init__(self, policy: EncoderDecoder) -> None:
        super().__init__(policy, "additive")
        output, decoder = policy.output, policy.decoder
        assert isinstance(output, PointerOutput) and isinstance(decoder, AttentionLSTM)
        if output.mask_revisits:
            raise ValueError("no masked revisits can be converted")
        self.embed, self.begin, self.end = policy.embedding, output.begin, output.end
        self.query, self.key, self.energy = (getattr(decoder.attention, name) for name in ("query", "key", "energy"))

    @torch.no_grad()
    def decode(self, source: Tensor, lengths: Tensor, limits: Tensor, choose: Choose) -> tuple[Tensor, Tensor]:
        """Sequences (batch_size, time) padded with END, and lengths: step by step until every row has ended."""
        rows = torch.arange(len(source))
        embedded = self.embed(source)
        states, state = self.encode_inputs(embedded, lengths)
        states = torch.cat([self.end.expand(len(source), 1, -1), states], 1)
        inputs = torch.cat([self.begin.expand(len(source), 1, -1), embedded], 1)
        mask = torch.arange(states.shape[1]) <= lengths[:, None]

        def advance(tokens: Tensor, state: State) -> tuple[Tensor, State]:
            outputs, state = self.decoder(inputs[rows, tokens][:, None], state)
            scores = torch.tanh(self.query(outputs) + self.key(states)) @ self.energy
            return scores.masked_fill(~mask, -1e9), state

        return _decode(advance, state, limits, choose)


def _decode(
    advance: Callable[[Tensor, State], tuple[Tensor, State]], state: State, limits: Tensor, choose: Choose
) -> tuple[Tensor, Tensor]:
    tokens, lengths = torch.zeros_like(limits), limits.clone()
    finished = torch.zeros_like(limits, dtype=torch.bool)
    steps: list[Tensor] = []
    while not finished.all():
        logits, state = advance(tokens, state)
        tokens = choose(logits)
        steps.append(tokens.masked_fill(finished, 0))
        ended = ~finished & (tokens == 0)
        lengths[ended] = len(steps)
        finished = finished | ended | (limits <= len(steps))
    return torch.stack(steps, 1), lengths


def cross_entropy(model: NaiveTranslator, source: Tensor, lengths: Tensor, targets: Tensor, real: Tensor) -> Tensor:
    """Mean −log p of the real target tokens, with every padded position through the output layer."""
    logits = model(source, lengths, targets)
    return F.cross_entropy(logits.flatten(0, 1), targets.masked_fill(~real, IGNORED).flatten(), ignore_index=IGNORED)


def policy_gradient_loss(
    model: NaiveTranslator, source: Tensor, lengths: Tensor, sampled: Tensor, real: Tensor, advantage: Tensor
) -> Tensor:
    """REINFORCE: −advantage · log p of the samples, scored anew, a mean over sequences."""
    log_probs = model(source, lengths, sampled).log_softmax(-1).gather(2, sampled[:, :, None])[:, :, 0]
    return -(log_probs * real * advantage[:, None]).sum() / len(sampled)
