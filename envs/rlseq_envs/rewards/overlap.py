"""Rewards that count n-grams: chrF, GLEU and repetition. Of several references the best one counts."""

from __future__ import annotations

import numpy as np
from sacrebleu.metrics import CHRF

from rlseq_envs.rewards.encoding import EncodedPairs
from rlseq_envs.rewards.ngrams import count_matches, count_ngrams, count_repeats
from rlseq_envs.task import Floats, Ints

GLEU_ORDER = 4
_CHRF = CHRF()


def gleu(pairs: EncodedPairs) -> Floats:
    """Sentence GLEU, 0…1, (batch_size,): the smaller of precision and recall over all n-grams up to order 4.

    Wu et al. 2016, section 5.2; equal to ``nltk.translate.gleu_score.sentence_gleu``.
    """
    matches = count_matches(pairs, GLEU_ORDER).sum(axis=-1)
    emitted = count_ngrams(pairs.lengths, GLEU_ORDER).sum(axis=-1)
    expected = count_ngrams(pairs.reference_lengths, GLEU_ORDER).sum(axis=-1)
    most = np.maximum(emitted[:, None], expected)
    return (matches / np.maximum(most, 1)).max(axis=1)


def repetition(pairs: EncodedPairs, order: int) -> Floats:
    """Share of a hypothesis' n-grams of this order that it had before, 0…1, (batch_size,).

    seq-rep-n of Welleck et al. 2020: 1 − distinct n-grams / n-grams; 0 if there is none.
    """
    return count_repeats(pairs, order) / np.maximum(count_ngrams(pairs.lengths, order)[:, -1], 1)


def chrf(characters: EncodedPairs, words: EncodedPairs | None, char_order: int, word_order: int, beta: int) -> Floats:
    """Sentence chrF, 0…1, (batch_size,), equal to sacrebleu's ``CHRF``; chrF++ with words up to order 2.

    Popović 2015 and 2017: F of the mean precision and the mean recall over those orders that both sides have.

    Args:
        characters: Code points without white space.
        words: Tokens of ``split_punctuation``; None if ``word_order`` is 0.
        char_order: Longest n-grams of characters.
        word_order: Longest n-grams of words.
        beta: Weight of recall.
    """
    parts = [_statistics(characters, char_order)] + ([_statistics(words, word_order)] if words and word_order else [])
    matches, emitted, expected = (np.concatenate(columns, axis=-1) for columns in zip(*parts, strict=True))
    counts = (emitted > 0) & (expected > 0)
    orders = np.maximum(counts.sum(axis=-1), 1)
    precision = (matches / np.maximum(emitted, 1)).sum(axis=-1, where=counts) / orders
    recall = (matches / np.maximum(expected, 1)).sum(axis=-1, where=counts) / orders
    weighted = beta**2 * precision + recall
    score = (1 + beta**2) * precision * recall / np.where(weighted > 0, weighted, 1)
    return score.max(axis=1)


def _statistics(pairs: EncodedPairs, order: int) -> tuple[Ints, Ints, Ints]:
    """Matches, n-grams of hypothesis and n-grams of reference, (batch_size, references, order) each."""
    expected = count_ngrams(pairs.reference_lengths, order)
    emitted = np.broadcast_to(count_ngrams(pairs.lengths, order)[:, None], expected.shape)
    return count_matches(pairs, order), emitted, expected


def split_punctuation(text: str) -> str:
    """The words that chrF++ counts: punctuation is split off one end of a word."""
    return " ".join(_CHRF._remove_punctuation(text))
