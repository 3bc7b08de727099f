"""Exhaustive search: every sequence there is, for tasks that are small enough."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rlseq.decoding.beam import mark_missing
from rlseq.decoding.ending import without_end
from rlseq.decoding.sampling import Decoded
from rlseq.decoding.search import Search
from rlseq.models.layers.linear import Linear, PackedLinear
from rlseq.models.memory import Memory, Sharing
from rlseq.models.policy import SequencePolicy
from rlseq.models.state import State, join_rows, select_rows
from rlseq.objectives.logits import is_possible

MOST = 100_000  # sequences of a source
ROWS = 1000  # prefixes that are extended together


class SearchTooLarge(ValueError):
    """A source has more sequences than are listed; the message says what would help."""


@torch.no_grad()
def exhaustive_search(
    policy: SequencePolicy, memory: Memory, limits: Tensor, search: Search, linear: Linear | None = None
) -> Decoded:
    """The best ``n_best`` of all sequences of each source that end by END or by the limit, one source after the other.

    Args:
        policy: In evaluation mode.
        memory: The encoded sources, batch_size of them.
        limits: (batch_size,) most tokens of each.
        search: What for.
        linear: As of ``decode``.

    Raises:
        SearchTooLarge: A source has more than ``MOST`` sequences of possible choices.
    """
    linear, n_best = linear or PackedLinear(ROWS), search.n_best
    longest = int(limits.max()) if len(limits) else 0
    sequences = limits.new_zeros(len(limits), n_best, longest)
    lengths, log_probs = limits.new_zeros(len(limits), n_best), memory.summary.new_zeros(sequences.shape)
    for place, limit in enumerate(limits.tolist()):
        alone = memory.select(limits.new_tensor([place]))
        found = _every_sequence(policy, alone, limit, search.min_length, linear)
        scores = search.ranking.score(
            found.log_probs.sum(1), found.lengths, found.attended, policy.attention_mask(alone)
        )
        best = scores.argsort(descending=True, stable=True)[:n_best]
        sequences[place, : len(best), :limit] = found.tokens[best]
        log_probs[place, : len(best), :limit] = found.log_probs[best]
        lengths[place, : len(best)] = found.lengths[best]
    longest = int(lengths.max()) if len(limits) else 0
    return mark_missing(Decoded(sequences[:, :, :longest], lengths, log_probs[:, :, :longest]))


@dataclass(frozen=True)
class _Prefixes:
    """Sequences of one source, (rows, time) tokens and log-probabilities, (rows,) lengths, (rows, source) attention."""

    tokens: Tensor
    log_probs: Tensor
    lengths: Tensor
    attended: Tensor

    def select(self, rows: Tensor) -> _Prefixes:
        return _Prefixes(self.tokens[rows], self.log_probs[rows], self.lengths[rows], self.attended[rows])

    @staticmethod
    def join(parts: list[_Prefixes], time: int) -> _Prefixes:
        """All of them, padded to a time."""
        tokens = torch.cat([F.pad(part.tokens, (0, time - part.tokens.shape[1])) for part in parts])
        log_probs = torch.cat([F.pad(part.log_probs, (0, time - part.log_probs.shape[1])) for part in parts])
        lengths = torch.cat([part.lengths for part in parts])
        return _Prefixes(tokens, log_probs, lengths, torch.cat([part.attended for part in parts]))


def _every_sequence(policy: SequencePolicy, alone: Memory, limit: int, min_length: int, linear: Linear) -> _Prefixes:
    """All sequences of the one source in ``alone``, level by level of a tree."""
    state, empty = policy.initial_state(alone), alone.summary.new_zeros(1, 0)
    attended = torch.zeros_like(policy.attention_mask(alone), dtype=empty.dtype)
    going = _Prefixes(empty.long(), empty, empty.new_zeros(1).long(), attended)
    finished: list[_Prefixes] = []
    for time in range(limit):
        if not len(going.lengths):
            break
        parts, states, count = [], [], sum(len(part.lengths) for part in finished)
        for rows in torch.arange(len(going.lengths), device=empty.device).split(ROWS):
            of_rows = select_rows(state, rows)
            extended, parents, after = _extend(
                policy, alone, going.select(rows), of_rows, time + 1 < min_length, linear
            )
            count += len(parents)
            if count > MOST:
                raise SearchTooLarge(
                    f"exhaustive search: a source has more than {MOST:,} sequences of up to {time + 1} tokens, and may "
                    f"have {limit}: give a smaller max_length, or search with a beam"
                )
            parts.append(extended)
            states.append(select_rows(after, parents))
        reached = _Prefixes.join(parts, time + 1)
        ends = (reached.tokens[:, -1] == 0) | (reached.lengths == limit)
        finished.append(reached.select(ends))
        going = reached.select(~ends)
        state = select_rows(join_rows(states), (~ends).nonzero()[:, 0])
    return _Prefixes.join(finished, limit)


def _extend(
    policy: SequencePolicy, alone: Memory, prefixes: _Prefixes, state: State, goes_on: bool, linear: Linear
) -> tuple[_Prefixes, Tensor, State]:
    """Every possible continuation by one token, the row of the prefix of each, and the state after each prefix."""
    rows = torch.zeros(len(prefixes.lengths), dtype=torch.int64, device=prefixes.tokens.device)
    time = prefixes.tokens.shape[1]
    last = prefixes.tokens[:, -1] if time else rows
    logits, state, attention = policy.step(last, time, state, alone.shared_by(Sharing.of(rows)), linear)
    log_probs = logits.log_softmax(-1)
    parents, tokens = is_possible(without_end(log_probs) if goes_on else log_probs).nonzero(as_tuple=True)
    extended = _Prefixes(
        torch.cat([prefixes.tokens[parents], tokens[:, None]], 1),
        torch.cat([prefixes.log_probs[parents], log_probs[parents, tokens][:, None]], 1),
        prefixes.lengths[parents] + 1,
        (prefixes.attended + attention)[parents],
    )
    return extended, parents, state
