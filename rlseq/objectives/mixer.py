"""MIXER (Ranzato et al. 2016): cross-entropy on the reference's first tokens, REINFORCE on the sampled rest."""

from __future__ import annotations

from rlseq.config.objectives import MixerConfig
from rlseq.objectives.base import Objective


class Mixer(Objective[MixerConfig]):
    """Σ advantage · −log p, with the advantage 1 at tokens that were given: this is their cross-entropy."""

    given_advantage = 1.0
