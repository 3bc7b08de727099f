"""What a run tells about a checkpoint: what it cost, how it was selected, and how validation went before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlseq.training.checkpoint import load_meta
from rlseq.training.finding import read_checkpoint, run_of
from rlseq.training.index import best_update
from rlseq.training.run_directory import read_metrics


@dataclass(frozen=True)
class History:
    """Where a checkpoint came from.

    Attributes:
        cost: updates, samples, cpu_seconds, reward_calls and peak_memory_mib of its run until the end of its phase,
            parents of a fork included; None if the run did not note it.
        selection: How the checkpoint was selected, as a clause.
        curve: The validations of its run, {update, value} each, of the metric that selects.
    """

    cost: dict[str, float | None]
    selection: str
    curve: list[dict[str, float]]


def read_history(checkpoint: Path, meta: Mapping[str, Any], metric: str) -> History:
    """Read what is there; a checkpoint outside a run has only its own counters.

    Args:
        checkpoint: The checkpoint's directory.
        meta: Its meta.json.
        metric: The metric that selects.
    """
    phase, update = meta["phase"], int(meta["update"])
    run = run_of(checkpoint)
    records = read_metrics(run / "metrics.jsonl") if run else []
    curve = [
        {"update": record["update"], "value": value}
        for record in records
        if (value := record.get(f"eval/{metric}")) is not None and record.get("phase") in ("mle", phase)
    ]
    validations = sum(f"eval/{metric}" in record and record.get("phase") == phase for record in records)
    is_best = run is not None and best_update(checkpoint.parent) == update
    if is_best and validations:
        selection = f"best of {validations} validations by {metric} on validation (update {update})"
    else:
        selection = f"best by {metric} on validation (update {update})" if is_best else f"given (update {update})"
    last = read_checkpoint(checkpoint.parent / "latest", load_meta) if run else meta
    return History(_cost(last), selection, curve)


def _cost(meta: Mapping[str, Any]) -> dict[str, float | None]:
    trainer: Mapping[str, Any] = meta.get("trainer", {})
    seconds = trainer.get("cpu_seconds")
    return {
        "updates": meta["update"],
        "samples": trainer.get("samples"),
        "cpu_seconds": sum(seconds.values()) if seconds else None,
        "reward_calls": trainer.get("reward_calls"),
        "peak_memory_mib": trainer.get("peak_memory_mib"),
    }
