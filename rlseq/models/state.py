"""What a decoder carries from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

State = Any  # a tensor, or a tuple of states such as a NamedTuple; every tensor has the rows first


def select_rows(state: State, rows: Tensor) -> State:
    """The state of some rows, (rows,), in the order given; rows may repeat."""
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    return _like(state, [select_rows(part, rows) for part in state])


def join_rows(states: Sequence[State]) -> State:
    """States of the same decoder as one, their rows behind each other."""
    if isinstance(states[0], Tensor):
        return torch.cat(list(states))
    return _like(states[0], [join_rows(parts) for parts in zip(*states, strict=True)])


def _like(state: State, parts: list[State]) -> State:
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
