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
from rlseq_envs.drawing import Picture
from rlseq_envs.media.scenes import Scenes, caption_scenes, draw_scenes, make_scenes
from rlseq_envs.settings.caption import PICTURE, CaptionSettings
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import END, Ints, Rendering, Split, SplitName
from rlseq_envs.text.output import TextOutput
from rlseq_envs.text.storage import TextRows, TokenRows
from rlseq_envs.text.task import TextTask
from rlseq_envs.text.vocabulary import Vocabulary, train_vocabulary

_FIRST: dict[SplitName, int] = {"train": 0, "validation": 1 << 40, "test": 1 << 41}


@dataclass(frozen=True)
class Captioned:
    """One split.

    Attributes:
        scenes: What the pictures show.
        texts: The captions, as many of each picture, those of a picture one after another.
        tokens: The same as tokens, END included, cut to the longest output.
    """

    scenes: Scenes
    texts: TextRows
    tokens: TokenRows


class CaptionTask(TextTask):
    """Say what a picture shows.

    A source is a picture, (batch_size, height, width, 3) uint8. The reward is a mixture of ``TEXT_REWARDS``, by default
    CIDEr-D, against all captions of the picture. Cross-entropy trains on one of them, drawn anew by each seed.
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
        """See the base class."""
        if split not in _FIRST:
            raise ValueError(f"there is no data for split {split!r}")
        return Split(split, _FIRST[split], self.settings.sizes[list(_FIRST).index(split)])

    def prepare(self) -> None:
        """Make the captions of training, and try the rewards of the user's own on two pictures.

        Raises:
            ValueError: Rewards cannot be used.
        """
        self.output.find_own()
        self._captioned("train")
        if self.output.has_own:
            ids = np.resize(self.instances("train").ids()[:2], 2)
            self.output.check(self.text_pairs(*self.references(ids), ids), ids)

    def _captioned(self, split: SplitName) -> Captioned:
        if split not in self._splits:
            scenes, texts = self._made(split)
            tokens = self.output.vocabulary.encode(self.output.cased(texts))
            self._splits[split] = Captioned(scenes, texts, tokens.truncated(self.settings.max_length, END))
        return self._splits[split]

    def _made(self, split: SplitName) -> tuple[Scenes, TextRows]:
        given = self.settings
        scenes = make_scenes(given.seed, self.instances(split).ids(), split, given.objects)
        return scenes, TextRows.gather(chain.from_iterable(caption_scenes(scenes, given.captions)))

    def shared_data(self) -> dict[SplitName, Captioned] | None:
        """The splits that were made."""
        return self._splits or None

    def use_shared_data(self, data: dict[SplitName, Captioned]) -> None:
        """Take these splits as made; the vocabulary has to come from artifacts."""
        self._splits = data

    def _locate(self, ids: Ints) -> tuple[Captioned, Ints]:
        """The one split all ids belong to, and their rows in it. Raises ValueError if there is none."""
        first = int(ids.min()) if len(ids) else 0
        split: SplitName = next((name for name in reversed(_FIRST) if _FIRST[name] <= first), "train")
        rows = np.asarray(ids, np.int64) - _FIRST[split]
        if first < 0 or rows.max(initial=-1) >= (self.instances(split).size or 0):
            raise ValueError(f"instance ids {first}…{ids.max()} are not all in split {split!r}")
        return self._captioned(split), rows

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """Pictures (batch_size, height, width, 3) uint8."""
        captioned, rows = self._locate(ids)
        return Source.of(**{PICTURE: (draw_scenes(captioned.scenes.take(rows), self.settings.picture_size), None)})

    def sizes(self, ids: Ints) -> Ints:
        """Lines of each picture."""
        return np.full(len(ids), self.settings.picture_size, np.int64)

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
        return {"target": train_vocabulary([self._made("train")[1]], *arguments)}

    def _documents(self) -> Iterator[Sequence[str]]:
        """The captions of each training picture."""
        texts = iter(self._captioned("train").texts)
        return zip(*[texts] * self.settings.captions, strict=True)

    @cached_property
    def sources(self) -> Mapping[str, Space]:  # type: ignore[override]
        """A picture."""
        return self.settings.spaces(len(self.output.vocabulary))[0]

    @cached_property
    def choices(self) -> Choices:  # type: ignore[override]
        """Tokens of captions, and END."""
        return self.settings.spaces(len(self.output.vocabulary))[1]

    def save_artifacts(self, directory: Path) -> None:
        """Write the vocabulary and a manifest, and the document frequencies of the reward ``cider``."""
        self.output.save(directory, "scenes")

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
        """The picture's number, its first caption and the output; drawn is the picture."""
        ids = np.array([instance_id])
        return Rendering(
            source=f"picture {instance_id}",
            reference=self._references(ids)[0][0],
            output=self.format_outputs(sequence[None], np.array([len(sequence)]))[0],
            drawing=Picture(self.source(ids).fields[PICTURE].values[0]),
            output_labels=self.output.vocabulary.labels(sequence),
        )
