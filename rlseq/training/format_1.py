"""Checkpoints of format 1, whose networks named their weights in another way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

# The first part of a parameter's name, then and now.
_NAMES = {
    "attention": "decoder.attention",
    "begin": "output.begin",
    "bridge": "decoder.bridge",
    "combine": "readout.combine",
    "decoder": "decoder.lstm",
    "embed": "embedding.linear",
    "encoder": "encoder.lstm",
    "end": "output.end",
    "first_state": "decoder.first_state",
    "output_bias": "output.bias",
    "output_weight": "output.weight",
    "source_embedding": "embedding.table",
    "target_embedding": "output.embedding.table",
}
_OLD = re.compile(rf"(^|/)({'|'.join(_NAMES)})(?=[./]|$)")


def renamed(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Tensors by the names of today, which may stand behind ``policy/``, ``optimizer/`` or the like."""
    return {_OLD.sub(lambda old: old[1] + _NAMES[old[2]], name, count=1): value for name, value in tensors.items()}
