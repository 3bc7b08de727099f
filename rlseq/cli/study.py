"""``rlseq study``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlseq.api import studying
from rlseq.api.checks import refuse
from rlseq.cli.common import FAILED, ConfigName, Debug, Trusted, console, guarded, option, write_json
from rlseq.cli.train import ControlName

if TYPE_CHECKING:
    from rlseq.training.study import Study
    from rlseq.training.sweep import Sweep

EXAMPLES = [
    "rlseq study hull --seeds 3 --controls equal_time,constant_reward --run runs/hull-study",
    "rlseq study hull rl.optimizer.learning_rate=3e-4,1e-3 --jobs 2 --run runs/hull-rates",
    "rlseq study --resume runs/hull-study --seeds 5",
]


@guarded
def study(
    config: ConfigName = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="a.b=c",
            help="Keys of the configuration to change. Keys of mle and rl may have several values, a.b=c,d: "
            "the best on validation is taken.",
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", metavar="DIR", help="The study's directory.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with a study where it stopped.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, metavar="S", help="Runs of each arm; default: 3.")] = None,
    controls: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help=f"Some of {', '.join(ControlName)}, separated by commas, or none; "
            f"default: {','.join(studying.CONTROLS)}.",
        ),
    ] = None,
    equal_time_updates: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Updates of equal_time; default: what takes the time of mle and rl."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Trainings side by side.")] = 1,
    trust: Trusted = False,
    debug: Debug = False,
) -> None:
    """Train mle, rl and controls for several seeds, and say what the reward brought.

    Each arm of each seed is a run of its own inside DIR. The report compares all of them on held-out instances.
    A study that is resumed may be given more seeds and further controls.
    """
    names = None
    if controls is not None:
        names = [] if controls == "none" else list(dict.fromkeys(controls.split(",")))
    refuse(studying.study_problems(config, overrides or [], run, resume, names or [], equal_time_updates, _called))
    try:
        made = studying.study(
            config,
            overrides or [],
            run=run,
            resume=resume,
            seeds=seeds,
            controls=names,
            equal_time_updates=equal_time_updates,
            jobs=jobs,
            trust=trust,
        )
    except studying.TrainingsFailed as failed:
        print(failed, file=sys.stderr)
        raise typer.Exit(FAILED) from failed
    report(made)


def _called(name: str, value: object = None) -> str:
    """Controls are an option of a study, while they name arms of a comparison."""
    return f"--controls {value}" if name == "controls" else option(name, value)


def report(made: Study | Sweep) -> None:
    """Compare the arms on held-out instances; a page and JSON are written into the directory."""
    from rlseq.cli.closing import curves_command
    from rlseq.data.tasks import held_out, make_task
    from rlseq.evaluation.arms import study_arms
    from rlseq.evaluation.compare import compare
    from rlseq.report.comparison import comparison_report
    from rlseq.report.page import comparison_page
    from rlseq.training.remote import display_path
    from rlseq.training.trust import OWN, code_of

    config, arms, place, screen = made.config, study_arms(made.path), made.path / "report", console()
    split, limit = held_out(make_task(config.task, made.artifacts()))
    trusted = OWN.including(code_of(*made.configs()))  # the user's, or checked when it was resumed
    result = compare(arms, split=split, max_instances=limit, device=config.compute.device, trust=trusted).to_json()
    place.mkdir(exist_ok=True)
    write_json(place / "comparison.json", result)
    (place / "comparison.html").write_text(comparison_page(result), encoding="utf-8")
    screen.print(*comparison_report(result), sep="\n")
    screen.print(f"report: {display_path(place / 'comparison.html')}", soft_wrap=True)
    screen.print(curves_command(made.path), soft_wrap=True)
