"""What tells one run from another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlseq.config.schema import Config

Value = str | float | bool


def hyperparameters(config: Config) -> dict[str, Value]:
    """A run's name, its seed and every key changed, with dots; values as tables of runs can show them."""
    changed = config.model_dump(mode="json", exclude_defaults=True)
    return {"name": config.name, "seed": config.seed, **dict(_flat(changed, ""))}


def _flat(section: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Value]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, int | float | str) else str(value)
