"""What the decoder reads in place of the reference's tokens while it learns from a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class PolicyTokens:
    """Tokens of the policy's own in place of some of the reference's: scheduled sampling (Bengio et al. 2015, fig. 1).

    Attributes:
        rows: Of each step, the rows (n,) that read a token of the policy's own. At the first step there is none.
        choose: That token (n,), from the logits (n, choices) it follows, the rows (n,) and the step that reads it.
    """

    rows: list[Tensor]
    choose: Callable[[Tensor, Tensor, int], Tensor]


# "distribution": the expected embedding of the next token under the policy, through which a gradient passes.
Feeding = PolicyTokens | Literal["distribution"]
