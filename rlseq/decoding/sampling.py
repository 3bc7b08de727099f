"""Greedy and sampled decoding, in one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rlseq.decoding.ending import without_end
from rlseq.models.layers.linear import Linear, PackedLinear
from rlseq.models.memory import Memory, Sharing
from rlseq.models.policy import SequencePolicy
from rlseq.models.state import select_rows
from rlseq.objectives.distribution import POLICY, SamplingDistribution

COMPACT_BELOW = 0.95  # finished rows are dropped when fewer than this fraction of the rows is still in use
CHECK_EVERY = {"cpu": 1, "cuda": 8}  # steps between looks at which sequences have finished: each waits for the device


@dataclass(frozen=True)
class Decoded:
    """Decoded sequences, R of them an instance: the samples in order, then the greedy one if it is asked for.

    Attributes:
        sequences: (batch_size, R, time) token ids, END beyond a length.
        lengths: (batch_size, R) tokens up to and including END, or the limit.
        log_probs: (batch_size, R, time) of each token: of samples under the distribution they were drawn from, of what
            was searched for under the policy's own; 0 beyond a length, and if they were not asked for.
        attention: (batch_size, R, time, source_length), or None.
    """

    sequences: Tensor
    lengths: Tensor
    log_probs: Tensor
    attention: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is decoded of each instance: K samples, one for each column of ``uniforms``, then the greedy sequence.

    Attributes:
        uniforms: (batch_size, K, ≥ limits.max()) in [0, 1); None: no samples.
        greedy: Decode the greedy sequence, too; it is the last of the R.
        distribution: Of the samples.
        min_length: Fewest tokens, END included; see ``without_end``.
        prefixes: (batch_size, R, limits.max()) tokens that each sequence begins with, −1 from where on the policy
            chooses; None: it chooses all. The log-probability of a given token is 0.
        score_greedy: Find the log-probabilities of greedy sequences: a softmax more.
        with_attention: Return the attention.
    """

    uniforms: Tensor | None = None
    greedy: bool = True
    distribution: SamplingDistribution = POLICY
    min_length: int = 1
    prefixes: Tensor | None = None
    score_greedy: bool = True
    with_attention: bool = False

    @property
    def samples(self) -> int:
        """K."""
        return 0 if self.uniforms is None else self.uniforms.shape[1]


GREEDY = Drawing()


@torch.no_grad()
def decode(
    policy: SequencePolicy, memory: Memory, limits: Tensor, drawing: Drawing = GREEDY, linear: Linear | None = None
) -> Decoded:
    """Decode samples and greedy sequences in one batch.

    No graph is built. No randomness is drawn here: a token is the inverse CDF of its distribution at a given uniform.

    Args:
        policy: In evaluation mode; dropout must be off while decoding.
        memory: The encoded sources, batch_size of them.
        limits: (batch_size,) most tokens of each instance.
        drawing: What to decode.
        linear: Does the policy's linear maps, over several calls under the same weights; default: one for this call.
    """
    batch, samples = len(limits), drawing.samples
    instance = torch.arange(batch, device=limits.device)
    instances = torch.cat([instance.repeat_interleave(samples), *([instance] if drawing.greedy else [])])
    draws = None if drawing.uniforms is None else drawing.uniforms.reshape(batch * samples, -1)
    loop = _Loop(policy, memory, limits, instances, drawing)
    # Of the samples, and of the greedy ones behind them.
    parts = () if drawing.prefixes is None else drawing.prefixes.tensor_split([samples], 1)
    given = torch.cat([part.flatten(0, 1) for part in parts]) if parts else None
    loop.run(draws, linear or PackedLinear(len(instances)), given)
    return _by_instance(loop, batch, samples, drawing.greedy)


