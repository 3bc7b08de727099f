"""``rlseq train``."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rlseq.api.checks import refuse
from rlseq.cli.common import ConfigName, Debug, Trusted, guarded, option


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
    config: ConfigName = None,
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
        Path | None,
        typer.Option("--run", metavar="DIR", help="The run directory, or its URI; default: runs/<name>-<time>."),
    ] = None,
    save_before: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="Save and stop before this much time is over, for queues with a limit."),
    ] = None,
    trust: Trusted = False,
    debug: Debug = False,
) -> None:
    """Train with cross-entropy, then REINFORCE, and compare the two."""
    if config and "=" in config:
        overrides = [config, *(overrides or [])]
        config = None
    refuse(_problems(config, overrides or [], resume, source, phase, control, run, save_before))

    from rlseq.api import train as api

    if resume:
        finished = api.resume(resume, overrides or [], save_before=save_before, trust=trust)
    else:
        finished = api.train(
            config,
            overrides or [],
            source=source,
            phase=phase,
            control=control,
            run=run,
            save_before=save_before,
            trust=trust,
        )

    from rlseq.cli.closing import print_result

    with suppress(OSError):  # a terminal that is gone: what is printed lies in the run, too
        print_result(finished)


def _problems(
    config: str | None,
    overrides: list[str],
    resume: Path | None,
    source: Path | None,
    phase: PhaseName | None,
    control: ControlName | None,
    run: Path | None,
    save_before: float | None,
) -> list[str]:
    """Arguments that do not go together, all of them."""
    from rlseq.api.train import resume_problems, save_before_problems, train_problems

    wrong = save_before_problems(save_before, option)
    if not resume:
        return wrong + train_problems(config, overrides, source, phase, control, run, option)
    if source:
        wrong.append("--resume goes on with a run, --from starts a new one: give one of them")
    if config or phase or control or run:
        wrong.append(
            "--resume takes CONFIG, --phase, --control and --run from the run: leave them out; "
            "to change them, use --from"
        )
    return wrong + resume_problems(overrides, option)
