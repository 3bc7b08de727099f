"""Greedy and sampled decoding, in one batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlseq.models.policy import Memory, SequencePolicy, State

COMPACT_BELOW = 0.8  # finished rows are dropped when fewer than this share of the rows still run


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
    """
    batch, device = len(limits), limits.device
    samples = 0 if uniforms is None else uniforms.shape[1]
    instance = torch.arange(batch, device=device)
    rows = torch.cat(
        [instance.repeat_interleave(samples), instance] if greedy else [instance.repeat_interleave(samples)]
    )
    draws = None if uniforms is None else uniforms.reshape(batch * samples, -1)
    loop = _Loop(policy, memory.select(rows), limits[rows], batch * samples, temperature, with_attention)
    loop.run(draws)
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

    def run(self, draws: Tensor | None) -> None:
        for time in range(self.sequences.shape[1]):
            logits, self.state, attention = self.policy.step(self.tokens, self.state, self.memory)
            self.tokens, log_probs = self._choose(
                logits, None if draws is None else draws[self.live[: self.sampled], time]
            )
            self._record(time, log_probs, attention)
            if not self._drop_finished(time):
                break

    def _choose(self, logits: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
        law = logits
        if self.temperature != 1.0 and self.sampled:
            law = torch.cat([logits[: self.sampled] / self.temperature, logits[self.sampled :]])
        law = law.log_softmax(-1)
        parts = [inverse_cdf(law[: self.sampled].exp(), draws)] if draws is not None else []
        tokens = torch.cat([*parts, law[self.sampled :].argmax(-1)])
        return tokens, law.gather(1, tokens[:, None])[:, 0]

    def _record(self, time: int, log_probs: Tensor, attention: Tensor) -> None:
        rows = self.live[self.running]
        self.sequences[rows, time] = self.tokens[self.running]
        self.log_probs[rows, time] = log_probs[self.running]
        if self.attention is not None:
            self.attention[rows, time] = attention[self.running]

    def _drop_finished(self, time: int) -> bool:
        """Note which rows end at ``time``; shrink the batch where it pays; False when none is left."""
        ended = self.running & (self.tokens == 0)
        self.lengths[self.live[ended]] = time + 1
        self.running = self.running & (self.tokens != 0) & (self.limits > time + 1)
        left = int(self.running.sum())
        if left < COMPACT_BELOW * len(self.running) and left:
            keep = self.running.nonzero()[:, 0]
            self.sampled = int(self.running[: self.sampled].sum())
            self.memory, self.state = self.memory.select(keep), tuple(part[keep] for part in self.state)
            self.live, self.tokens = self.live[keep], self.tokens[keep]
            self.limits, self.running = self.limits[keep], self.running[keep]
        return left > 0


def inverse_cdf(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """The first index whose cumulative probability exceeds the uniform: (rows,) from (rows, choices) and (rows,).

    A choice of probability 0 is never drawn: the threshold stays below the total as rounded.
    """
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:]
    threshold = torch.minimum(
        uniforms[:, None].to(total.dtype) * total, torch.nextafter(total, torch.zeros_like(total))
    )
    return torch.searchsorted(cumulative, threshold, right=True)[:, 0]


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
