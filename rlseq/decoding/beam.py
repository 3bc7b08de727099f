"""Beam search and diverse beam search, batched over sources."""

from __future__ import annotations

import torch
from torch import Tensor

from rlseq.decoding.ending import without_end
from rlseq.decoding.sampling import Decoded
from rlseq.decoding.search import Beam
from rlseq.models.layers.linear import Linear, PackedLinear
from rlseq.models.memory import Memory, Sharing
from rlseq.models.policy import SequencePolicy
from rlseq.models.state import State, select_rows
from rlseq.objectives.logits import is_possible

NEVER = -1e30  # the score of a hypothesis that does not exist


@torch.no_grad()
def beam_search(
    policy: SequencePolicy, memory: Memory, limits: Tensor, beam: Beam, linear: Linear | None = None
) -> Decoded:
    """The best ``n_best`` hypotheses of each source under a beam of ``size``.

    Each step keeps the ``size`` best continuations by log-probability; those that end leave the beam for the finished
    ones, which are ranked as ``Ranking`` says (Bahdanau et al. 2015 decode so, without penalties). Size 1 is greedy
    decoding; a size no smaller than the number of sequences is exhaustive search. A source is done when nothing
    alive can pass its ``n_best``-th finished hypothesis any more, which loses nothing: see ``Ranking.bound``.

    With ``groups``, the beam is cut into as many beams, which search one after the other at each step. To a group, a
    token costs ``diversity`` for each time that the groups before it chose it at this step (Vijayakumar et al. 2018,
    Hamming diversity). These costs add up along a hypothesis while it is searched for; what is finished is ranked
    without them. A sequence that several groups find counts once.

    Args:
        policy: In evaluation mode.
        memory: The encoded sources, batch_size of them.
        limits: (batch_size,) most tokens of each; a hypothesis that reaches its limit counts as finished.
        beam: How to search, and what for.
        linear: As of ``decode``.
    """
    if not len(limits):
        empty = limits.new_zeros(0, beam.n_best, 0)
        return Decoded(empty, limits.new_zeros(0, beam.n_best), memory.summary.new_zeros(empty.shape))
    linear = linear or PackedLinear(len(limits) * beam.size)
    alive = _Hypotheses(policy, memory, limits, beam)
    for time in range(int(limits.max())):
        alive.advance(time, linear)
        if not alive.drop_done():
            break
    sequences, lengths, log_probs = (part[:, : beam.n_best] for part in alive.ranked())
    longest = int(lengths.max())
    return mark_missing(Decoded(sequences[:, :, :longest], lengths, log_probs[:, :, :longest]))


def mark_missing(found: Decoded) -> Decoded:
    """Hypotheses of length 0 do not exist: no tokens, and a log-probability of −1e30 in all."""
    missing = (found.lengths == 0)[:, :, None]
    log_probs = found.log_probs.masked_fill(missing, 0.0)
    log_probs[:, :, :1] = log_probs[:, :, :1].masked_fill(missing, NEVER)
    return Decoded(found.sequences.masked_fill(missing, 0), found.lengths, log_probs)


