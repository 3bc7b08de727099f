"""The configuration of a training, complete and checked; nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlseq.config.controls import CONTROLS
from rlseq.config.errors import UserError
from rlseq.config.load import Given, data_files, load_config, names_data, origin_of, parse_config, with_data
from rlseq.config.schema import Config
from rlseq.training.checkpoint import META, Checkpoint
from rlseq.training.run_directory import run_config


def new_settings(given: Given, overrides: Sequence[str], control: str | None, *, mle_only: bool) -> Config:
    """Of a training from scratch."""
    return _controlled(load_config(given, _phases(overrides, mle_only)), control, origin_of(given))


def resumed_settings(run: Path, overrides: Sequence[str]) -> Config:
    """Of a run that goes on, with other keys of ``compute`` and data files at other places."""
    files = data_files([each for each in overrides if names_data(each)])
    config = with_data(run_config(run).model_dump(mode="json"), files)
    return parse_config(config, str(run / "config.yaml"), [each for each in overrides if not names_data(each)])


def checkpoint_settings(checkpoint: Checkpoint) -> Config:
    """What a checkpoint was trained with."""
    return parse_config(checkpoint.meta["config"], str(checkpoint.directory / META))


def forked_settings(
    checkpoint: Checkpoint, given: Given | None, overrides: Sequence[str], control: str | None, *, mle_only: bool
) -> Config:
    """Of a phase that starts from a checkpoint: the given configuration, or the checkpoint's if none is."""
    origin = str(checkpoint.directory) if given is None else origin_of(given)
    keys = _phases(overrides, mle_only)
    config = parse_config(checkpoint.meta["config"], origin, keys) if given is None else load_config(given, keys)
    return _controlled(config, control, origin)


def _phases(overrides: Sequence[str], mle_only: bool) -> list[str]:
    return [*overrides, "rl.updates=0"] if mle_only else [*overrides]


def _controlled(config: Config, control: str | None, origin: str) -> Config:
    """The configuration of a control of a run."""
    if control is None:
        return config
    if not CONTROLS[control].applies(config):
        raise UserError(f"--control {control}: rl sees the instances of cross-entropy, so there is nothing to control")
    return parse_config(config.model_dump(mode="json"), origin, CONTROLS[control].overrides(config))
