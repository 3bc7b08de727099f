"""``rlseq compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rlseq.api.checks import check_device, data_problems, refuse
from rlseq.api.comparing import arm_problems
from rlseq.api.decoding import Decoding, decoding_problems
from rlseq.cli.common import (
    Debug,
    Device,
    Json,
    Trusted,
    check_writable,
    console,
    guarded,
    option,
    write_json,
    write_text,
)
from rlseq.cli.decoding import with_decoding
from rlseq.cli.evaluate import DATA, MaxInstances, Split, SplitChoice

EXAMPLES = [
    "rlseq compare runs/mine/checkpoints/mle runs/mine/checkpoints/rl --json both.json",
    "rlseq compare runs/hull-study --curves --html report.html",
    "rlseq compare --arm mle=runs/m0,runs/m1 --arm rl=runs/r0,runs/r1 --control constant_reward=runs/c0,runs/c1",
]

Named = list[str] | None


@guarded
@with_decoding
def compare(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="CKPT CKPT a.b=c",
            help=f"Checkpoints or runs, each an arm; or one study's directory. {DATA}",
        ),
    ] = None,
    arm: Annotated[
        Named, typer.Option(metavar="NAME=CKPT,...", help="An arm: its checkpoints or runs, one a seed.")
    ] = None,
    control: Annotated[
        Named, typer.Option(metavar="NAME=CKPT,...", help="An arm that shows what happens without the reward.")
    ] = None,
    hypotheses: Annotated[
        Named, typer.Option(metavar="NAME=FILE", help="Outputs of another system, one line an instance.")
    ] = None,
    name: Annotated[Named, typer.Option(metavar="NAME", help="What to call a CKPT; once for each, in order.")] = None,
    json: Json = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything as one page.")] = None,
    latex: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables for a paper.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures, one a line.")] = None,
    split: Split = SplitChoice.test,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="The metric that decides; default: the one that selects.")
    ] = None,
    curves: Annotated[bool, typer.Option("--curves", help="Also beams of 1 to 16, and the best of 1 to 64.")] = False,
    resamples: Annotated[int, typer.Option(min=1, metavar="N", help="Of the bootstrap and the randomisation.")] = 1000,
    resampling_seed: Annotated[int, typer.Option(min=0, metavar="SEED", help="Of both.")] = 12345,
    *,
    decoding: Decoding,
    max_instances: MaxInstances = None,
    device: Device = "auto",
    trust: Trusted = False,
    debug: Debug = False,
) -> None:
    """Decode arms on the same instances and say what the reward brought.

    Runs of several seeds make one arm, and intervals then hold for other seeds, too. The gain of rl counts as the
    reward's if it is also a gain over the best control. Without controls, arms are compared each with each.
    """
    overrides = [str(given) for given in checkpoints or [] if str(given).startswith("task.") and "=" in str(given)]
    checkpoints = [path for path in checkpoints or [] if str(path) not in overrides]
    wrong = data_problems(overrides)
    arms, controls = (_named(option(which), values, wrong) for which, values in (("arms", arm), ("controls", control)))
    files_of = {called: places[0] for called, places in _named("--hypotheses", hypotheses, wrong).items()}
    wrong += arm_problems(checkpoints, name or [], arms, controls, files_of, option)
    wrong += decoding_problems(decoding, option)
    files = [json, html, latex, csv]
    refuse(wrong + [p for file in files for p in check_writable(file)] + check_device(device, "--device"))

    from rlseq.api.comparing import compare
    from rlseq.report.comparison import comparison_report

    comparison = compare(
        checkpoints,
        arms=arms,
        controls=controls,
        hypotheses=files_of,
        names=name or [],
        split=split.value,
        metric=metric,
        max_instances=max_instances,
        curves=curves,
        resamples=resamples,
        resampling_seed=resampling_seed,
        overrides=overrides,
        device=device,
        trust=trust,
        **decoding,
    )
    result = comparison.to_json()
    if json:
        write_json(json, result)
    _write_reports(result, html, latex, csv)
    console(*files).print(*comparison_report(result), sep="\n")


def _named(flag: str, values: Named, wrong: list[str]) -> dict[str, list[str]]:
    """The places of each name of an option that may be given several times; what is no such value becomes a problem."""
    named: dict[str, list[str]] = {}
    for value in values or []:
        name, _, given = value.partition("=")
        is_file = flag == "--hypotheses"
        places = [given] if is_file else given.split(",")
        if not name or not all(places):
            wrong.append(f"{flag} {value}: give NAME={'FILE' if is_file else 'CKPT,CKPT'}")
        elif name in named:
            wrong.append(f"{flag} {value}: there is a {flag} {name} already; give another name, or both behind one")
        else:
            named[name] = places
    return named


def _write_reports(result: dict[str, Any], html: Path | None, latex: Path | None, csv: Path | None) -> None:
    if html or latex or csv:
        from rlseq.report.page import comparison_csv, comparison_latex, comparison_page

        for path, make in ((html, comparison_page), (latex, comparison_latex), (csv, comparison_csv)):
            if path:
                write_text(path, make(result))
