"""Sources to what decoders read, alike for rollouts, validation and evaluation."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch

from rlseq.models.layers.linear import fast_matmul
from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy
from rlseq_envs.source import Source


def encode_sources(policy: SequencePolicy, source: Source[npt.NDArray[Any]], device: torch.device | str) -> Memory:
    """Sources as a task gives them, encoded with their graph.

    The graph is built even if nobody needs it. Without one torch picks other kernels, whose rounding differs, and
    decoding would not agree with the update that scores what was decoded.
    """
    with torch.enable_grad(), fast_matmul():
        return policy.encode(source.map(lambda values: torch.from_numpy(values).to(device)))
