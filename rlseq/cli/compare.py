"""``rlseq compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlseq.cli.common import (
    Debug,
    Device,
    Json,
    blaming_input,
    check_checkpoint,
    check_device,
    check_writable,
    console,
    guarded,
    refuse,
    write_json,
    write_text,
)
from rlseq.cli.decoding import DecodingFlags, with_decoding
from rlseq.cli.evaluate import MaxInstances, Split, SplitChoice

if TYPE_CHECKING:
    from rlseq.evaluation.arms import ArmSpec

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
        typer.Argument(metavar="CKPT CKPT", help="Checkpoints or runs, each an arm; or one study's directory."),
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
    decoding: DecodingFlags,
    max_instances: MaxInstances = None,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Decode arms on the same instances and say what the reward brought.

    Runs of several seeds make one arm, and intervals then hold for other seeds, too. The gain of rl counts as the
    reward's if it is also a gain over the best control. Without controls, arms are compared each with each.
    """
    named = {"--arm": arm or [], "--control": control or [], "--hypotheses": hypotheses or []}
    files = [json, html, latex, csv]
    wrong = _problems(checkpoints or [], name, named) + decoding.problems()
    refuse(wrong + [problem for file in files for problem in check_writable(file)] + check_device(device))

    from rlseq.evaluation.compare import compare
    from rlseq.report.comparison import comparison_report

    with blaming_input():
        comparison = compare(
            _arms(checkpoints or [], name, named),
            split=split.value,
            decoding=decoding.options(),
            max_instances=max_instances,
            primary=metric,
            seed=resampling_seed,
            resamples=resamples,
            curves=curves,
            device=device,
        )
    result = comparison.to_json()
    if json:
        write_json(json, result)
    _write_reports(result, html, latex, csv)
    console(*files).print(*comparison_report(result), sep="\n")


def _problems(checkpoints: list[Path], names: Named, named: dict[str, list[str]]) -> list[str]:
    """All that can be seen to be wrong before anything is loaded."""
    studies = [path for path in checkpoints if _is_study(path)]
    wrong = [problem for path in checkpoints if path not in studies for problem in check_checkpoint(path)]
    for option, values in named.items():
        for value in values:
            called, _, places = value.partition("=")
            is_file = option == "--hypotheses"
            if not called or not all(places.split(",")):
                wrong.append(f"{option} {value}: give NAME={'FILE' if is_file else 'CKPT,CKPT'}")
                continue
            check = _check_file if is_file else check_checkpoint
            found = [problem for place in _places(option, places) for problem in check(place)]
            wrong += [f"{option} {called}: {problem}" for problem in found]
    if names and len(names) != len(checkpoints):
        wrong.append(f"{len(names)} names for {len(checkpoints)} checkpoints: give one --name for each")
    count = len(checkpoints) + sum(map(len, named.values()))
    if count < 2 and not studies:
        which = "one checkpoint is no comparison" if count else "nothing to compare"
        wrong.append(f"{which}: give two or more, --arm NAME=CKPT,..., or a study's directory")
    if studies and len(checkpoints) > 1:
        wrong.append(f"{studies[0]} is a study, which has several arms: give further ones with --arm or --control")
    return wrong


def _places(option: str, places: str) -> list[Path]:
    return [Path(places)] if option == "--hypotheses" else [Path(place) for place in places.split(",")]


def _check_file(path: Path) -> list[str]:
    return [] if path.is_file() else [f"{path}: no such file"]


def _is_study(path: Path) -> bool:
    return (path / "study.json").is_file()


def _arms(checkpoints: list[Path], names: Named, named: dict[str, list[str]]) -> list[ArmSpec]:
    from rlseq.evaluation.arms import ArmSpec, arms_of_checkpoints, study_arms

    is_study = any(map(_is_study, checkpoints))
    arms = study_arms(checkpoints[0]) if is_study else arms_of_checkpoints(checkpoints, names)
    for option, values in named.items():
        for value in values:
            called, _, places = value.partition("=")
            found = tuple(_places(option, places))
            if option == "--hypotheses":
                arms.append(ArmSpec(called, hypotheses=found[0]))
            else:
                arms.append(ArmSpec(called, found, "control" if option == "--control" else None))
    return arms


def _write_reports(result: dict[str, Any], html: Path | None, latex: Path | None, csv: Path | None) -> None:
    if html or latex or csv:
        from rlseq.report.page import comparison_csv, comparison_latex, comparison_page

        for path, make in ((html, comparison_page), (latex, comparison_latex), (csv, comparison_csv)):
            if path:
                write_text(path, make(result))
