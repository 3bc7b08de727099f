"""The sections of outputs: what a token is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from rlseq.config.parts import PartConfig
from rlseq_envs.spaces import Choices, Space

if TYPE_CHECKING:
    from rlseq.config.policy import PolicyConfig


class VocabularyConfig(PartConfig):
    """Tokens of a vocabulary."""

    type: Literal["vocabulary"] = "vocabulary"
    tie_embeddings: bool = True  # the output layer's weights are the target's embeddings (Press & Wolf 2017)
    share_embeddings: bool = False  # the source's embeddings are the target's; needs one vocabulary for both

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if choices.size is None:
            return [
                "policy.output.type 'vocabulary' needs a task whose tokens are of a fixed number, but they point into "
                "the source: set policy.output.type to pointer"
            ]
        if self.share_embeddings and (
            choices.same_as is None or len({space.tokens for space in sources.values()}) != 1
        ):
            return [
                "policy.output.share_embeddings needs one vocabulary for source and output (of translation, "
                "task.shared_vocabulary): set policy.output.share_embeddings to false"
            ]
        return []


class PointerConfig(PartConfig):
    """Positions of the source, pointed at: the attention over them is the distribution (Vinyals et al. 2015)."""

    attention_is_output = True
    free_keys = frozenset({"mask_revisits"})
    type: Literal["pointer"] = "pointer"
    mask_revisits: bool = False  # forbid a position that was already emitted

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if choices.points_to is None:
            return [
                "policy.output.type 'pointer' needs a task whose tokens point into the source, but they are of a fixed "
                "number: set policy.output.type to vocabulary"
            ]
        return []
