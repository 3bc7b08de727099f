"""Say whether rl is worth starting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlseq.api.checks import Naming, blaming_input, check_checkpoint, check_device, in_python, refuse
from rlseq.config.load import Given

if TYPE_CHECKING:
    from rlseq.config.schema import Config

LEAST = 20  # instances that say anything


def preflight(
    checkpoint: Path | str,
    config: Given | None = None,
    overrides: Sequence[str] = (),
    *,
    instances: int = 300,
    device: str = "auto",
    trust: bool = False,
) -> dict[str, Any]:
    """Measure whether rl is worth starting from a checkpoint, as ``rlseq preflight`` does.

    Args:
        checkpoint: A checkpoint, or a run for its best one.
        config: The configuration whose ``rl`` section is meant; default: the checkpoint's.
        overrides: Keys of ``rl`` and ``compute`` to change, ``a.b=c`` each.
        instances: Validation instances to look at.
        device: "cpu", "cuda", or "auto" for a GPU if there is one.
        trust: Whether code that the checkpoint names may be executed though no training of the user's has named it.

    Returns:
        JSON-ready: what was measured, each figure beside what it is judged by, and the ``verdict``, "sound" if it is.

    Raises:
        UserError: What is given cannot be used.
    """
    refuse(preflight_problems(checkpoint, overrides, instances, device, in_python))
    settings = _config(Path(checkpoint), config, overrides)

    import torch

    from rlseq.evaluation import preflight
    from rlseq.evaluation.evaluate import instance_ids
    from rlseq.evaluation.loading import load_policy
    from rlseq.evaluation.verdict import verdict
    from rlseq.training.trust import Trust

    with blaming_input():
        loaded = load_policy(checkpoint, device, trust=Trust.given(trust))
        ids = instance_ids(loaded, "validation", instances)
    if settings.compute.threads:
        torch.set_num_threads(settings.compute.threads)
    measured = preflight.preflight(loaded, settings, ids)
    return measured.to_json() | verdict(measured)


def preflight_problems(
    checkpoint: Path | str, overrides: Sequence[str], instances: int, device: str, called: Naming
) -> list[str]:
    """Arguments of ``preflight`` that cannot be used, all of them, under the names that ``called`` gives them."""
    foreign = [key for key in overrides if "=" in key and not key.startswith(("rl.", "compute."))]
    wrong = [f"{key}: only rl.* and compute.* can be changed here; the rest is the checkpoint's" for key in foreign]
    if instances < LEAST:
        wrong.append(f"{called('instances', instances)}: give {LEAST} or more")
    return wrong + check_checkpoint(Path(checkpoint)) + check_device(device, called("device"))


def _config(checkpoint: Path, given: Given | None, overrides: Sequence[str]) -> Config:
    """The checkpoint's configuration, with the rl section of the given one if there is one, and keys changed."""
    from rlseq.config.load import load_config, parse_config
    from rlseq.training.checkpoint import load_checkpoint
    from rlseq.training.finding import read_checkpoint

    saved = read_checkpoint(checkpoint, load_checkpoint)
    rl = {} if given is None else {"rl": load_config(given).rl.model_dump(mode="json")}
    return parse_config(saved.meta["config"] | rl, str(saved.directory), overrides)
