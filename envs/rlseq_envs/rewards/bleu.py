"""Sentence BLEU of whole batches, of token ids and of texts, equal to sacrebleu's ``sentence_bleu``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import BLEU

from rlseq_envs.rewards import bleu_compiled, bleu_numpy
from rlseq_envs.rewards.encoding import MAX_CACHED_UNITS, EncodedPairs, TextEncoder, check_references
from rlseq_envs.rewards.jit import COMPILES
from rlseq_envs.rewards.smoothing import resolve_smoothing
from rlseq_envs.settings.text import Smoothing
from rlseq_envs.task import Floats, Ints

_score_batch = bleu_compiled.score_batch if COMPILES else bleu_numpy.score_batch
_MAX_CACHED_UNITS = MAX_CACHED_UNITS
_WORDWISE_TOKENIZERS = ("13a", "none")


def sentence_bleu_ids(
    hypotheses: Ints,
    hypothesis_lengths: Ints,
    references: Ints,
    reference_lengths: Ints,
    smoothing: Smoothing = "exp",
    value: float | None = None,
    effective_order: bool = True,
) -> Floats:
    """Sentence BLEU of token ids, 0…100.

    Args:
        hypotheses: (batch_size, time), whatever stands beyond a row's length.
        hypothesis_lengths: (batch_size,).
        references: (batch_size, time), or (batch_size, references, time) if there are several. A row with fewer
            than the others may repeat one: that changes no score.
        reference_lengths: (batch_size,) or (batch_size, references).
        smoothing: sacrebleu's name of the smoothing method.
        value: For floor and add-k; None is sacrebleu's default.
        effective_order: Leave out the orders that are longer than the hypothesis.

    Returns:
        (batch_size,) scores.

    Raises:
        ValueError: The shapes do not fit, there is no reference, or the smoothing is unknown.
    """
    options = *resolve_smoothing(smoothing, value), effective_order
    if references.ndim == 2:
        references, reference_lengths = references[:, None], reference_lengths[:, None]
    check_references(len(hypotheses), *references.shape[:2])
    starts, ends = _bounds(hypotheses, hypothesis_lengths)
    reference_starts, reference_ends = _bounds(references, reference_lengths)
    tokens, reference_tokens = (np.ascontiguousarray(array).ravel() for array in (hypotheses, references))
    return _score_batch(tokens, starts, ends, reference_tokens, reference_starts, reference_ends, *options)


def _bounds(tokens: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Where each row of padded tokens, (…, time), begins and ends in memory, both (…)."""
    time = tokens.shape[-1]
    if lengths.shape != tokens.shape[:-1] or lengths.min(initial=0) < 0 or lengths.max(initial=0) > time:
        raise ValueError(f"the lengths, of shape {lengths.shape}, do not fit tokens of shape {tokens.shape}")
    starts = np.arange(lengths.size, dtype=np.int64).reshape(lengths.shape) * time
    return starts, starts + lengths


class SentenceBleu:
    """Sentence BLEU of texts, equal to ``sacrebleu.sentence_bleu``.

    The tokenizer 13a looks at nothing beyond white space, line feeds aside, so each distinct word is tokenised once;
    other tokenizers, and texts with line feeds, go through sacrebleu's own as a whole.
    """

    def __init__(
        self,
        tokenizer: str = "13a",
        smoothing: Smoothing = "exp",
        value: float | None = None,
        *,
        lowercase: bool = False,
        effective_order: bool = True,
    ) -> None:
        """Raises ValueError for a smoothing or tokenizer that sacrebleu does not know, or that lacks what it needs.

        sacrebleu itself fetches the models of ``flores101``, ``flores200`` and ``spBLEU-1K`` at their first use.
        """
        if tokenizer not in BLEU.TOKENIZERS:
            raise ValueError(f"tokenizer {tokenizer!r} is unknown; choose one of {', '.join(BLEU.TOKENIZERS)}")
        self._options = *resolve_smoothing(smoothing, value), effective_order
        try:
            self._metric = BLEU(
                lowercase=lowercase,
                tokenize=tokenizer,
                smooth_method=smoothing,
                smooth_value=value,
                effective_order=effective_order,
            )
        except (ImportError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"sacrebleu's tokenizer {tokenizer!r} cannot be used here: {reason}") from error
        self.encoder = TextEncoder(
            self._metric.tokenizer, wordwise=tokenizer in _WORDWISE_TOKENIZERS, lowercase=lowercase
        )

    @property
    def signature(self) -> str:
        """The signature sacrebleu gives the same metric, without the number of references."""
        arguments = {**vars(self._metric), "num_refs": 1}
        return str(self._metric._SIGNATURE_TYPE(arguments)).replace("nrefs:1|", "")

    def __call__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """Scores 0…100, (batch_size,).

        Args:
            hypotheses: One text per row.
            references: One list per reference stream, each with one text per row (sacrebleu's layout). Where a row has
                fewer references than another it may repeat one: that changes no score.

        Raises:
            ValueError: There is no reference stream, or one of another length.
        """
        return self.score(self.encoder.pairs(hypotheses, references, _MAX_CACHED_UNITS))

    def score(self, pairs: EncodedPairs) -> Floats:
        """Scores 0…100, (batch_size,), of texts that ``encoder`` has encoded."""
        return _score_batch(
            pairs.tokens,
            pairs.starts,
            pairs.ends,
            pairs.reference_tokens,
            pairs.reference_starts,
            pairs.reference_ends,
            *self._options,
        )
