"""``rlseq sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlseq.api.checks import refuse
from rlseq.cli.common import ConfigName, Debug, Trusted, guarded, option

EXAMPLES = [
    "rlseq sweep hull 'rl.optimizer.learning_rate=loguniform(1e-5, 1e-3)' --trials 20 --run runs/hull-sweep",
    "rlseq sweep hull 'rl.samples=choice(2, 4, 8)' 'rl.temperature=uniform(0.5, 1)' --jobs 2 --run runs/samples",
    "rlseq sweep --resume runs/hull-sweep",
]


@guarded
def sweep(
    config: ConfigName = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="a.b=c",
            help="Keys of the configuration to change. Keys of mle, rl and policy may have a distribution: "
            "uniform(low, high), loguniform(low, high), randint(low, high), choice(a, b, ...).",
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", metavar="DIR", help="The sweep's directory.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with a sweep where it stopped.")] = None,
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Settings to draw.")] = 20,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Trainings side by side.")] = 1,
    trust: Trusted = False,
    debug: Debug = False,
) -> None:
    """Draw settings, train each, and say what the best one on validation brought.

    Each trial is a run of its own inside DIR. Trials that fall behind are stopped early (ASHA, on Ray Tune). If only
    keys of rl are swept, all trials begin with one mle. The report compares the best trial with mle on held-out
    instances, and says how many were tried.
    """
    from rlseq.api import sweeping

    refuse(sweeping.sweep_problems(config, overrides or [], run, resume, trials, jobs, option))
    made = sweeping.sweep(config, overrides or [], run=run, resume=resume, trials=trials, jobs=jobs, trust=trust)

    from rlseq.cli.study import report

    report(made)
