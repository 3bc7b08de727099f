"""What is told of a training that cannot go on as it is, and the command that helps."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch

from rlseq.config.phases import Phase, PhaseConfig
from rlseq.training.engine import TrainingError, WorkersFailed

# What torch says, in errors of no kind of their own, if it gets no memory of the machine, or of a GPU for its products.
_SIGNS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, of a GPU or of the machine."""
    told = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
    return told or isinstance(error, torch.OutOfMemoryError | MemoryError)


def beyond_recovery(why: str, phase: Phase, section: PhaseConfig, source: Path | None) -> TrainingError:
    """Of a phase that has nothing to go back to, or went back too often.

    Args:
        why: What is wrong.
        phase: In which.
        section: Of it.
        source: The checkpoints that it can begin anew from; None: there is none.
    """
    optimizer = section.optimizer
    key = f"{phase}.optimizer.learning_rate"
    if source is None:
        return TrainingError(f"{why}. Nothing was trained yet: check the data and the network, or lower {key}")
    rate = min(optimizer.learning_rate / 10, type(section).model_fields["optimizer"].default.learning_rate)
    changes = f"{key}={rate:g}"
    if optimizer.weight_decay * rate > 1.0:  # a step would turn the weights around
        changes += f" {phase}.optimizer.weight_decay=0"
    command = _anew(source, phase, changes)
    return TrainingError(f"{why}. Smaller steps from the best checkpoint: {command}", go_on=command)


def short_of_memory(
    error: Exception, phase: Phase, section: PhaseConfig, shard_size: int, source: Path | None
) -> WorkersFailed:
    """Of a phase whose work does not fit into memory; as ``beyond_recovery``, with ``compute.shard_size``."""
    why = f"memory ran out: {str(error).partition(chr(10))[0] or type(error).__name__}"
    changes = f"{phase}.accumulation={2 * section.accumulation} compute.shard_size={max(1, shard_size // 2)}"
    if source is None:
        return WorkersFailed(f"{why}. Nothing was trained yet: begin anew with {changes}")
    command = _anew(source, phase, changes)
    return WorkersFailed(f"{why}. In smaller parts from the best checkpoint: {command}", go_on=command)


def _anew(source: Path, phase: Phase, changes: str) -> str:
    return f"rlseq train --from {shlex.quote(str(source))} --phase {phase} {changes}"
