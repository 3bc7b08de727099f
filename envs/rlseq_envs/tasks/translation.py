"""Translation: parallel text as a task, rewarded with sentence BLEU or other rewards of the detokenised output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.settings.translation import TEXT, TranslationSettings
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import END, Ints, Rendering, Split, SplitName, split_of
from rlseq_envs.text.cldr import make_corpus, parse_locales
from rlseq_envs.text.corpus import (
    CorpusError,
    CorpusReport,
    ParallelText,
    Problem,
    SplitReport,
    drop_unusable_pairs,
    find_endless_lines,
    read_parallel,
)
from rlseq_envs.text.output import TextOutput
from rlseq_envs.text.pretrained import PretrainedVocabulary
from rlseq_envs.text.storage import TextRows, TokenRows
from rlseq_envs.text.task import TextTask
from rlseq_envs.text.vocabulary import Vocabulary, train_vocabulary

_FIRST_IDS: dict[SplitName, int] = {
    "train": 0,
    "validation": 1_000_000_000,
    "test": 2_000_000_000,
    "rl": 3_000_000_000,
}
_MADE: tuple[SplitName, ...] = ("train", "validation", "test")  # splits of the made corpus
_TRAINED_ON = ("train", "rl")  # instances that cannot be used are left out; splits to evaluate on leave nothing out
_SIDES = ("source", "target")


@dataclass(frozen=True)
class _Encoded:
    """One split, ready for use: sources and first references as tokens, all references as text.

    Sources are kept as text only where they are cut into subwords again. Sources for rl may have no references.
    """

    sources: TokenRows
    targets: TokenRows | None
    references: tuple[TextRows, ...]
    texts: TextRows | None = None


class TranslationTask(TextTask):
    """Parallel text as a sequence task.

    Sources are token ids, (batch_size, source_length), END included so that attention has an end to look at. The reward
    is a mixture of ``TEXT_REWARDS``, by default the sentence BLEU of the detokenised output, 0…1. Each split is read at
    its first use; ``prepare`` reads them all and gathers every fault. ``report`` counts what was skipped.
    """

    def __init__(self, artifacts: str | Path | None = None, **settings: Any) -> None:
        """Nothing is read yet but the manifest of the artifacts.

        Args:
            artifacts: A directory that ``save_artifacts`` wrote the vocabulary to; no corpus is then needed to decode.
            **settings: The keys of ``TranslationSettings``.

        Raises:
            ValueError: Settings or artifacts cannot be used.
        """
        self.settings = TranslationSettings(**settings)
        if self.settings.named_files and not self.settings.train_source and artifacts is None:
            raise ValueError("train_source is needed to learn a vocabulary from, or artifacts with one")
        self.report = CorpusReport()
        directory = None if artifacts is None else Path(artifacts)
        self.output = TextOutput(self.settings, self._learn_vocabularies, directory, _SIDES, self._documents)
        if self.corpus_kind == "cldr":
            parse_locales(self.settings.cldr_source_locale, self.settings.cldr_target_locale)
        self._texts: dict[SplitName, ParallelText] = {}
        self._splits: dict[SplitName, _Encoded] = {}

    # Instances

    @cached_property
    def corpus_kind(self) -> str:
        """Where instances come from: "files" or "cldr"."""
        if self.settings.corpus is not None:
            return self.settings.corpus
        if self.settings.named_files:
            return "files"
        return self.output.corpus or "cldr"

    @property
    def available_splits(self) -> tuple[SplitName, ...]:
        """The splits there is data for."""
        if self.corpus_kind == "cldr":
            return _MADE
        return tuple(split for split in _FIRST_IDS if self.settings.source_file(split) is not None)

    def prepare(self) -> None:
        """Read and check every split now, and try the rewards of the user's own on two instances.

        Raises:
            CorpusError: Files cannot be used; all faults of all of them.
            ValueError: Rewards cannot be used.
        """
        self.output.find_own()  # before corpora are read, which may take minutes
        self._read([split for split in self.available_splits if split not in self._splits])
        for split in self.available_splits:
            self._encoded(split)
        if self.output.has_own:
            ids = np.resize(self.instances(self.available_splits[0]).ids()[:2], 2)
            self.output.check(self.text_pairs(*self.references(ids), ids), ids)

    def instances(self, split: SplitName) -> Split:
        """The split's ids. Raises ValueError for a split without data, CorpusError for unusable files."""
        encoded = self._encoded(split)
        return Split(split, _FIRST_IDS[split], len(encoded.sources), labelled=encoded.targets is not None)

    def rl_instances(self) -> Split:
        """Those of ``rl_source``, or those of training."""
        return self.instances("rl" if "rl" in self.available_splits else "train")

    def data_report(self) -> list[str]:
        """The counts of each split that was read."""
        return [f"{name} data: {counts}" for name, counts in self.report.splits.items()]

    def shared_data(self) -> dict[SplitName, _Encoded] | None:
        """The splits that were read."""
        return self._splits or None

    def use_shared_data(self, data: dict[SplitName, _Encoded]) -> None:
        """Take these splits as read; the vocabulary has to come from artifacts."""
        self._splits = data

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """Token ids with END, (batch_size, source_length) int64."""
        encoded, rows = self._locate(ids)
        return Source.of(text=encoded.sources.padded(rows))

    def sizes(self, ids: Ints) -> Ints:
        """Tokens of each source, END included."""
        encoded, rows = self._locate(ids)
        return encoded.sources.sizes(rows)

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        """Token ids of the first reference with END, (batch_size, time) int64, and lengths (batch_size,).

        In evaluation splits cut to ``max_length``; rewards and metrics use the whole text.

        Raises:
            ValueError: The instances are those of ``rl_source``, and there is no ``rl_target``.
        """
        encoded, rows = self._locate(ids)
        if encoded.targets is None:
            raise ValueError("the instances of rl_source have no references: give rl_target")
        return encoded.targets.padded(rows)

    def training_pairs(self, ids: Ints, seed: int) -> tuple[Source[npt.NDArray[Any]], Ints, Ints]:
        """See ``SequenceTask``; under ``subword_dropout`` each seed cuts the training pairs into other subwords.

        A side that would be longer than its limit then is cut as always.
        """
        encoded, _ = self._locate(ids)
        if encoded.texts is None or encoded.targets is None:
            return super().training_pairs(ids, seed)
        seeds = np.random.SeedSequence(seed).generate_state(2).tolist()
        source = (self._source_vocabulary, encoded.texts, encoded.sources, self.settings.max_source_length)
        target = (self._target_vocabulary, encoded.references[0], encoded.targets, self.settings.max_length)
        return Source.of(text=self._sample(*source, ids, seeds[0])), *self._sample(*target, ids, seeds[1])

    def _sample(
        self, vocabulary: Vocabulary, texts: TextRows, tokens: TokenRows, limit: int, ids: Ints, seed: int
    ) -> tuple[Ints, Ints]:
        rows = ids - _FIRST_IDS["train"]  # the one split with texts to cut again
        cased = list(self.output.cased(texts.take(rows)))
        sampled = vocabulary.sample(cased, self.settings.subword_dropout, seed, ids)
        within = (new if len(new) <= limit else tokens[row] for new, row in zip(sampled, rows.tolist(), strict=True))
        return TokenRows.gather(within, len(vocabulary)).padded(np.arange(len(rows)))

    def length_limits(self, sizes: Ints) -> Ints:
        """Twice the source and ten more, at most ``max_length``."""
        return np.minimum(self.settings.max_length, 2 * sizes + 10)

    def _locate(self, ids: Ints) -> tuple[_Encoded, Ints]:
        """The one split all ids belong to, and their rows in it."""
        split = self.instances(split_of(ids, _FIRST_IDS))
        return self._encoded(split.name), split.rows(ids)

    def _encoded(self, split: SplitName) -> _Encoded:
        if split not in self._splits:
            self._read([split])
            self._splits[split] = self._encode(split)
        return self._splits[split]

    # Reading

    def _read(self, splits: Sequence[SplitName]) -> None:
        problems: list[Problem] = []
        for split in splits:
            if split not in self._texts:
                self._texts[split] = self._read_split(split, problems)
        if problems:
            self._texts.clear()
            raise CorpusError(problems)

    def _read_split(self, split: SplitName, problems: list[Problem]) -> ParallelText:
        if split not in self.available_splits:
            raise ValueError(f"there is no data for split {split!r}: set {split}_source and {split}_target")
        report = self.report.splits[split] = SplitReport()
        if self.corpus_kind == "cldr":
            text = self._made_corpus[_MADE.index(split)]
            report.lines = len(text.sources)
        else:
            text = self._read_files(split, report, problems)
        report.pairs = len(text.sources)
        return text

    def _read_files(self, split: SplitName, report: SplitReport, problems: list[Problem]) -> ParallelText:
        source, targets = str(self.settings.source_file(split)), self.settings.target_files(split)
        found: list[Problem] = []
        text = read_parallel(source, targets, report, found)
        if not found and split not in _TRAINED_ON:
            found = find_endless_lines(text, (source, *targets))
        problems.extend(found)
        if found or split not in _TRAINED_ON:
            return text
        text = drop_unusable_pairs(text, report)
        if not len(text.sources):
            problems.append(Problem(source, None, f"no pair is left to train on ({report})"))
        return text

    @cached_property
    def _made_corpus(self) -> tuple[ParallelText, ...]:
        settings = self.settings
        return make_corpus(settings.cldr_source_locale, settings.cldr_target_locale, settings.cldr_sizes, settings.seed)

    def _encode(self, split: SplitName) -> _Encoded:
        source_vocabulary, target_vocabulary = self._source_vocabulary, self._target_vocabulary
        report, limits = self.report.splits[split], (self.settings.max_source_length, self.settings.max_length)
        text = self._texts.pop(split)
        sources, references = source_vocabulary.encode_sources(self._as_read(text.sources)), text.targets
        again = text.sources if split == "train" and self.settings.subword_dropout else None
        del text  # a large corpus' sources are not to lie in memory as text while its references are encoded
        targets = target_vocabulary.encode(self.output.cased(references[0])) if references else None
        if targets is not None and split not in _TRAINED_ON:
            report.truncated_sources = int((sources.lengths > limits[0]).sum())
            report.truncated_targets = int((targets.lengths > limits[1]).sum())
            return _Encoded(sources.truncated(limits[0], END), targets.truncated(limits[1], END), references)
        long_source = sources.lengths > limits[0]
        long_target = np.zeros_like(long_source) if targets is None else targets.lengths > limits[1]
        report.skipped_long_source = int(long_source.sum())
        report.skipped_long_target = int((long_target & ~long_source).sum())
        keep = ~(long_source | long_target)
        report.pairs = int(keep.sum())
        if not report.pairs:
            raise ValueError(f"no training pair is within max_source_length {limits[0]} and max_length {limits[1]}")
        return _Encoded(
            sources.select(keep),
            targets and targets.select(keep),
            tuple(side.select(keep) for side in references),
            again and again.select(keep),
        )

    # Vocabulary

    def _learn_vocabularies(self) -> dict[str, Vocabulary]:
        """Of sources and of targets; one object if it is shared."""
        if self.settings.tokenizer:
            return dict.fromkeys(_SIDES, PretrainedVocabulary(Path(self.settings.tokenizer)))
        self._read(["train"])
        text, settings = self._texts["train"], self.settings
        sides = [text.sources, text.targets[0]]
        arguments = (settings.vocabulary_size, settings.units, settings.subword_model, settings.lowercase)
        if settings.shared_vocabulary:
            return dict.fromkeys(_SIDES, train_vocabulary(sides, *arguments))
        return {name: train_vocabulary([side], *arguments) for name, side in zip(_SIDES, sides, strict=True)}

    def _as_read(self, sources: Iterable[str]) -> Iterable[str]:
        """Sources with what a pretrained model reads before each."""
        return (self.settings.source_prefix + text for text in self.output.cased(sources))

    def _documents(self) -> Iterator[Sequence[str]]:
        """All references of each training pair."""
        return zip(*self._encoded("train").references, strict=True)

    @property
    def _source_vocabulary(self) -> Vocabulary:
        return self.output.vocabularies["source"]

    @property
    def _target_vocabulary(self) -> Vocabulary:
        return self.output.vocabulary

    @cached_property
    def sources(self) -> Mapping[str, Space]:  # type: ignore[override]
        """Source tokens, END included."""
        return {TEXT: Space.of_tokens(len(self._source_vocabulary), self.settings.max_source_length)}

    @cached_property
    def choices(self) -> Choices:  # type: ignore[override]
        """Target tokens, END included; those of the source if both sides have one vocabulary."""
        shared = self._source_vocabulary is self._target_vocabulary
        same_as, target = TEXT if shared else None, self._target_vocabulary
        return Choices(self.settings.max_length, len(target), same_as=same_as, tokenizer=target.tokenizer)

    def save_artifacts(self, directory: Path) -> None:
        """Write the vocabulary, as sentencepiece models or JSON lists, and a manifest."""
        self.output.save(directory, self.corpus_kind)

    # Worth

    @property
    def signature(self) -> str:
        """Reward and vocabulary, exactly."""
        return f"translation|{self.output.signature}"

    def _references(self, ids: Ints) -> list[list[str]]:
        encoded, rows = self._locate(ids)
        return [stream.take(rows) for stream in encoded.references]

    # Text

    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        """Source, first reference and output as text; labels are the tokens."""
        encoded, rows = self._locate(np.array([instance_id]))
        sources, lengths = encoded.sources.padded(rows)
        return Rendering(
            source=self._source_vocabulary.decode(sources, lengths)[0],
            reference=encoded.references[0][int(rows[0])] if encoded.references else "",
            output=self.format_outputs(sequence[None], np.array([len(sequence)]))[0],
            input_labels=self._source_vocabulary.labels(sources[0]),
            output_labels=self._target_vocabulary.labels(sequence),
        )

    def parse_sources(self, lines: Sequence[str]) -> Source[npt.NDArray[Any]]:
        """Lines of text with the fields of ``source``. Raises ValueError naming the lines that are too long."""
        encoded = self._source_vocabulary.encode_sources(self._as_read(lines))
        long_lines = np.flatnonzero(encoded.lengths > self.settings.max_source_length) + 1
        if len(long_lines):
            named = ", ".join(map(str, long_lines[:10].tolist()))
            raise ValueError(f"lines {named} have more than max_source_length {self.settings.max_source_length} tokens")
        return Source.of(text=encoded.padded(np.arange(len(encoded))))
