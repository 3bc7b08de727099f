"""The rewards on text by name, each larger where the text is better; docs/rewards.md has their table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np

from rlseq_envs.rewards import edits, overlap
from rlseq_envs.rewards.bleu import SentenceBleu
from rlseq_envs.rewards.cider import CiderD, DocumentFrequencies
from rlseq_envs.rewards.encoding import EncodedPairs, TextEncoder, encode_characters, encode_pairs
from rlseq_envs.rewards.ter import ter
from rlseq_envs.settings.text import TextOptions
from rlseq_envs.task import Floats


class TextRewards:
    """Computes rewards of batches of texts; what several of them read is tokenised once."""

    def __init__(
        self, options: TextOptions, documents: Callable[[TextEncoder], DocumentFrequencies] | None = None
    ) -> None:
        """Nothing is counted yet.

        Args:
            options: How they are computed.
            documents: Gives what ``cider`` takes for rare, at its first use; None: every n-gram weighs 1.

        Raises:
            ValueError: sacrebleu does not know the tokenizer or the smoothing, or lacks what they need.
        """
        self.options, self._documents = options, documents
        self.bleu = SentenceBleu(
            options.reward_tokenizer, options.smoothing, options.smoothing_value, lowercase=options.lowercase
        )
        lowercase = options.lowercase
        self.words = TextEncoder(_unchanged, wordwise=True, lowercase=lowercase)
        self.folded_words = self.words if lowercase else TextEncoder(_unchanged, wordwise=True, lowercase=True)
        self.chrf_words = TextEncoder(overlap.split_punctuation, wordwise=True, lowercase=lowercase)

    @cached_property
    def cider(self) -> CiderD:
        """CIDEr-D under the document frequencies."""
        encoder = self.bleu.encoder
        return CiderD(encoder, self._documents(encoder) if self._documents else DocumentFrequencies())

    def __call__(
        self, names: Iterable[str], hypotheses: Sequence[str], references: Sequence[Sequence[str]]
    ) -> dict[str, Floats]:
        """The rewards of these names, (batch_size,) each.

        Args:
            names: Of ``TEXT_REWARDS``.
            hypotheses: One text per row.
            references: One list per reference stream, each with one text per row (sacrebleu's layout).

        Raises:
            ValueError: There is no reference stream, or one of another length.
        """
        batch = _Batch(self, hypotheses, references)
        return {name: _REWARDS[name](batch) for name in names}

    def characters(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> EncodedPairs:
        """Characters without the white space at both ends."""
        return _Batch(self, hypotheses, references).stripped

    def signature(self, name: str) -> str:
        """A reward's formula with everything that changes its value."""
        options, case = self.options, "lc" if self.options.lowercase else "mixed"
        if name == "bleu":
            return self.bleu.signature
        orders = f"nc:{options.chrf_char_order},nw:{options.chrf_word_order},beta:{options.chrf_beta}"
        tokens = f"tok:{options.reward_tokenizer},case:{case}"
        parts = {
            "chrf": f"{orders},case:{case}",
            "neg_repetition": f"order:{options.repetition_order},{tokens}",
            "neg_ter": "tok:tercom,case:lc",
        }
        if name == "cider":
            parts[name] = f"documents:{self.cider.frequencies.digest[:16]},{tokens}"
        spaced = f"case:{case}" if name in ("exact_match", "neg_wer", "neg_cer") else tokens
        return f"{name}({parts.get(name, spaced)},version:1)"


def _unchanged(text: str) -> str:
    return text


class _Batch:
    """A batch of texts in every form that a reward reads, made when it is asked for.

    Attributes:
        texts: Hypotheses and references as they came.
    """

    def __init__(self, rewards: TextRewards, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        self.rewards, self.options = rewards, rewards.options
        self.texts = hypotheses, references

    @cached_property
    def tokens(self) -> EncodedPairs:
        """Tokens of the tokenizer."""
        return self.rewards.bleu.encoder.pairs(*self.texts)

    @cached_property
    def words(self) -> EncodedPairs:
        """What stands between white space."""
        return self.rewards.words.pairs(*self.texts)

    @cached_property
    def folded_words(self) -> EncodedPairs:
        """The same without case."""
        encoder = self.rewards.folded_words
        return self.words if encoder is self.rewards.words else encoder.pairs(*self.texts)

    @cached_property
    def chrf_words(self) -> EncodedPairs | None:
        """What chrF++ takes for words."""
        return self.rewards.chrf_words.pairs(*self.texts) if self.options.chrf_word_order else None

    @cached_property
    def letters(self) -> EncodedPairs:
        """Characters without white space."""
        return self._characters(lambda text: "".join(text.split()))

    @cached_property
    def stripped(self) -> EncodedPairs:
        """Characters without the white space at both ends."""
        return self._characters(str.strip)

    def _characters(self, change: Callable[[str], str]) -> EncodedPairs:
        def changed(texts: Iterable[str]) -> Iterable[str]:
            return [change(text.lower() if self.options.lowercase else text) for text in texts]

        return encode_pairs(lambda texts: encode_characters(changed(texts)), *self.texts)


def _chrf(batch: _Batch) -> Floats:
    options = batch.options
    orders = (options.chrf_char_order, options.chrf_word_order)
    return overlap.chrf(batch.letters, batch.chrf_words, *orders, options.chrf_beta)


def exact_match(pairs: EncodedPairs) -> Floats:
    """1 where a hypothesis is one of its references, 0 elsewhere, (batch_size,)."""
    return (edits.error_rate(pairs) == 0).astype(np.float64)


def length_ratio(pairs: EncodedPairs) -> Floats:
    """The shorter length over the longer, 0…1, (batch_size,); 1 if both are 0; the best reference counts."""
    ours, theirs = pairs.lengths[:, None], pairs.reference_lengths
    longer = np.maximum(ours, theirs)
    return np.where(longer > 0, np.minimum(ours, theirs) / np.maximum(longer, 1), 1.0).max(axis=1)


_REWARDS: dict[str, Callable[[_Batch], Floats]] = {
    "bleu": lambda batch: batch.rewards.bleu.score(batch.tokens) / 100,
    "cider": lambda batch: batch.rewards.cider(*batch.texts),
    "chrf": _chrf,
    "gleu": lambda batch: overlap.gleu(batch.tokens),
    "rouge_l": lambda batch: edits.rouge_l(batch.tokens),
    "exact_match": lambda batch: exact_match(batch.words),
    "length_ratio": lambda batch: length_ratio(batch.tokens),
    "neg_ter": lambda batch: 0.0 - ter(batch.folded_words),
    "neg_wer": lambda batch: 0.0 - edits.error_rate(batch.words),
    "neg_cer": lambda batch: 0.0 - edits.error_rate(batch.stripped),
    "neg_repetition": lambda batch: 0.0 - overlap.repetition(batch.tokens, batch.options.repetition_order),
}
