"""REINFORCE (Williams 1992)."""

from __future__ import annotations

from torch import Tensor

from rlseq.config.objectives import ReinforceConfig
from rlseq.objectives import losses
from rlseq.objectives.base import Columns, Objective, Samples, Scored, Statistics


class Reinforce(Objective[ReinforceConfig]):
    """Σ advantage · −log p.

    Samples that bf16 drew from a slightly other distribution are weighted by the truncated ratio of their probabilities
    (Ionides 2008).
    """

    @property
    def reads_logits(self) -> bool:
        """See the base class."""
        return self.rl.reweighted

    def columns(self, samples: Samples, batch: Columns) -> Columns:
        """See the base class."""
        return {"log_probs": samples.log_probs} if self.rl.reweighted else {}

    def loss(self, scored: Scored, weights: Tensor) -> tuple[Tensor, Statistics]:
        """See the base class."""
        if not self.rl.reweighted:
            return super().loss(scored, weights)
        ratio = losses.importance_weights(
            scored.distribution.tempered(scored.values),
            scored.targets,
            scored.lengths,
            scored.of_rows("log_probs"),
            self.section.importance_cap,
        )
        loss = scored.weighted_nll(weights * ratio.repeat_interleave(scored.lengths))
        return loss, {"train/importance_mean": ratio.sum() / max(1, len(ratio))}
