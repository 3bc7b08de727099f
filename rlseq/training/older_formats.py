"""Checkpoints of formats before today's.

Format 1 named the weights of networks in another way. Formats 1 and 2 had what is known of a task in four sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from rlseq.models.spaces import TaskSpaces
from rlseq_envs.spaces import Choices, Space

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
    """Tensors of format 1 by the names of today, which may stand behind ``policy/``, ``optimizer/`` or the like."""
    return {_OLD.sub(lambda old: old[1] + _NAMES[old[2]], name, count=1): value for name, value in tensors.items()}


def spaces_of(shape: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the place of the ``shape`` of formats 1 and 2; lengths, which it did not have, are 0."""
    words = shape["source_vocabulary_size"]
    name = "points" if words is None else "text"
    field = Space.of_vectors(shape["source_features"], 0) if words is None else Space.of_tokens(words, 0)
    size = shape["vocabulary_size"]
    same_as = name if shape.get("shared_vocabulary") else None
    choices = Choices(0, size, points_to=name if size is None else None, same_as=same_as)
    return TaskSpaces({name: field}, choices).to_dict()
