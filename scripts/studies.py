"""The tables of docs/ that compare settings, made from runs: nothing in them is typed by hand.

    rlseq train hull rl.updates=0 --run runs/start
    python scripts/studies.py objectives --from runs/start --runs runs/objectives
    python scripts/studies.py exposure --runs runs/exposure
    python scripts/studies.py beams --mle CKPT --rl CKPT --runs runs/beams
    python scripts/studies.py coverage
    python scripts/studies.py tables [--check]

A study trains or decodes what its directory does not have yet and writes docs/studies/NAME.json; an interrupted one
goes on where it stopped. ``coverage`` needs no runs: it simulates the intervals of comparisons. ``tables`` rewrites the
documents from these files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocks import ROOT, replace_block, table, write_pages
from interval_coverage import coverage, coverage_table
from objectives_study import UNIT, objectives, objectives_table, refuse_unknown
from rlseq.training.provenance import environment
from study_runs import Arm, Result, evaluated, trained

STUDIES = ROOT / "docs" / "studies"


# --------------------------------------------------------------------------------------------------- exposure bias
MLE_UPDATES = {"hull": 2000, "translation": 1500}
RL_BUDGET = {
    "hull": ["rl.updates=1000", "rl.validate_every=250"],
    "translation": ["rl.updates=400", "rl.validate_every=50"],
}
STEEPNESS = {"hull": 430, "translation": 340}  # k of the inverse sigmoid that is 0.8 at the last update
TEACHER_FORCING = "teacher forcing"


def exposure_arms(task: str) -> list[Arm]:
    """What cross-entropy reads; each schedule has p fall from 1 to 0.8 over the phase."""
    updates = MLE_UPDATES[task]
    schedules = {
        "linear": f"{{schedule: linear, slope: {0.2 / updates:.3g}}}",
        "exponential": f"{{schedule: exponential, constant: {0.8 ** (1 / updates):.8f}}}",
        "inverse sigmoid": f"{{schedule: inverse_sigmoid, constant: {STEEPNESS[task]}}}",
    }
    return [
        Arm(TEACHER_FORCING, ()),
        *(Arm(f"scheduled sampling, {name}", (f"mle.scheduled_sampling={keys}",)) for name, keys in schedules.items()),
        Arm("feeding the distribution", ("mle.feed=distribution",)),
    ]


def exposure(runs: Path, tasks: Sequence[str]) -> Result:
    """Right tokens after the reference and after own output, for what cross-entropy can read, and for rl."""
    return {"tasks": [{"name": task, "arms": exposure_of_task(task, runs)} for task in tasks]}


def exposure_of_task(task: str, runs: Path) -> list[Result]:
    budget = [f"mle.updates={MLE_UPDATES[task]}", "rl.updates=0"]
    made = {
        arm.name: trained(runs / f"{task}-{arm.slug}", [task, *budget, *arm.settings]) for arm in exposure_arms(task)
    }
    start = made[TEACHER_FORCING] / "checkpoints" / "mle" / "best"
    made["teacher forcing, then rl"] = trained(runs / f"{task}-rl", ["--from", str(start), *RL_BUDGET[task]])
    return [{"name": name} | exposure_of(run) for name, run in made.items()]


def exposure_of(run: Path) -> Result:
    metrics = evaluated(run, run / "exposure.json", "--exposure-bias", "--max-instances", "4000")
    bias = metrics["exposure_bias"]
    return {key: bias[key] for key in ("teacher_forced", "free_running", "difference")} | {
        "metrics": metrics["metrics"]
    }


def exposure_table(result: Result) -> list[str]:
    """Per cent of the tokens of the test set's references."""
    shown = {"hull": "accuracy", "translation": "BLEU"}
    rows = [
        [
            task["name"] if index == 0 else "",
            arm["name"],
            *(f"{arm[key]:.1f}" for key in ("teacher_forced", "free_running", "difference")),
            f"{arm['metrics'][shown[task['name']]]:.1f}",
        ]
        for task in result["tasks"]
        for index, arm in enumerate(task["arms"])
    ]
    return table(["task", "", "forced", "free", "difference", "accuracy or BLEU"], rows)


# -------------------------------------------------------------------------------------------------------- beam sizes
SIZES = (1, 2, 4, 8, 16, 32)
PENALTIES = (0, 1)


