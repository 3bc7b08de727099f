"""Captions: a picture, and a sentence about it that is compared with several others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.counters import counter_uniforms
from rlseq_envs.media.captioned import PictureCorpus, read_captioned, read_pictures
from rlseq_envs.media.pictures import FilePictures, MadePictures, Pictures
from rlseq_envs.media.scenes import caption_scenes, make_scenes
from rlseq_envs.settings.caption import CaptionSettings
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import END, FIRST_IDS, SPLITS, Ints, Rendering, Split, SplitName, split_of
from rlseq_envs.text.output import TextOutput
from rlseq_envs.text.storage import TextRows, TokenRows
from rlseq_envs.text.task import TextTask
from rlseq_envs.text.vocabulary import Vocabulary, train_vocabulary


@dataclass(frozen=True)
class Captioned:
    """One split.

    Attributes:
        pictures: What is captioned.
        texts: The captions, as many of each picture, those of a picture one after another.
        tokens: The same as tokens, END included, cut to the longest output.
    """

    pictures: Pictures
    texts: TextRows
    tokens: TokenRows


class CaptionTask(TextTask):
    """Say what a picture shows.

    A source is a picture, (batch_size, height, width, 3) uint8, or features of it: a grid of regions, one vector, or
    both. The reward is a mixture of ``TEXT_REWARDS``, by default CIDEr-D, against all captions of the picture.
    Cross-entropy trains on one of them, drawn anew by each seed.
    """

    def __init__(self, artifacts: str | Path | None = None, **settings: Any) -> None:
        """Nothing is made yet.

        Args:
            artifacts: A directory that ``save_artifacts`` wrote the vocabulary to.
            **settings: The keys of ``CaptionSettings``.

        Raises:
            ValueError: Settings or artifacts cannot be used; the message lists every problem.
        """
        self.settings = CaptionSettings(**settings)
        directory = None if artifacts is None else Path(artifacts)
        self.output = TextOutput(self.settings, self._learn, directory, documents=self._documents)
        self._splits: dict[SplitName, Captioned] = {}

    # Instances

    def instances(self, split: SplitName) -> Split:
        """See the base class. Raises CorpusError for files that cannot be used."""
        if split not in SPLITS or not self._size(split):
            raise ValueError(f"there is no data for split {split!r}")
        return Split(split, FIRST_IDS[split], self._size(split))

    def _size(self, split: SplitName) -> int:
        if self.settings.is_made:
            return self.settings.sizes[SPLITS.index(split)]
        return len(self._captioned(split).texts) // self.settings.captions

    def prepare(self) -> None:
        """Read all files, or make the captions of training, and try the rewards of the user's own on two pictures.

        Raises:
            CorpusError: Files cannot be used; all faults of all of them.
            ValueError: Rewards cannot be used.
        """
        self.output.find_own()
        for split in SPLITS:
            if split == "train" or not self.settings.is_made:
                self._captioned(split)
        if self.output.has_own:
            ids = np.resize(self.instances("train").ids()[:2], 2)
            self.output.check(self.text_pairs(*self.references(ids), ids), ids)

    def data_report(self) -> list[str]:
        """The pictures of each split of a corpus in files, and the captions that only teach words."""
        if self.settings.is_made:
            return []
        counts = [f"{name} data: pictures {len(self._corpus.rows(name))}" for name in SPLITS]
        return [*counts, f"captions of unlisted pictures: {sum(map(len, self._corpus.unlisted))}"]

    @cached_property
    def _corpus(self) -> PictureCorpus:
        return read_captioned(self.settings)

    def _captioned(self, split: SplitName) -> Captioned:
        if split not in self._splits:
            pictures, texts = self._made(split) if self.settings.is_made else self._read(split)
            tokens = self.output.vocabulary.encode(self.output.cased(texts))
            self._splits[split] = Captioned(pictures, texts, tokens.truncated(self.settings.max_length, END))
        return self._splits[split]

    def _made(self, split: SplitName) -> tuple[Pictures, TextRows]:
        given = self.settings
        scenes = make_scenes(given.seed, self.instances(split).ids(), split, given.objects)
        texts = TextRows.gather(chain.from_iterable(caption_scenes(scenes, given.captions)))
        return MadePictures(scenes, given.picture_size), texts

    def _read(self, split: SplitName) -> tuple[Pictures, TextRows]:
        corpus, rows = self._corpus, self._corpus.rows(split)
        names = tuple(corpus.pictures[row].name for row in rows.tolist())
        texts = TextRows.gather(chain.from_iterable(corpus.captions[name] for name in names))
        directory = None if self.settings.picture_directory is None else Path(self.settings.picture_directory)
        arrays = {name: values[rows] for name, values in corpus.arrays.items()}
        return FilePictures(names, arrays, directory), texts

    def shared_data(self) -> dict[SplitName, Captioned] | None:
        """The splits that were made or read."""
        return self._splits or None

    def use_shared_data(self, data: dict[SplitName, Captioned]) -> None:
        """Take these splits as they are; the vocabulary has to come from artifacts."""
        self._splits = data

    def _locate(self, ids: Ints) -> tuple[Captioned, Ints]:
        """The one split all ids belong to, and their rows in it. Raises ValueError if there is none."""
        split = self.instances(split_of(ids))
        return self._captioned(split.name), split.rows(ids)

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """Pictures (batch_size, height, width, 3) uint8, or features float32."""
        captioned, rows = self._locate(ids)
        return captioned.pictures.source(rows)

    def sizes(self, ids: Ints) -> Ints:
        """Lines of each picture or grid; the width of one vector."""
        return np.full(len(ids), next(iter(self.sources.values())).largest[0], np.int64)

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        """The first caption with END, (batch_size, time), and its length; cut to ``max_length``."""
        captioned, rows = self._locate(ids)
        return captioned.tokens.padded(rows * self.settings.captions)

    def training_pairs(self, ids: Ints, seed: int) -> tuple[Source[npt.NDArray[Any]], Ints, Ints]:
        """See ``SequenceTask``; the caption is one of all, by the seed and the instance."""
        captioned, rows = self._locate(ids)
        uniforms = counter_uniforms(seed, 0, np.asarray(ids, np.int64), 1, 1)[:, 0, 0]
        chosen = (uniforms * self.settings.captions).astype(np.int64)
        return self.source(ids), *captioned.tokens.padded(rows * self.settings.captions + chosen)

    # Vocabulary

    def _learn(self) -> dict[str, Vocabulary]:
        given = self.settings
        arguments = (given.vocabulary_size, given.units, given.subword_model, given.lowercase)
        if given.is_made:
            return {"target": train_vocabulary([self._made("train")[1]], *arguments)}
        unlisted = TextRows.gather(chain.from_iterable(self._corpus.unlisted))
        return {"target": train_vocabulary([self._read("train")[1], unlisted], *arguments)}

    def _documents(self) -> Iterator[Sequence[str]]:
        """The captions of each training picture."""
        texts = iter(self._captioned("train").texts)
        yield from zip(*[texts] * self.settings.captions, strict=True)
        if not self.settings.is_made:
            yield from self._corpus.unlisted

    @cached_property
    def sources(self) -> Mapping[str, Space]:  # type: ignore[override]
        """A picture, or features of it."""
        if not self.settings.feature_file:
            return self.settings.outline()[0]
        fields = self.source(self.instances("train").ids(0, 1)).fields
        return {name: Space(field.values.shape[1:]) for name, field in fields.items()}

    @cached_property
    def choices(self) -> Choices:  # type: ignore[override]
        """Tokens of captions, and END."""
        return self.settings.choices(len(self.output.vocabulary))

    def save_artifacts(self, directory: Path) -> None:
        """Write the vocabulary and a manifest, and the document frequencies of the reward ``cider``."""
        self.output.save(directory, "scenes" if self.settings.is_made else "files")

    # Worth

    @property
    def signature(self) -> str:
        """Reward and vocabulary, exactly."""
        return f"caption|{self.output.signature}"

    def _references(self, ids: Ints) -> list[list[str]]:
        captioned, rows = self._locate(ids)
        count = self.settings.captions
        return [captioned.texts.take(rows * count + number) for number in range(count)]

    # Text

    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        """The picture's name, its first caption and the output; drawn is the picture."""
        ids = np.array([instance_id])
        captioned, rows = self._locate(ids)
        return Rendering(
            source=captioned.pictures.name(int(rows[0])),
            reference=self._references(ids)[0][0],
            output=self.format_outputs(sequence[None], np.array([len(sequence)]))[0],
            drawing=captioned.pictures.drawing(int(rows[0])),
            output_labels=self.output.vocabulary.labels(sequence),
        )

    def parse_sources(self, lines: Sequence[str]) -> Source[npt.NDArray[Any]]:
        """Pictures by their names in ``picture_file``, of whatever split.

        Raises:
            CorpusError: The files cannot be used.
            ValueError: Lines are no such name, or pictures are made.
        """
        if self.settings.is_made:
            raise ValueError("made pictures have no names: give a corpus of files, or generate for a split")
        pictures, arrays = read_pictures(self.settings)
        rows = {picture.name: row for row, picture in enumerate(pictures)}
        wrong = [f"line {i}: {line!r}" for i, line in enumerate(lines, start=1) if line not in rows]
        if wrong:
            raise ValueError(f"{', '.join(wrong[:10])} is not listed in {self.settings.picture_file}")
        return FilePictures((), arrays, None).source(np.array([rows[line] for line in lines], np.int64))