class _Hypotheses:
    """Hypotheses alive, (sources, groups, width) of sources that are not done, and the finished ones of all sources."""

    def __init__(self, policy: SequencePolicy, memory: Memory, limits: Tensor, beam: Beam) -> None:
        longest, floats = int(limits.max()), memory.summary
        shape = (len(limits), beam.groups, beam.width)
        self.policy, self.beam = policy, beam
        self.sources = torch.arange(len(limits), device=limits.device)  # the sources still searched
        self.limits, self.real = limits, policy.attention_mask(memory)
        rows = self.sources.repeat_interleave(beam.groups * beam.width)
        self.memory = memory.shared_by(Sharing.of(rows))
        self.state: State = select_rows(policy.initial_state(memory), rows)
        self.tokens = torch.zeros_like(rows)
        self.totals = floats.new_full(shape, NEVER)  # log-probabilities
        self.totals[:, :, 0] = 0.0
        self.scores = self.totals  # what the search goes by: log-probabilities less the costs of diversity
        self.sequences = limits.new_zeros(*shape, longest)
        self.log_probs = floats.new_zeros(*shape, longest)
        covers = beam.ranking.coverage_penalty > 0
        self.attended = floats.new_zeros(*shape, self.real.shape[1]) if covers else None
        self.finished = torch.zeros_like(self.sequences)
        self.finished_log_probs = torch.zeros_like(self.log_probs)
        self.finished_scores = torch.full_like(self.totals, NEVER)
        self.lengths = limits.new_zeros(shape)

    def advance(self, time: int, linear: Linear) -> None:
        """One token more: extend, move what ended to the finished, keep the rest."""
        logits, state, attention = self.policy.step(self.tokens, time, self.state, self.memory, linear)
        log_probs = logits.log_softmax(-1).view(*self.scores.shape, -1)
        self.scores, parents, tokens = self._choose(
            without_end(log_probs) if time + 1 < self.beam.min_length else log_probs
        )
        self._follow(parents, state, attention)
        taken = log_probs.flatten(2).gather(2, parents * log_probs.shape[-1] + tokens)
        self.totals = torch.where(self.scores > NEVER, self.totals.gather(2, parents) + taken, NEVER)
        self.sequences[..., time], self.log_probs[..., time] = tokens, taken
        ends = (tokens == 0) | (self.limits[:, None, None] == time + 1)
        self._finish(ends & (self.scores > NEVER), time)
        self.scores, self.totals = self.scores.masked_fill(ends, NEVER), self.totals.masked_fill(ends, NEVER)
        self.tokens = tokens.flatten()

    def _choose(self, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, parents and tokens of the best continuations of each group, (sources, groups, width) each."""
        if not self.beam.diversity:
            return _best(self.scores, log_probs)
        costs, chosen = torch.zeros_like(log_probs[:, 0, 0]), []
        for scores, of_group in zip(self.scores.unbind(1), log_probs.unbind(1), strict=True):
            chosen.append(_best(scores, of_group - costs[:, None]))
            times = (chosen[-1][0] > NEVER).to(costs) * self.beam.diversity
            costs = costs.scatter_add(1, chosen[-1][2], times)
        scores, parents, tokens = (torch.stack(parts, 1) for parts in zip(*chosen, strict=True))
        return scores, parents, tokens

    def _follow(self, parents: Tensor, state: State, attention: Tensor) -> None:
        groups = parents.shape[0] * parents.shape[1]
        first = torch.arange(groups, device=parents.device).view(*parents.shape[:2], 1) * parents.shape[2]
        rows = (first + parents).flatten()
        self.state = select_rows(state, rows)
        self.sequences, self.log_probs = _take(self.sequences, parents), _take(self.log_probs, parents)
        if self.attended is not None:
            self.attended = _take(self.attended + attention.view_as(self.attended), parents)

    def _finish(self, ends: Tensor, time: int) -> None:
        """Merge hypotheses that end at ``time`` into the finished ones, best first and older ones before equals."""
        length = torch.full_like(self.limits, time + 1)[:, None, None]
        scores = self.beam.ranking.score(self.totals, length, self.attended, self.real[:, None, None])
        merged = torch.cat([self.finished_scores[self.sources], torch.where(ends, scores, NEVER)], 2)
        merged, order = merged.sort(dim=2, descending=True, stable=True)
        width = self.beam.width
        columns = (
            (self.finished, self.sequences),
            (self.finished_log_probs, self.log_probs),
            (self.lengths, length * ends),
        )
        for old, new in columns:
            old[self.sources] = _take(torch.cat([old[self.sources], new], 2), order[:, :, :width])
        self.finished_scores[self.sources] = merged[:, :, :width]

    def drop_done(self) -> bool:
        """Leave out sources that are done; False when all are.

        The groups of a source finish together, because earlier groups penalise what later ones choose. A group is done
        if none of its unfinished sequences can still be among its ``n_best`` best.
        """
        last = min(self.beam.n_best, self.beam.width) - 1
        bound = self.beam.ranking.bound(self.totals, self.limits[:, None, None])
        passes = (self.totals > NEVER) & (bound > self.finished_scores[self.sources][:, :, last, None])
        keep = passes.flatten(1).any(1).nonzero()[:, 0]
        if 0 < len(keep) < len(self.sources):
            rows = torch.arange(len(self.tokens), device=keep.device).view(len(self.sources), -1)[keep].flatten()
            assert self.memory.sharing is not None
            self.memory = self.memory.shared_by(self.memory.sharing.select(rows))
            self.state = select_rows(self.state, rows)
            self.tokens, self.scores, self.totals = self.tokens[rows], self.scores[keep], self.totals[keep]
            self.sequences, self.log_probs = self.sequences[keep], self.log_probs[keep]
            self.attended = None if self.attended is None else self.attended[keep]
            self.sources, self.limits, self.real = self.sources[keep], self.limits[keep], self.real[keep]
        return len(keep) > 0

    def ranked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sequences, lengths and log-probabilities of the finished, (batch_size, size, …), best first, each once."""
        columns = [part.flatten(1, 2) for part in (self.finished, self.lengths, self.finished_log_probs)]
        if self.beam.groups > 1:
            order = self.finished_scores.flatten(1).argsort(dim=1, descending=True, stable=True)
            columns = [_take(part[:, None], order[:, None])[:, 0] for part in columns]
            twice = _seen_before(columns[0], columns[1])
            columns[1] = columns[1].masked_fill(twice, 0)
            once = twice.long().argsort(dim=1, stable=True)
            columns = [_take(part[:, None], once[:, None])[:, 0] for part in columns]
        sequences, lengths, log_probs = columns
        return sequences, lengths, log_probs


def _best(scores: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, parents and tokens of the ``width`` best sums of (…, width) scores and (…, width, choices) log-probs."""
    width, choices = log_probs.shape[-2:]
    best, index = (scores[..., None] + log_probs).flatten(-2).topk(width)
    # Sums that involve a hypothesis that does not exist, or an impossible choice, stay impossible.
    return torch.where(is_possible(best), best, NEVER), index // choices, index % choices


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Values (sources, groups, any, …) at ``index`` (sources, groups, width) along their third dimension."""
    return values.gather(2, index.view(*index.shape, *[1] * (values.dim() - 3)).expand(-1, -1, -1, *values.shape[3:]))


def _seen_before(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Whether an earlier row of the source is the same sequence: (batch_size, rows)."""
    same = (sequences[:, :, None] == sequences[:, None]).all(-1) & (lengths[:, :, None] == lengths[:, None])
    return same.tril(-1).any(2)
