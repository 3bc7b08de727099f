"""Beam search, batched over sources."""

from __future__ import annotations

import torch
from torch import Tensor

from rlseq.decoding.sampling import Decoded
from rlseq.models.linear import Linear, PackedLinear
from rlseq.models.policy import Memory, SequencePolicy, State

NEVER = -1e30  # the score of a hypothesis that does not exist


@torch.no_grad()
def beam_search(
    policy: SequencePolicy,
    memory: Memory,
    limits: Tensor,
    *,
    size: int,
    length_penalty: float = 1.0,
    n_best: int = 1,
    linear: Linear | None = None,
) -> Decoded:
    """The best ``n_best`` hypotheses of each source under a beam of ``size``.

    Each step keeps the ``size`` best continuations by log-probability; those that end leave the beam for the finished
    ones, which are ranked by log-probability / length ** ``length_penalty`` (Bahdanau et al. 2015 decode so, without
    the penalty). Size 1 is greedy decoding; a size no smaller than the number of sequences is exhaustive search. A
    source is done when nothing alive can pass its ``n_best``-th finished hypothesis any more, which loses nothing.

    Args:
        policy: In evaluation mode.
        memory: The encoded sources, batch_size of them.
        limits: (batch_size,) most tokens of each; a hypothesis that reaches its limit counts as finished.
        size: Hypotheses kept a source.
        length_penalty: 0 compares plain log-probabilities, 1 their mean a token; any number ≥ 0.
        n_best: Hypotheses returned a source, best first, at most ``size``; where there are fewer, the rest have
            length 0 and log-probability −1e30.
        linear: As of ``decode``.
    """
    linear = linear or PackedLinear(len(limits) * size)
    beam = _Beam(policy, memory, limits, size, length_penalty, n_best)
    for time in range(int(limits.max()) if len(limits) else 0):
        beam.advance(time, linear)
        if not beam.drop_done(time):
            break
    lengths = beam.lengths[:, :n_best]
    longest = int(lengths.max()) if len(limits) else 0
    missing = (lengths == 0)[:, :, None]
    log_probs = beam.finished_log_probs[:, :n_best, :longest].masked_fill(missing, 0.0)
    log_probs[:, :, :1] = log_probs[:, :, :1].masked_fill(missing, NEVER)
    return Decoded(beam.finished[:, :n_best, :longest].masked_fill(missing, 0), lengths, log_probs)


class _Beam:
    """Hypotheses alive, of sources that are not done, and the finished ones of all sources."""

    def __init__(
        self, policy: SequencePolicy, memory: Memory, limits: Tensor, size: int, penalty: float, n_best: int
    ) -> None:
        batch, longest, device = len(limits), int(limits.max()) if len(limits) else 0, limits.device
        self.policy, self.size, self.penalty, self.n_best = policy, size, penalty, n_best
        self.sources = torch.arange(batch, device=device)  # the sources still searched
        self.limits = limits
        self.memory = memory.select(self.sources.repeat_interleave(size))
        self.state: State = policy.initial_state(self.memory)
        self.tokens = torch.zeros(batch * size, dtype=torch.int64, device=device)
        self.scores = torch.full((batch, size), NEVER, device=device)
        self.scores[:, 0] = 0.0
        self.sequences = torch.zeros(batch, size, longest, dtype=torch.int64, device=device)
        self.log_probs = torch.zeros(batch, size, longest, device=device)
        self.finished = torch.zeros_like(self.sequences)
        self.finished_log_probs = torch.zeros_like(self.log_probs)
        self.finished_scores = torch.full((batch, size), NEVER, device=device)
        self.lengths = torch.zeros(batch, size, dtype=torch.int64, device=device)

    def advance(self, time: int, linear: Linear) -> None:
        """One token more: extend, move what ended to the finished, keep the rest."""
        logits, state, _ = self.policy.step(self.tokens, self.state, self.memory, linear)
        law = logits.log_softmax(-1).view(*self.scores.shape, -1)
        scores, parents, tokens = self._best(law)
        self._follow(parents, state)
        self.sequences[:, :, time] = tokens
        self.log_probs[:, :, time] = law.flatten(1).gather(1, parents * law.shape[-1] + tokens)
        ends = (tokens == 0) | (self.limits[:, None] == time + 1)
        self._finish(torch.where(ends, scores, NEVER), time)
        self.scores = scores.masked_fill(ends, NEVER)
        self.tokens = tokens.flatten()

    def _best(self, law: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, parents and tokens of the best ``size`` continuations, (sources, size) each."""
        total = (self.scores[:, :, None] + law).flatten(1)
        if total.shape[1] < self.size:
            total = torch.nn.functional.pad(total, (0, self.size - total.shape[1]), value=NEVER)
        scores, index = total.topk(self.size)
        index = index.clamp(max=law.shape[1] * law.shape[2] - 1)
        # Sums that involve a hypothesis that does not exist, or an impossible choice, stay impossible.
        return torch.where(scores < -1e8, NEVER, scores), index // law.shape[2], index % law.shape[2]

    def _follow(self, parents: Tensor, state: State) -> None:
        rows = (parents + torch.arange(len(parents), device=parents.device)[:, None] * self.size).flatten()
        self.state = tuple(part[rows] for part in state)
        index = parents[:, :, None].expand_as(self.sequences)
        self.sequences, self.log_probs = self.sequences.gather(1, index), self.log_probs.gather(1, index)

    def _finish(self, scores: Tensor, time: int) -> None:
        """Merge hypotheses that ended at ``time`` into the finished ones, best first."""
        normalized = torch.where(scores > NEVER, scores / (time + 1) ** self.penalty, NEVER)
        merged = torch.cat([self.finished_scores[self.sources], normalized], 1)
        self_scores, order = merged.topk(self.size)
        lengths = torch.where(scores > NEVER, time + 1, 0)

        def merge(old: Tensor, new: Tensor) -> Tensor:
            joined = torch.cat([old[self.sources], new], 1)
            index = order.view(*order.shape, *[1] * (joined.dim() - 2)).expand(-1, -1, *joined.shape[2:])
            return joined.gather(1, index)

        self.finished[self.sources] = merge(self.finished, self.sequences)
        self.finished_log_probs[self.sources] = merge(self.finished_log_probs, self.log_probs)
        self.lengths[self.sources] = merge(self.lengths, lengths)
        self.finished_scores[self.sources] = self_scores

    def drop_done(self, time: int) -> bool:
        """Leave out sources that are done; False when all are."""
        # A log-probability only falls, so alive / limit ** penalty bounds what a hypothesis can still reach.
        alive = self.scores.amax(1)
        bound = torch.where(alive > NEVER, alive / self.limits**self.penalty, NEVER)
        keep = ((alive > NEVER) & (bound > self.finished_scores[self.sources, self.n_best - 1])).nonzero()[:, 0]
        if 0 < len(keep) < len(self.sources):
            rows = (keep[:, None] * self.size + torch.arange(self.size, device=keep.device)).flatten()
            self.memory, self.state = self.memory.select(rows), tuple(part[rows] for part in self.state)
            self.tokens, self.scores = self.tokens[rows], self.scores[keep]
            self.sequences, self.log_probs = self.sequences[keep], self.log_probs[keep]
            self.sources, self.limits = self.sources[keep], self.limits[keep]
        return len(keep) > 0
