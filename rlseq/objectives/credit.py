"""Which token a reward is due to: rewards handed out token by token, and what a critic makes of those to come."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlseq.config.rl import RLConfig
from rlseq.objectives.baselines import training_rewards

Floats = npt.NDArray[np.float64]


def rewards_before(config: RLConfig, potentials: Floats) -> Floats:
    """What was handed out before each token, where rewards are the increments of a potential.

    The reward at token t is Φ_t − Φ_{t−1} (Ng, Harada & Russell 1999; with BLEU as Φ: Bahdanau et al. 2017);
    Φ is 0 where nothing is there yet and the reward R at the end, so that all increments are R together and those from
    t on R − Φ_{t−1}. As a baseline is, Φ_{t−1} is known before the token.

    Args:
        config: The phase's section; potentials are clipped and scaled as rewards are.
        potentials: (batch_size, K, time) Φ after each token, in the task's units.

    Returns:
        (batch_size, K, time) Φ_{t−1}, of any value beyond a length.
    """
    before = np.zeros_like(potentials)
    before[:, :, 1:] = training_rewards(config, potentials[:, :, :-1])
    return before


def generalised_advantages(errors: Tensor, decay: float) -> Tensor:
    """Generalised advantage estimation: A_t = Σ_l λ^l δ_{t+l} (Schulman et al. 2016, eq. 16, with γ = 1).

    δ_t = r_t + V_{t+1} − V_t, the value after the last token being 0, is what the errors e_t = r_t + r_{t+1} + … − V_t
    fall by: e_t − e_{t+1}.

    Args:
        errors: (rows, time) return to go less the critic's value, 0 beyond a length; of any scale.
        decay: λ; 1 gives the errors themselves.

    Returns:
        (rows, time).
    """
    advantages, later, error = [], errors.new_zeros(len(errors)), errors.new_zeros(len(errors))
    for column in reversed(errors.unbind(1)):
        later, error = column - error + decay * later, column
        advantages.append(later)
    return torch.stack(advantages[::-1], 1)
