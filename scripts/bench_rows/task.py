"""A translation-like task of token ids that needs no corpus, and the experiments that the rows run on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import rlseq_envs
from rlseq.config.load import parse_config
from rlseq.config.schema import Config
from rlseq_envs.counters import counter_uniforms
from rlseq_envs.rewards.bleu import sentence_bleu_ids
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import Ints, Rendering, Reward, SequenceTask, Split, SplitName

MEAN_LENGTH = 16  # tokens of a target
SHORTEST, LONGEST = 4, 36
ZIPF_EXPONENT = 1.5


class IdTask(SequenceTask):
    """Sentences of token ids under Zipf's law, rewarded by sentence BLEU on ids.

    A source, its reference and the limit of what may be emitted have one length, with mean 16 and standard deviation
    5.6, within 4…36. Where END is improbable, sequences so end where references do, whoever decodes them: competitors
    decode the same number of tokens.

    Args:
        vocabulary_size: Tokens on either side, END included.
    """

    selection_metric = "BLEU"
    signature = "bench|sentence BLEU on ids|version:1"

    def __init__(self, vocabulary_size: int) -> None:
        self.sources = {"text": Space.of_tokens(vocabulary_size, LONGEST)}
        self.choices = Choices(LONGEST, vocabulary_size)
        self._cumulative = np.cumsum(self.token_distribution()[1:])

    def token_distribution(self) -> npt.NDArray[np.float64]:
        """Zipf's law over the vocabulary, 0 for END; sharper than that of a text, so that few rewards are equal."""
        count = self.sources["text"].tokens
        assert count is not None
        distribution = np.zeros(count)
        distribution[1:] = np.arange(1, count) ** -ZIPF_EXPONENT
        return distribution / distribution.sum()

    def instances(self, split: SplitName) -> Split:
        """See the base class; every split is endless."""
        return Split(split, {"train": 0, "validation": 1 << 40, "test": 1 << 41}[split], None)

    def _sentences(self, ids: Ints, side: int) -> tuple[Ints, Ints]:
        lengths = self._lengths(ids)
        uniforms = counter_uniforms(side, 0, ids, 1, int(lengths.max()))[:, 0]
        tokens = np.searchsorted(self._cumulative, uniforms * self._cumulative[-1], side="right") + 1
        return np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, 0), lengths

    def _lengths(self, ids: Ints) -> Ints:
        u, v = counter_uniforms(0, 0, ids, 1, 2)[:, 0].T
        normal = np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)  # Box & Muller 1958
        return np.clip(np.rint(MEAN_LENGTH * (1.0 + 0.35 * normal)), SHORTEST, LONGEST).astype(np.int64)

    def sentences(self, ids: Ints) -> tuple[Ints, Ints]:
        """Tokens of the sources, (batch_size, time), and their lengths."""
        return self._sentences(ids, 1)

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """See the base class."""
        return Source.of(text=self.sentences(ids))

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        """See the base class; a reference has no END, as no sequence here does."""
        return self._sentences(ids, 2)

    def length_limits(self, sizes: Ints) -> Ints:
        """See the base class."""
        return sizes

    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        """See the base class."""
        scores = sentence_bleu_ids(sequences, lengths, *self.references(ids))
        return Reward(scores, {"BLEU": scores})

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        """See the base class."""
        return {"BLEU": float(self.reward(sequences, lengths, ids).total.mean())}

    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        """See the base class."""
        source, reference = (rows(np.array([instance_id]))[0][0] for rows in (self.sentences, self.references))
        return Rendering(str(source), str(reference), str(sequence))


rlseq_envs.register("bench/Ids-v0", IdTask)


def id_config(vocabulary_size: int, size: int, batch_size: int, **compute: Any) -> Config:
    """An experiment on ``IdTask``: attention LSTM with embeddings and states of one size, self-critical in rl.

    Input and output embeddings are apart and nothing is fed back, as in the peers and the tutorials.
    """
    arguments = {"vocabulary_size": vocabulary_size}
    phase: dict[str, Any] = {"updates": 1, "batch_size": batch_size}
    return parse_config(
        {
            "name": "bench",
            "task": {"type": "custom", "id": "bench_rows.task:bench/Ids-v0", "arguments": arguments},
            "policy": {
                "hidden_size": size,
                "dropout": 0.0,
                "decoder": {"match": "bilinear", "feed_context": False},
                "output": {"tie_embeddings": False},
            },
            "mle": phase,
            "rl": phase | {"baseline": "greedy", "samples": 1},
            "compute": {"device": "cpu", "threads": 1} | compute,
        }
    )
