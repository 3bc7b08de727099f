"""Rewards that align two sequences: ROUGE-L, word error rate and character error rate, by rapidfuzz."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein
from rapidfuzz.process import cpdist

from rlseq_envs.rewards.encoding import EncodedPairs, as_strings
from rlseq_envs.task import Floats, Ints


def rouge_l(pairs: EncodedPairs) -> Floats:
    """ROUGE-L as F1 of the longest common subsequence, 0…1, (batch_size,); of several references the best one counts.

    Lin 2004, section 3.1; equal to Google's ``rouge_score`` on the same tokens.
    """
    common = _compare(LCSseq.similarity, *_rows(pairs))
    together = pairs.lengths[:, None] + pairs.reference_lengths
    return (2 * common / np.maximum(together, 1)).max(axis=1)


def error_rate(pairs: EncodedPairs) -> Floats:
    """Edits (substitutions, insertions, deletions) a reference token, at least 0, (batch_size,).

    Equal to jiwer's ``wer``, an empty reference counting as long as 1; of several references the best one counts.
    """
    edits = _compare(Levenshtein.distance, *_rows(pairs))
    return (edits / np.maximum(pairs.reference_lengths, 1)).min(axis=1)


def _rows(pairs: EncodedPairs) -> tuple[list[str], list[list[str]]]:
    """Hypotheses, and references by stream, a token being a character."""
    streams = zip(pairs.reference_starts.T, pairs.reference_ends.T, strict=True)
    references = [as_strings(pairs.reference_tokens, starts, ends) for starts, ends in streams]
    return as_strings(pairs.tokens, pairs.starts, pairs.ends), references


def _compare(scorer: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Ints:
    """The scorer's value for each hypothesis and reference, (batch_size, references)."""
    return np.stack([cpdist(hypotheses, stream, scorer=scorer, dtype=np.int64) for stream in references], axis=1)
