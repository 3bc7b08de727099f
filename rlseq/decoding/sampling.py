"""Greedy and sampled decoding, in one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rlseq.models.linear import Linear, PackedLinear
from rlseq.models.policy import Memory, SequencePolicy, State

COMPACT_BELOW = 0.8  # finished rows are dropped when fewer than this share of the rows still run
CUDA_CHECK_EVERY = 8  # steps between looks at which rows have finished, on a GPU


@dataclass(frozen=True)
class Decoded:
    """Decoded sequences, R of them an instance: the samples in order, then the greedy one where asked for.

    Attributes:
        sequences: (batch_size, R, time) token ids, END beyond a length.
        lengths: (batch_size, R) tokens up to and including END, or the limit.
        log_probs: (batch_size, R, time) of each token, under the law it was drawn from; 0 beyond a length.
        attention: (batch_size, R, time, source_length), or None.
    """

    sequences: Tensor
    lengths: Tensor
    log_probs: Tensor
    attention: Tensor | None = None


@torch.no_grad()
def decode(
    policy: SequencePolicy,
    memory: Memory,
    limits: Tensor,
    *,
    uniforms: Tensor | None = None,
    greedy: bool = True,
    temperature: float = 1.0,
    with_attention: bool = False,
    linear: Linear | None = None,
) -> Decoded:
    """Decode ``K`` samples (one a column of ``uniforms``) and the greedy sequence of each instance, all in one batch.

    Build no graph, draw no randomness of its own: a token is the inverse of its law's CDF at the given uniform.

    Args:
        policy: In evaluation mode; dropout must be off while decoding.
        memory: The encoded sources, batch_size of them.
        limits: (batch_size,) most tokens of each instance.
        uniforms: (batch_size, K, ≥ limits.max()) in [0, 1), or None for no samples.
        greedy: Decode the greedy sequence, too; it is the last of the R.
        temperature: Of the samples. Their log-probabilities are those of the tempered law.
        with_attention: Return the attention.
        linear: Does the policy's linear maps, over several calls under the same weights; default: one for this call.
    """
    batch, device = len(limits), limits.device
    samples = 0 if uniforms is None else uniforms.shape[1]
    instance = torch.arange(batch, device=device)
    rows = torch.cat(
        [instance.repeat_interleave(samples), instance] if greedy else [instance.repeat_interleave(samples)]
    )
    draws = None if uniforms is None else uniforms.reshape(batch * samples, -1)
    loop = _Loop(policy, memory.select(rows), limits[rows], batch * samples, temperature, with_attention)
    loop.run(draws, linear or PackedLinear(len(rows)))
    return _by_instance(loop, batch, samples, greedy)


class _Loop:
    """The state of one decoding loop over rows: sampled rows first, greedy rows behind them."""

    def __init__(
        self, policy: SequencePolicy, memory: Memory, limits: Tensor, sampled: int, temperature: float, attention: bool
    ) -> None:
        rows, longest = len(limits), int(limits.max()) if len(limits) else 0
        self.policy, self.memory, self.limits, self.temperature = policy, memory, limits, temperature
        self.state: State = policy.initial_state(memory)
        self.sampled = sampled  # how many of the live rows, the first ones, are samples
        self.live = torch.arange(rows, device=limits.device)  # their places in the output
        self.tokens = torch.zeros_like(self.live)
        self.sequences = torch.zeros(rows, longest, dtype=torch.int64, device=limits.device)
        self.log_probs = torch.zeros(rows, longest, device=limits.device)
        self.lengths = limits.clone()
        self.running = torch.ones(rows, dtype=torch.bool, device=limits.device)
        shape = (rows, longest, memory.mask.shape[1])
        self.attention = torch.zeros(shape, device=limits.device) if attention else None
        # Asking a GPU how many rows still run waits for it: seldom, then.
        self.check_every = CUDA_CHECK_EVERY if limits.is_cuda else 1

    def run(self, draws: Tensor | None, linear: Linear) -> None:
        for time in range(self.sequences.shape[1]):
            logits, self.state, attention = self.policy.step(self.tokens, self.state, self.memory, linear)
            self.tokens, log_probs = self._choose(
                logits, None if draws is None else draws[self.live[: self.sampled], time]
            )
            self._record(time, log_probs, attention)
            if (time + 1) % self.check_every == 0 and not self._drop_finished():
                break

    def _choose(self, logits: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
        best = argmax(logits[self.sampled :])
        if self.temperature != 1.0:
            logits[: self.sampled] /= self.temperature
        law = logits.softmax(-1)
        tokens = best if draws is None else torch.cat([inverse_cdf(law[: self.sampled], draws), best])
        return tokens, law.gather(1, tokens[:, None])[:, 0].log()

    def _record(self, time: int, log_probs: Tensor, attention: Tensor) -> None:
        """Note what running rows emit, and which of them end here."""
        live, running = self.live, self.running
        self.sequences[live, time] = self.tokens * running
        self.log_probs[live, time] = torch.where(running, log_probs, 0.0)
        if self.attention is not None:
            self.attention[live, time] = attention * running[:, None]
        ended = running & (self.tokens == 0)
        self.lengths[live] = torch.where(ended, time + 1, self.lengths[live])
        self.running = running & ~ended & (self.limits > time + 1)

    def _drop_finished(self) -> bool:
        """Shrink the batch where it pays; False when no row is left."""
        left = int(self.running.sum())
        if left < COMPACT_BELOW * len(self.running) and left:
            keep = self.running.nonzero()[:, 0]
            self.sampled = int(self.running[: self.sampled].sum())
            self.memory, self.state = self.memory.select(keep), tuple(part[keep] for part in self.state)
            self.live, self.tokens = self.live[keep], self.tokens[keep]
            self.limits, self.running = self.limits[keep], self.running[keep]
        return left > 0


def argmax(scores: Tensor) -> Tensor:
    """The first index of each row's maximum (rows,); numpy's is vectorised on CPUs, torch's is not."""
    if scores.is_cuda:
        return scores.argmax(-1)
    return torch.from_numpy(scores.numpy().argmax(-1))


def inverse_cdf(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """The first index whose cumulative probability exceeds the uniform: (rows,) from (rows, choices) and (rows,).

    In two levels, blocks and the choices of a block, so that few numbers are accumulated, and these in double
    precision. A choice of probability 0 is never drawn: thresholds stay below the totals.
    """
    choices = probabilities.shape[1]
    size = math.isqrt(choices - 1) + 1
    whole = choices // size * size
    parts = [probabilities[:, :whole].unflatten(1, (-1, size)).sum(2), probabilities[:, whole:].sum(1, keepdim=True)]
    blocks = torch.cat(parts, 1).double()
    block, left = _first_above(blocks, uniforms[:, None] * blocks.sum(1, keepdim=True))
    index = block * size + torch.arange(size, device=block.device)
    inside = probabilities.gather(1, index.clamp(max=choices - 1)) * (index < choices)
    return (block * size + _first_above(inside.double(), left)[0])[:, 0]


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
