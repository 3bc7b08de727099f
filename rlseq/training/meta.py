"""What meta.json of a checkpoint has to hold: checked once, where it is read, and trusted from there on."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlseq.config.phases import Phase
from rlseq.models.spaces import TaskSpaces

Count = Annotated[int, Field(ge=0, lt=1 << 60)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class Trainer(_Section):
    """What the trainer goes on from; sums, monitors and baseline have types of their own."""

    phase: Phase
    update: Count
    phase_update: Count
    started: bool
    finished: bool
    validating: bool = False
    best: Finite | None
    best_update: Annotated[int, Field(ge=-1, lt=1 << 60)]
    best_metrics: dict[str, float]
    validations_without_best: Count
    recoveries: Count
    rate_scale: Annotated[float, Field(ge=0, le=1)]
    mle_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    sums: dict[str, tuple[float, Count]] = {}
    cpu_seconds: dict[Phase, Finite] = {}
    samples: Count = 0
    reward_calls: Count = 0
    peak_memory_mib: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    monitors: dict[str, dict[str, Any]] = {}
    baseline: dict[str, float] = {}
    running_mean: dict[str, float] = {}  # the baseline's name in earlier versions


class Meta(_Section):
    """The whole of meta.json."""

    config: dict[str, Any]
    spaces: dict[str, Any]
    signature: str
    phase: Phase
    update: Count
    phase_update: Count
    trainer: Trainer
    metrics: dict[str, float]
    best: bool
    versions: dict[str, Any]
    weights: Literal["policy/", "average/"]


def wrong_in_meta(meta: dict[str, Any]) -> list[str]:
    """What is wrong with it, a line for each key."""
    try:
        checked = Meta.model_validate_json(json.dumps(meta))  # as JSON: a list may stand for a tuple
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    wrong = [
        f"trainer.{key} is {theirs}, {key} is {ours}"
        for key in ("phase", "update", "phase_update")
        if (theirs := getattr(checked.trainer, key)) != (ours := getattr(checked, key))
    ]
    try:
        TaskSpaces.from_dict(checked.spaces)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        wrong.append(f"spaces: cannot be read ({error!r})")
    return wrong
