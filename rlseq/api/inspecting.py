"""Say what a checkpoint is, without executing anything that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def inspect(path: Path | str) -> dict[str, Any]:
    """What a checkpoint is, as ``rlseq inspect`` says it; nothing that it names is imported.

    Args:
        path: A checkpoint, or a run for its best one.

    Returns:
        JSON-ready; docs/reference/checkpoints.md explains the keys. ``error`` is null if it is sound.

    Raises:
        UserError: There is nothing that could be a checkpoint.
    """
    from rlseq.training.inspection import inspect_checkpoint

    return inspect_checkpoint(Path(path))
