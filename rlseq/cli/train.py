"""``rlseq train``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rlseq.cli.common import Debug, guarded, refuse


class PhaseName(StrEnum):
    """A phase."""

    mle = "mle"
    rl = "rl"


class ControlName(StrEnum):
    """A control; ``rlseq.config.controls`` says what each is."""

    equal_time = "equal_time"
    constant_reward = "constant_reward"
    shuffled_reward = "shuffled_reward"
    same_instances = "same_instances"
    self_training = "self_training"


EXAMPLES = [
    "rlseq train hull",
    "rlseq train hull rl.samples=4 rl.optimizer.learning_rate=2e-4",
    "rlseq train --resume runs/hull-20260101-120000",
    "rlseq train --from runs/hull-20260101-120000/checkpoints/mle rl.baseline=greedy",
    "rlseq train --from runs/hull-20260101-120000/checkpoints/mle --control shuffled_reward",
]


@guarded
def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A shipped name (see `rlseq configs`) or a YAML file.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="a.b=c", help="Keys of the configuration to change.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run exactly where it stopped.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="CKPT", help="Start rl (or --phase mle) anew from a checkpoint or run."),
    ] = None,
    phase: Annotated[PhaseName | None, typer.Option(help="The only phase to train; rl needs --from.")] = None,
    control: Annotated[
        ControlName | None, typer.Option(help="Train a control instead: what comes of it without the reward.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="The run directory; default: runs/<name>-<time>.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Train with cross-entropy, then REINFORCE, and compare the two."""
    if config and "=" in config:
        overrides = [config, *(overrides or [])]
        config = None
    refuse(_problems(config, overrides, resume, source, phase, control, run))

    from rlseq.cli.settings import forked_settings, new_settings, resumed_settings
    from rlseq.training.checkpoint import load_checkpoint
    from rlseq.training.run_directory import resolve_checkpoint

    keys, mle_only = overrides or [], phase == PhaseName.mle
    checkpoint = load_checkpoint(resolve_checkpoint(source)) if source else None
    if resume:
        settings = resumed_settings(resume, keys)
    elif checkpoint:
        settings = forked_settings(checkpoint, config, keys, control, mle_only=mle_only)
    else:
        assert config is not None
        settings = new_settings(config, keys, control, mle_only=mle_only)

    from rlseq.cli import training  # torch and ray: once nothing is wrong

    if resume:
        training.go_on(resume, settings)
    elif checkpoint:
        training.fork(checkpoint, settings, "mle" if mle_only else "rl", run)
    else:
        training.start(settings, run)


def _problems(
    config: str | None,
    overrides: list[str] | None,
    resume: Path | None,
    source: Path | None,
    phase: PhaseName | None,
    control: ControlName | None,
    run: Path | None,
) -> list[str]:
    """Arguments that do not go together, all of them."""
    wrong = []
    if resume and source:
        wrong.append("--resume goes on with a run, --from starts a new one: give one of them")
    if resume and (config or phase or control or run):
        wrong.append(
            "--resume takes CONFIG, --phase, --control and --run from the run: leave them out; "
            "to change them, use --from"
        )
    elif not config and not resume and not source:
        wrong.append("give a CONFIG, such as hull; `rlseq configs` lists the shipped ones")
    if phase == PhaseName.rl and not source and not resume:
        wrong.append("--phase rl starts from a checkpoint: give one with --from")
    if control == ControlName.equal_time and source:
        wrong.append("--control equal_time trains from scratch: leave out --from")
    if control == ControlName.equal_time and not any(key.startswith("mle.updates=") for key in overrides or []):
        wrong.append(
            "--control equal_time is cross-entropy for the time of mle and rl together: say how long with "
            "mle.updates=N, or let rlseq study find it"
        )
    if control and phase:
        wrong.append(f"--control {control.value} says which phase it trains: leave out --phase")
    if run and run.exists():
        wrong.append(f"--run {run}: exists and is not overwritten; resume it, or give another directory")
    if resume:
        foreign = [override for override in overrides or [] if not override.startswith("compute.")]
        wrong += [f"{override}: only compute.* can change when a run is resumed; use --from" for override in foreign]
    return wrong
