"""The arms of a comparison: which checkpoints belong to one, and what part it plays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from rlseq.config.controls import CONTROLS
from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.loading import checkpoint_names
from rlseq.training.checkpoint import load_meta
from rlseq.training.finding import read_checkpoint
from rlseq.training.study import RECORD

Role = Literal["mle", "reward", "control", "other"]
_CALLED: dict[str, Role] = {"mle": "mle", "rl": "reward", "control": "control", **dict.fromkeys(CONTROLS, "control")}


@dataclass(frozen=True)
class ArmSpec:
    """Who is compared.

    Attributes:
        name: Unique among the arms.
        checkpoints: One a seed: checkpoints, or runs for their best ones.
        role: Where cross-entropy ended, what the reward brought, a control, or neither; None: found by name, then by
            what the checkpoint was trained with.
        hypotheses: A file with the outputs of another system, one line an instance, in place of checkpoints.
        chosen: How the arm's settings were chosen, as a clause; empty if they were given.
    """

    name: str
    checkpoints: tuple[Path, ...] = ()
    role: Role | None = None
    hypotheses: Path | None = None
    chosen: str = ""

    def role_of(self, meta: Mapping[str, Any] | None) -> Role:
        """The arm's role.

        Args:
            meta: Of its first checkpoint; None for the outputs of another system.
        """
        if self.role or self.name in _CALLED:
            return self.role or _CALLED[self.name]
        return "reward" if meta and rewards_of(meta) else "other"


def rewards_of(meta: Mapping[str, Any]) -> list[str]:
    """The names of the rewards that a checkpoint was trained on; none if only cross-entropy or a made-up reward was."""
    config = meta["config"]
    if meta["phase"] != "rl" or config["rl"].get("reward_source", "task") != "task":
        return []
    weights = config["task"].get("reward")
    return [name for name, weight in weights.items() if weight] if weights else ["reward"]


# ---------------------------------------------------------------------------------------------------- ways to name them
def arms_of_checkpoints(paths: Sequence[Path | str], names: Sequence[str] | None = None) -> list[ArmSpec]:
    """One arm of one seed for each checkpoint.

    Args:
        paths: Checkpoints or run directories.
        names: One for each; default: the shortest that tell them apart (``mle`` and ``rl``).

    Raises:
        EvaluationError: Names are not unique, or not one for each.
        CheckpointError: A checkpoint is missing or damaged.
    """
    called = list(names) if names else _shortest_names(paths) if paths else []
    if len(called) != len(paths):
        raise EvaluationError(f"{len(called)} names for {len(paths)} checkpoints: give one for each")
    return [ArmSpec(name, (Path(path),)) for name, path in zip(called, paths, strict=True)]


def _shortest_names(paths: Sequence[Path | str]) -> list[str]:
    called = [read_checkpoint(Path(path), lambda place: checkpoint_names(place, load_meta(place))) for path in paths]
    candidates = list(zip(*called, strict=True))
    return list(next((names for names in candidates if len(set(names)) == len(names)), candidates[-1]))


def study_arms(directory: Path) -> list[ArmSpec]:
    """The arms of a study, as its study.json lists them.

    Raises:
        EvaluationError: The file is missing, unfinished or of another form, or runs that it names are missing.
    """
    path = directory / RECORD
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["arms"]
        arms = [_study_arm(directory, arm) for arm in listed]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvaluationError(f"{path}: cannot be read as a study ({error!r})") from error
    if not arms:
        raise EvaluationError(f"{path} lists no arms yet: finish it with rlseq study --resume {directory}")
    wrong = [f"{path}: {run} of {arm.name} is missing" for arm in arms for run in arm.checkpoints if not run.exists()]
    wrong += [f"{path}: {arm.name} has no runs" for arm in arms if not arm.checkpoints]
    if wrong:
        raise EvaluationError("\n".join(wrong))
    return arms


def _study_arm(directory: Path, arm: Mapping[str, Any]) -> ArmSpec:
    role = arm["role"]
    if role not in get_args(Role):
        raise ValueError(f"role {role!r} of {arm['name']}")
    chosen = ""
    if arm.get("tried", 1) > 1:
        settings = ", ".join(f"{key}={value}" for key, value in arm["selected"].items())
        chosen = f"{settings} chosen on validation among {arm['tried']} settings"
    return ArmSpec(str(arm["name"]), tuple(directory / run for run in arm["runs"]), cast(Role, role), chosen=chosen)


def check_arms(arms: Sequence[ArmSpec]) -> None:
    """Refuse arms that cannot be compared, with all that is wrong.

    Raises:
        EvaluationError: There are fewer than two, two have one name, or none has a checkpoint.
    """
    names = [arm.name for arm in arms]
    repeated = sorted({name for name in names if names.count(name) > 1})
    wrong = [] if len(arms) > 1 else [f"{len(arms)} arm given: a comparison needs two or more"]
    if repeated:
        wrong.append(f"two arms are called {', '.join(repeated)}: give each another name, or another checkpoint")
    if not any(arm.checkpoints for arm in arms):
        wrong.append("outputs of other systems are compared with a checkpoint's: give one")
    if wrong:
        raise EvaluationError("\n".join(wrong))