class _Loop:
    """The state of one decoding loop over sequences: samples first, greedy ones behind them.

    Sequences of an instance share a row of the network while they agree, so every distinct prefix is computed once.
    Once all differ, each has the row of its own place. On a GPU they have that from the start: finding out which agree
    would wait for the device.
    """

    def __init__(
        self, policy: SequencePolicy, memory: Memory, limits: Tensor, instances: Tensor, drawing: Drawing
    ) -> None:
        device, count, longest = limits.device, len(instances), int(limits.max()) if len(limits) else 0
        self.policy, self.drawing = policy, drawing
        self.check_every = CHECK_EVERY[device.type]
        self.memory, self.state = memory, policy.initial_state(memory)
        self.inputs = torch.zeros(len(limits), dtype=torch.int64, device=device)  # of each row
        self.row: Tensor | None = instances  # of each live sequence; None: they have parted
        if self.check_every > 1:
            self.row = None
            self._move(instances, torch.zeros_like(instances))
        # Of each live sequence: its place in the output, its limit, whether it still runs.
        self.live = torch.arange(count, device=device)
        self.limits = limits[instances]
        self.running = torch.ones(count, dtype=torch.bool, device=device)
        self.samples = drawing.samples * len(limits)  # how many of the live sequences, the first ones, are samples
        self.sequences = torch.zeros(count, longest, dtype=torch.int64, device=device)
        self.log_probs = torch.zeros(count, longest, device=device)
        self.lengths = self.limits.clone()
        shape = (count, longest, policy.attention_mask(memory).shape[1])
        self.attention = torch.zeros(shape, device=device) if drawing.with_attention else None

    def run(self, draws: Tensor | None, linear: Linear, prefixes: Tensor | None = None) -> None:
        for time in range(self.sequences.shape[1]):
            logits, self.state, attention = self.policy.step(self.inputs, time, self.state, self.memory, linear)
            draw = None if draws is None else draws[self.live[: self.samples], time]
            tokens, log_probs = self._choose(time, logits, draw)
            if prefixes is not None:
                given = prefixes[self.live, time]
                tokens, log_probs = torch.where(given < 0, tokens, given), torch.where(given < 0, log_probs, 0.0)
            self._record(time, tokens, log_probs, attention)
            if (time + 1) % self.check_every:
                self.inputs = tokens
            elif not self._regroup(tokens, logits.shape[1]):
                break

    def _choose(self, time: int, logits: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
        """Token of each live sequence, and its log-probability."""
        forbids_end = time + 1 < self.drawing.min_length
        tokens, log_probs = [], []
        if draws is not None:
            own, row = self._rows(logits, slice(self.samples))
            distribution = self.drawing.distribution.logits(without_end(own) if forbids_end else own).softmax(-1)
            tokens.append(inverse_cdf(distribution, draws, row))
            log_probs.append(distribution[row, tokens[0]].log())
        if len(self.live) > self.samples:
            own, row = self._rows(logits, slice(self.samples, None))
            best = argmax(without_end(own) if forbids_end else own)
            tokens.append(best[row])
            scored = (
                own.log_softmax(-1).gather(1, best[:, None])[:, 0]
                if self.drawing.score_greedy
                else own.new_zeros(len(own))
            )
            log_probs.append(scored[row])
        return torch.cat(tokens), torch.cat(log_probs)

    def _rows(self, logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Logits that hold those of a part of the live sequences, and which of their rows is whose."""
        if self.row is not None:
            return logits, self.row[part]
        return logits[part], torch.arange(len(self.live[part]), device=logits.device)

    def _record(self, time: int, tokens: Tensor, log_probs: Tensor, attention: Tensor) -> None:
        """Note what running sequences emit, and which of them end here."""
        live, running = self.live, self.running
        self.sequences[live, time] = tokens * running
        self.log_probs[live, time] = torch.where(running, log_probs, 0.0)
        if self.attention is not None:
            attention = attention if self.row is None else attention[self.row]
            self.attention[live, time] = attention * running[:, None]
        ended = running & (tokens == 0)
        self.lengths[live] = torch.where(ended, time + 1, self.lengths[live])
        self.running = running & ~ended & (self.limits > time + 1)

    def _regroup(self, tokens: Tensor, choices: int) -> bool:
        """Leave finished sequences; give those that part rows of their own; False when no sequence is left."""
        keep = self.running.nonzero()[:, 0]
        if not len(keep):
            return False
        if self.row is None and len(keep) >= COMPACT_BELOW * len(self.live):
            self.inputs = tokens
            return True
        self.samples = int(self.running[: self.samples].sum())
        self.live, self.limits, self.running, tokens = (
            part[keep] for part in (self.live, self.limits, self.running, tokens)
        )
        if self.row is None:
            self._move(keep, tokens)
            return True
        self._part(self.row[keep], tokens, choices)
        return True

    def _part(self, row: Tensor, tokens: Tensor, choices: int) -> None:
        """Put sequences on rows: those of one row that emit the same token share the next row, too.

        Args:
            row: (sequences,) the row that each is on.
            tokens: (sequences,) what each emits.
            choices: How many tokens there are.
        """
        prefixes, members = (row * choices + tokens).unique(return_inverse=True)
        if len(prefixes) == len(row):
            self.row = None
            self._move(row, tokens)
        elif len(prefixes) == len(row.unique()) >= COMPACT_BELOW * len(self.inputs):
            self.row = row
            self.inputs[row] = tokens
        else:
            self.row = members
            self._move(prefixes // choices, prefixes % choices)

    def _move(self, parents: Tensor, inputs: Tensor) -> None:
        """Make new rows.

        Args:
            parents: (new rows,) the row before, whose state and source each goes on with.
            inputs: (new rows,) the token that each reads.
        """
        before = self.memory.sharing
        source = parents if before is None else before.source[parents]
        self.memory = self.memory.shared_by(Sharing.of(source))
        self.state = select_rows(self.state, parents)
        self.inputs = inputs


def argmax(scores: Tensor) -> Tensor:
    """The first index of each row's maximum (rows,); numpy's is vectorised on CPUs, torch's is not."""
    if scores.is_cuda:
        return scores.argmax(-1)
    return torch.from_numpy(scores.numpy().argmax(-1))


def inverse_cdf(probabilities: Tensor, uniforms: Tensor, rows: Tensor) -> Tensor:
    """The first index whose cumulative probability exceeds the uniform.

    In two levels, blocks and the choices of a block, so that few numbers are accumulated, and these in double
    precision. A choice of probability 0 is never drawn: thresholds stay below the totals.

    Args:
        probabilities: (distributions, choices).
        uniforms: (draws,) in [0, 1).
        rows: (draws,) the distribution of each.

    Returns:
        (draws,).
    """
    choices = probabilities.shape[1]
    size = math.isqrt(choices - 1) + 1
    whole = choices // size * size
    parts = [probabilities[:, :whole].unflatten(1, (-1, size)).sum(2), probabilities[:, whole:].sum(1, keepdim=True)]
    blocks = torch.cat(parts, 1).double().index_select(0, rows)
    block, left = _first_above(blocks, uniforms[:, None] * blocks.sum(1, keepdim=True))
    index = block * size + torch.arange(size, device=block.device)
    inside = probabilities[rows[:, None], index.clamp(max=choices - 1)] * (index < choices)
    chosen = (block * size + _first_above(inside.double(), left)[0])[:, 0]
    return chosen.clamp(max=choices - 1)  # beyond the last one is only what probabilities of NaN lead to


def _first_above(masses: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """The first index whose cumulative mass exceeds the threshold, and what the threshold exceeds those before it by.

    ``masses``: (rows, choices); all else is (rows, 1).
    """
    cumulative = masses.cumsum(1)
    threshold = torch.minimum(threshold, torch.nextafter(cumulative[:, -1:], torch.zeros_like(threshold)))
    index = torch.searchsorted(cumulative, threshold, right=True)
    return index, threshold - F.pad(cumulative, (1, 0)).gather(1, index)


def _by_instance(loop: _Loop, batch: int, samples: int, greedy: bool) -> Decoded:
    def arrange(rows: Tensor) -> Tensor:
        drawn = (
            rows[: batch * samples].unflatten(0, (batch, samples))
            if samples
            else rows.new_zeros(batch, 0, *rows.shape[1:])
        )
        return torch.cat([drawn, rows[batch * samples :][:, None]], 1) if greedy else drawn

    longest = int(loop.lengths.max()) if len(loop.lengths) else 0
    return Decoded(
        arrange(loop.sequences[:, :longest]),
        arrange(loop.lengths),
        arrange(loop.log_probs[:, :longest]),
        None if loop.attention is None else arrange(loop.attention[:, :longest]),
    )