def beams(checkpoints: dict[str, Path], runs: Path) -> Result:
    """Greedy decoding and wider and wider beams, ranked by log-probability and by its mean a token."""
    runs.mkdir(parents=True, exist_ok=True)
    decodings = {"greedy": ["--greedy"]} | {
        f"beam {size}, A = {penalty}": ["--beam", str(size), "--length-penalty", str(penalty)]
        for size in SIZES
        for penalty in PENALTIES
    }
    arms = []
    for name, options in decodings.items():
        arm: Result = {"name": name, "options": options}
        for phase, checkpoint in checkpoints.items():
            made = runs / f"{phase}-{'-'.join(options).replace('--', '')}.json"
            arm[phase] = evaluated(checkpoint, made, *options)["metrics"]
        arms.append(arm)
    return {"phases": list(checkpoints), "arms": arms}


def beams_table(result: Result) -> list[str]:
    """BLEU, mean sentence BLEU and mean length in tokens of each phase's checkpoint."""
    columns = ("BLEU", "reward", "length")
    header = ["decoding", *(f"{phase}: {column}" for phase in result["phases"] for column in columns)]
    digits = {"BLEU": 2, "reward": 4, "length": 2}
    rows = [
        [arm["name"], *(f"{arm[phase][name]:.{digits[name]}f}" for phase in result["phases"] for name in columns)]
        for arm in result["arms"]
    ]
    return table(header, rows)


# --------------------------------------------------------------------------------------------------------- documents
@dataclass(frozen=True)
class Document:
    """Where a study's table goes, and how it is made."""

    path: str
    table: Callable[[Result], list[str]]


DOCUMENTS = {
    "objectives": Document("docs/objectives.md", objectives_table),
    "exposure": Document("docs/cross-entropy.md", exposure_table),
    "beams": Document("docs/decoding.md", beams_table),
    "coverage": Document("docs/evidence.md", coverage_table),
}


def save(name: str, result: Result, command: str) -> None:
    """Write a study's file, with what it takes to make it again."""
    made = environment()
    host = made["host"]
    hardware = ", ".join([f"{host['cores']} × {host['processor']}", *host["gpus"]])
    STUDIES.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "commit": made["commit"], "hardware": hardware} | result
    path = STUDIES / f"{name}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path)


def rewrite(root: Path, studies: Path, check: bool) -> int:
    """Put the tables into the documents; with ``check``, only say which are stale."""
    pages: dict[str, str] = {}
    for name, document in DOCUMENTS.items():
        made = studies / f"{name}.json"
        if not made.is_file():
            continue
        result = json.loads(made.read_text(encoding="utf-8"))
        note = f"`{result['command']}`, commit {result['commit'][:12]}, {result['hardware']}"
        page = pages.get(document.path) or (root / document.path).read_text(encoding="utf-8")
        pages[document.path] = replace_block(page, name, [*document.table(result), "", note])
    return write_pages(root, pages, "studies.py tables", check)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in DOCUMENTS:
        study = actions.add_parser(name)
        if name == "coverage":
            study.add_argument("--simulations", type=int, default=500, help="pairs of arms for each figure")
            continue
        study.add_argument("--runs", type=Path, required=True, help="where the runs are put, and looked for")
        if name == "objectives":
            study.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
            study.add_argument("--updates", type=int, default=1000, help=f"of {UNIT}; the others take its CPU time")
            study.add_argument("--arms", nargs="+", metavar="NAME", default=[], help="only these; default: all")
        if name == "exposure":
            study.add_argument("--tasks", nargs="+", choices=list(MLE_UPDATES), default=list(MLE_UPDATES))
        for option in {"objectives": ["--from"], "beams": ["--mle", "--rl"]}.get(name, []):
            study.add_argument(option, type=Path, required=True, metavar="CKPT")
    actions.add_parser("tables").add_argument("--check", action="store_true", help="change nothing; exit 1 if stale")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.action == "tables":
        return rewrite(ROOT, STUDIES, options.check)
    if options.action == "objectives":
        refuse_unknown(options.arms)
        result = objectives(getattr(options, "from"), options.runs, options.seeds, options.updates, options.arms)
    elif options.action == "exposure":
        result = exposure(options.runs, options.tasks)
    elif options.action == "coverage":
        result = coverage(options.simulations)
    else:
        result = beams({"mle": options.mle, "rl": options.rl}, options.runs)
    save(options.action, result, f"python scripts/studies.py {options.action}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
