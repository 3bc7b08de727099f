"""What a checkpoint is, as far as it can be said without executing anything that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from rlseq.config.errors import UserError
from rlseq.config.load import parse_config
from rlseq.config.named_code import named_code
from rlseq.config.schema import Config
from rlseq.config.upgrade import upgrade
from rlseq.training.checkpoint import (
    ARTIFACTS,
    MANIFEST,
    META,
    POLICY,
    STATE,
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_meta,
    verify,
)
from rlseq.training.finding import read_checkpoint, run_of
from rlseq.training.progress import best_validation
from rlseq.training.remote import fetched
from rlseq.training.trust import is_trusted
from rlseq_envs.user_code import find_module

_LARGEST = 1 << 26  # bytes of a JSON file that is looked at though nothing vouches for it


def inspect_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint is, JSON-ready; keys whose values cannot be found out are null or empty.

    Args:
        path: The checkpoint, or a run or phase for its best one.

    Returns:
        See docs/reference/checkpoints.md. ``error`` says what keeps it from being decoded with, and is null if nothing
        does; ``resume_error`` likewise of resuming.

    Raises:
        CheckpointError: There is nothing that could be one.
    """
    path = fetched(path)
    try:
        return read_checkpoint(path, _inspect)
    except CheckpointError:
        if not any((path / name).exists() for name in (META, POLICY, MANIFEST)):
            raise
        return _inspect(path)  # one without a manifest


def _inspect(place: Path) -> dict[str, Any]:
    checkpoint, error = _loaded(place)
    meta = checkpoint.meta if checkpoint else _object(place / META)
    config, wrong_config = _config(meta, place)
    trainer = meta.get("trainer")
    return {
        "checkpoint": str(place),
        "format": _object(place / MANIFEST).get("format"),
        **{key: meta.get(key) for key in ("phase", "update", "phase_update")},
        "selected": _selected(meta, trainer if isinstance(trainer, dict) else {}),
        "task": _task(config),
        "network": _network(config, checkpoint),
        "signature": _signature(meta, config, checkpoint),
        "files": _sizes(place),
        "made_with": _made_with(place, meta),
        "code": _code(meta),
        "error": error or wrong_config,
        "resume_error": error or wrong_config or _wrong_state(place),
    }


def _loaded(place: Path) -> tuple[Checkpoint | None, str | None]:
    try:
        return load_checkpoint(place), None
    except UserError as error:
        return None, str(error)


def _wrong_state(place: Path) -> str | None:
    try:
        verify(place, resume=True)
    except UserError as error:
        return str(error)
    return None


def _object(path: Path) -> dict[str, Any]:
    """A JSON object, if the file is a plain one of a sensible size."""
    with suppress(OSError, ValueError, RecursionError, UserError):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST:
            found = load_meta(path.parent) if path.name == META else json.loads(path.read_bytes())
            return found if isinstance(found, dict) else {}
    return {}


def _config(meta: Mapping[str, Any], place: Path) -> tuple[Config | None, str | None]:
    if not isinstance(meta.get("config"), dict):
        return None, None  # what is wrong with it was told when it was loaded
    try:
        return parse_config(meta["config"], str(place / META)), None
    except UserError as error:
        return None, str(error)


def _selected(meta: Mapping[str, Any], trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Whether it was its phase's best when it was written; the best until then, and in which metric."""
    metric, value = best_validation(trainer)
    return {
        "best": meta.get("best"),
        "metric": metric,
        "best_value": value,
        "best_update": trainer.get("best_update"),
        "metrics": meta.get("metrics") or {},
    }


def _task(config: Config | None) -> dict[str, Any]:
    """Its type and the settings that are not the default."""
    if config is None:
        return {}
    written = config.model_dump(mode="json")["task"]
    changed = {}
    for field in fields(config.task):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if getattr(config.task, field.name) != default:
            changed[field.name] = written[field.name]
    return {"type": config.task.type, **changed}


def _network(config: Config | None, checkpoint: Checkpoint | None) -> dict[str, Any]:
    arrays = list(checkpoint.weights.values()) if checkpoint else []
    counted = {
        "weights": sum(array.size for array in arrays) if checkpoint else None,
        "types": sorted({str(array.dtype) for array in arrays}),
    }
    if config is None:
        return counted
    return config.policy.described() | counted


def _signature(meta: Mapping[str, Any], config: Config | None, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """What the task was worth, and is worth today; only a task of the user's has to be imported to know."""
    found: dict[str, Any] = {"recorded": meta.get("signature"), "now": None, "differences": None}
    if config is None or checkpoint is None or config.task.type == "custom":
        return found

    from rlseq.data.tasks import make_task, signature_difference  # metrics and kernels: only a sound one needs them

    try:
        now = make_task(config.task, checkpoint.artifacts).signature
    except (ValueError, OSError) as error:
        return found | {"differences": str(error)}
    return found | {"now": now, "differences": signature_difference(meta["signature"], now) or None}


def _sizes(place: Path) -> dict[str, int]:
    """Bytes of its files; links are not followed."""
    names = [place / name for name in (MANIFEST, META, POLICY, STATE)]
    inside = sorted((place / ARTIFACTS).rglob("*")) if not (place / ARTIFACTS).is_symlink() else []
    found = [path for path in (*names, *inside) if path.is_file() and not path.is_symlink()]
    return {path.relative_to(place).as_posix(): path.stat().st_size for path in found}


def _made_with(place: Path, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Versions, and what environment.json of the run that it lies in says."""
    run = run_of(place)
    record = _object(run / "environment.json") if run else {}
    return {"versions": meta.get("versions") or {}} | {
        key: record.get(key) for key in ("commit", "command", "time", "host", "forked_from")
    }


def _code(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    config = meta.get("config")
    if not isinstance(config, dict):
        return []
    with suppress(KeyError, TypeError, ValueError, AttributeError):  # a configuration of no version
        config = upgrade(config)
    listed = []
    for named in named_code(config):
        file = find_module(named.module) if named.module else None
        trusted = is_trusted(named, file)
        listed.append({**named._asdict(), "file": str(file) if file else None, "trusted": trusted})
    return listed
