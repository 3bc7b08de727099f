"""What every task whose output is text does alike: its worth is that of texts, whatever its source is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from rlseq_envs.task import Ints, Reward, SequenceTask, TextPairs
from rlseq_envs.text.output import TextOutput


class TextTask(SequenceTask):
    """A task whose outputs are compared with the texts of references.

    Attributes:
        output: The vocabulary, the rewards and the metrics.
    """

    output: TextOutput

    @property
    def selection_metric(self) -> str:  # type: ignore[override]
        """The one that the settings name."""
        return self.output.selection_metric

    @property
    def points_to(self) -> None:
        """Nothing, whatever the data."""
        return None

    @abstractmethod
    def _references(self, ids: Ints) -> list[list[str]]:
        """One list per reference stream, each with one text per instance."""

    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        """The weighted sum of the rewards that were chosen, of the detokenised sequences against all references."""
        return self.output.reward(self.text_pairs(sequences, lengths, ids), ids)

    def text_reward(self, texts: Sequence[str], ids: Ints) -> Reward:
        """See the base class."""
        return self.output.reward(TextPairs(list(texts), self._references(ids)), ids)

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        """Corpus scores, 0…100, of CIDEr-D up to 1000; of ``LESS_IS_BETTER`` smaller is better."""
        return self.output.corpus_metrics(self.text_pairs(sequences, lengths, ids))

    def text_pairs(self, sequences: Ints, lengths: Ints, ids: Ints) -> TextPairs:
        """Detokenised outputs and all references."""
        return TextPairs(self.format_outputs(sequences, lengths), self._references(ids))

    def text_metrics(self) -> dict[str, Any]:
        """New metrics, by name, those of the setting ``metrics``."""
        return self.output.metrics()

    def format_outputs(self, sequences: Ints, lengths: Ints) -> list[str]:
        """Detokenised text of each sequence."""
        return self.output.decode(sequences, lengths)
