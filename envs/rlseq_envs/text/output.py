"""What every task that emits text shares: its vocabulary, what a text is worth and how texts are measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF, TER

from rlseq_envs.rewards.cider import CiderDMetric, DocumentFrequencies
from rlseq_envs.rewards.edits import ErrorRate
from rlseq_envs.rewards.encoding import TextEncoder
from rlseq_envs.rewards.mixture import Mixture
from rlseq_envs.rewards.text import TextRewards
from rlseq_envs.settings.text import TEXT_REWARDS, TextSettings
from rlseq_envs.task import Ints, Reward, TextPairs
from rlseq_envs.text.pretrained import PretrainedVocabulary
from rlseq_envs.text.vocabulary import Vocabulary, load_vocabulary

_PREFIX = "sentence_"  # of rewards as components: no corpus metric is called so
_MANIFEST = "vocabulary.json"
_DOCUMENTS = "documents.npz"
_MADE_WITH = ("units", "lowercase")  # settings that a vocabulary belongs to


class TextOutput:
    """The outputs of a task that emits text.

    Args:
        settings: Those of the task.
        learn: Learns the vocabulary of each side. It is called at the first use, and never if there are artifacts.
        artifacts: A directory that ``save`` wrote the vocabularies to; None if they are to be learnt.
        sides: What has a vocabulary; outputs are made of that of "target".
        documents: Gives the references of each training instance, which say what the reward ``cider`` takes for rare.
            It is called at the first use, and never if there are artifacts of a task with this reward.

    Attributes:
        corpus: What ``save`` was told of the corpus that the artifacts were made from; None without artifacts.

    Raises:
        ValueError: The artifacts or the rewards cannot be used.
    """

    def __init__(
        self,
        settings: TextSettings,
        learn: Callable[[], Mapping[str, Vocabulary]],
        artifacts: Path | None = None,
        sides: Sequence[str] = ("target",),
        documents: Callable[[], Iterable[Sequence[str]]] | None = None,
    ) -> None:
        self._settings, self._learn, self._artifacts, self._sides = settings, learn, artifacts, sides
        self._documents = documents
        self._rewards = TextRewards(settings, self._document_frequencies if documents else None)
        self._mixture = Mixture(settings.reward, TEXT_REWARDS, settings.reward_timeout, _PREFIX)
        self._manifest = self._read_manifest(artifacts) if artifacts else {}
        self.corpus: str | None = self._manifest.get("corpus")

    # Vocabulary

    def _read_manifest(self, artifacts: Path) -> dict[str, Any]:
        path = artifacts / _MANIFEST
        try:
            written = json.loads(path.read_text())
            manifest = {key: written[key] for key in ("corpus", *_MADE_WITH, *self._sides)}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: cannot be read as a vocabulary's manifest ({error!r})") from error
        for key in _MADE_WITH:
            if manifest[key] != getattr(self._settings, key):
                raise ValueError(f"{path}: was made with {key}={manifest[key]!r}, not {getattr(self._settings, key)!r}")
        for side in self._sides:
            if Path(str(manifest[side])).name != (manifest[side] or None):
                raise ValueError(f"{path}: {side} is {manifest[side]!r}, which is no file beside it")
        return manifest

    @cached_property
    def vocabularies(self) -> Mapping[str, Vocabulary]:
        """The vocabulary of each side; one object if sides share it."""
        if self._artifacts is None:
            return self._learn()
        names = {side: self._manifest[side] for side in self._sides}
        loaded = {name: _load(self._artifacts / name) for name in dict.fromkeys(names.values())}
        return {side: loaded[name] for side, name in names.items()}

    @property
    def vocabulary(self) -> Vocabulary:
        """That of the outputs."""
        return self.vocabularies["target"]

    def save(self, directory: Path, corpus: str) -> None:
        """Write the vocabularies, as sentencepiece models or JSON lists, and a manifest.

        Args:
            directory: An existing one.
            corpus: What they were learnt from; it is written into the manifest.
        """
        manifest = {"corpus": corpus, **{key: getattr(self._settings, key) for key in _MADE_WITH}}
        everyone = list(self.vocabularies.values())
        for side, vocabulary in self.vocabularies.items():
            shared = sum(vocabulary is other for other in everyone) > 1
            manifest[side] = vocabulary.save(directory, "shared" if shared else side)
        (directory / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        if self._documents and "cider" in self._mixture.names:
            self._rewards.cider.frequencies.save(directory / _DOCUMENTS)

    def cased(self, texts: Iterable[str]) -> Iterable[str]:
        """Texts as they are read: in lower case if the settings say so."""
        return map(str.lower, texts) if self._settings.lowercase else texts

    def decode(self, sequences: Ints, lengths: Ints) -> list[str]:
        """Detokenised text of each sequence (batch_size, time), of which the first ``lengths`` tokens count."""
        return self.vocabulary.decode(sequences, lengths)

    # Worth

    def _document_frequencies(self, encoder: TextEncoder) -> DocumentFrequencies:
        if self._artifacts is not None and (self._artifacts / _DOCUMENTS).is_file():
            return DocumentFrequencies.load(self._artifacts / _DOCUMENTS)
        assert self._documents is not None
        return DocumentFrequencies.count(encoder, self._documents())

    @property
    def signature(self) -> str:
        """Rewards and vocabularies, exactly."""
        names = self._mixture.names
        described = {name: self._rewards.signature(name) for name in names} | {"bleu": "sentence_bleu/100"}
        parts = [
            "reward:" + self._mixture.signature(described).removeprefix("1*"),  # of a first weight of 1 nothing is said
            *([self._rewards.signature("bleu")] if "bleu" in names else []),
            "end:no text, counts in length",
            f"units:{self._settings.units}",
            *(f"{side}:{vocabulary.digest[:16]}" for side, vocabulary in self.vocabularies.items()),
        ]
        return "|".join(parts)

    def reward(self, pairs: TextPairs, ids: Ints) -> Reward:
        """The weighted sum of the rewards that were chosen, of texts against all their references.

        Args:
            pairs: A text for each row, and no reference stream if the instances have no references. The settings then
                ask for no reward that reads them.
            ids: Instances, (batch_size,).
        """
        values = self._rewards(self._mixture.names, pairs.hypotheses, pairs.references or [[""] * len(ids)])
        return self._mixture.reward(values, _columns(pairs, ids) if self._mixture.has_own else (ids,))

    @property
    def has_own(self) -> bool:
        """Whether any reward is a function of the user's."""
        return self._mixture.has_own

    def find_own(self) -> None:
        """Look for the modules of the user's functions; raises as ``check``."""
        self._mixture.find()

    def check(self, pairs: TextPairs, ids: Ints) -> None:
        """Try the user's functions on some rows. Raises ValueError naming all that cannot be used."""
        self._mixture.check(_columns(pairs, ids))

    # Measures

    def metrics(self) -> dict[str, Any]:
        """New metrics of sacrebleu, or with its methods, by name, those of the setting ``metrics``."""
        lowercase, tokenizer = self._settings.lowercase, self._settings.reward_tokenizer
        case = f"case:{'lc' if lowercase else 'mixed'}"
        made = {
            "BLEU": BLEU(tokenize=tokenizer, lowercase=lowercase, force=True),
            "BLEU-lc": BLEU(tokenize=tokenizer, lowercase=True, force=True),
            "BLEU-1": BLEU(tokenize=tokenizer, lowercase=lowercase, force=True, max_ngram_order=1),
            "CIDEr-D": CiderDMetric(self._rewards.bleu.encoder, f"tok:{tokenizer}|{case}"),
            "chrF": CHRF(lowercase=lowercase),
            "TER": TER(),
            "WER": ErrorRate(self._rewards.words.pairs, f"unit:word|{case}"),
            "CER": ErrorRate(self._rewards.characters, f"unit:character|{case}"),
        }
        return {name: made[name] for name in self._settings.metrics}

    @property
    def selection_metric(self) -> str:
        """The metric that picks the best checkpoint."""
        return self._settings.selection_metric

    def corpus_metrics(self, pairs: TextPairs) -> dict[str, float]:
        """Corpus scores, 0…100, of CIDEr-D up to 1000; of ``LESS_IS_BETTER`` smaller is better."""
        return {
            name: float(metric.corpus_score(pairs.hypotheses, pairs.references).score)
            for name, metric in self.metrics().items()
        }


def _load(place: Path) -> Vocabulary:
    return PretrainedVocabulary(place) if place.is_dir() else load_vocabulary(place)


def _columns(pairs: TextPairs, ids: Ints) -> tuple[list[str], list[tuple[str, ...]], Ints]:
    """What the user's functions are called with: hypotheses, the references of each, and ids."""
    return pairs.hypotheses, list(zip(*pairs.references, strict=True)) or [()] * len(ids), ids
