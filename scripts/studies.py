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
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench_rows.measure import interleaved
from blocks import replace_block, spread, table
from interval_coverage import coverage, coverage_table
from rlseq.config.load import parse_config
from rlseq.data.batches import phase_split
from rlseq.data.tasks import make_task
from rlseq.evaluation.loading import load_policy
from rlseq.training.checkpoint import load_meta
from rlseq.training.cost import Cost
from rlseq.training.engine import Phase, UpdateRequest
from rlseq.training.plain import PlainEngine
from rlseq.training.provenance import environment
from rlseq.training.run_directory import resolve_checkpoint
from rlseq.training.study import last_meta
from rlseq_envs.env import SequenceVectorEnv

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ROOT / "docs" / "studies"
COST_TURNS = 8

Result = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One line of a table: what it is called, and the settings that make it.

    ``control`` is None of rl, and says which cross-entropy takes its time otherwise.
    """

    name: str
    settings: tuple[str, ...]
    control: Literal["going on", "from the start"] | None = None

    @property
    def slug(self) -> str:
        """A name for its run."""
        return "-".join("".join(sign if sign.isalnum() else " " for sign in self.name).split())


# ------------------------------------------------------------------------------------------------------- objectives
UNIT = "reinforce, leave_one_out"  # what costs are multiples of
VALIDATIONS = 4  # of an arm, evenly spaced
BUDGET = ("rl.samples=8", "rl.variance_every=25")
PPO = "rl.objective=ppo"
OBJECTIVES = (
    Arm("cross-entropy, going on", (), "going on"),
    Arm("cross-entropy, one schedule from the start", (), "from the start"),
    *(Arm(f"reinforce, {name}", (f"rl.baseline={name}",)) for name in ("none", "running_mean", "greedy", "mean")),
    Arm(UNIT, ("rl.baseline=leave_one_out",)),
    Arm("reinforce, leave_one_out, whitened", ("rl.normalize_advantage=batch",)),
    Arm("reinforce, mean, by instance", ("rl.baseline=mean", "rl.normalize_advantage=instance")),
    Arm("reinforce, leave_one_out, dynamic sampling", ("rl.dynamic_sampling=3",)),
    Arm("reinforce, leave_one_out, given starts", ("rl.starts=task",)),
    Arm("reinforce, critic", ("rl.baseline=critic",)),
    Arm("actor-critic, shaped, λ = 0.95", ("rl.baseline=critic", "rl.critic={shaped: true, gae_lambda: 0.95}")),
    Arm("mixer, leave_one_out", ("rl.objective=mixer", "rl.mixer={step: 2, every: 150}", "rl.instances=train")),
    Arm("mrt, α = 1", ("rl.objective=mrt", "rl.baseline=none", "rl.mrt={alpha: 1, reference: false}")),
    Arm(
        "mrt, α = 1, with the reference",
        ("rl.objective=mrt", "rl.baseline=none", "rl.mrt={alpha: 1}", "rl.instances=train"),
    ),
    Arm("ppo, token, leave_one_out", (PPO, "rl.ppo={epochs: 2}")),
    Arm("ppo, token, leave_one_out, clip_high", (PPO, "rl.ppo={epochs: 2, clip_high: 0.28}")),
    Arm(
        "ppo, token, as DAPO",
        (
            *(PPO, "rl.ppo={epochs: 2, clip_high: 0.28}", "rl.baseline=mean", "rl.normalize_advantage=instance"),
            *("rl.dynamic_sampling=3", "rl.normalization=token"),
        ),
    ),
    Arm("ppo, sequence, leave_one_out", (PPO, "rl.ppo={epochs: 2, ratio: sequence, clip: 0.05}")),
    Arm(
        "ppo, sequence, leave_one_out, 4 mini-batches",
        (PPO, "rl.ppo={epochs: 2, minibatches: 4, ratio: sequence, clip: 0.05}"),
    ),
    Arm(
        "ppo, sequence, leave_one_out, given starts",
        (PPO, "rl.ppo={epochs: 2, ratio: sequence, clip: 0.05}", "rl.starts=task"),
    ),
)


def objectives(start: Path, runs: Path, seeds: Sequence[int], updates: int, only: Sequence[str]) -> Result:
    """Every objective and baseline from one mle checkpoint, each for the CPU time of ``updates`` updates of ``UNIT``.

    Going on with cross-entropy is the control, in either way: with a second schedule after the checkpoint's, or with
    one schedule as long as both, from the start.
    """
    measured = measured_costs(start, runs / "costs.json")
    arms = [
        objective_arm(arm, measured[arm.name], start, runs, seeds, round(updates * measured[UNIT] / measured[arm.name]))
        for arm in OBJECTIVES
        if not only or arm.name in only
    ]
    first = evaluated(start, runs / "start.json")["metrics"]["accuracy"]
    return {"settings": BUDGET, "updates": updates, "seeds": seeds, "start": first, "arms": arms}


def objective_arm(arm: Arm, cost: float, start: Path, runs: Path, seeds: Sequence[int], updates: int) -> Result:
    """One arm, trained with each seed."""
    phase, checkpoint = "rl" if arm.control is None else "mle", resolve_checkpoint(start)
    every = f"{phase}.validate_every={max(1, updates // VALIDATIONS)}"
    if arm.control == "from the start":
        before = last_meta(checkpoint.parents[2])
        length = before["phase_update"] + updates
        made = [str(checkpoint.parents[2] / "config.yaml"), f"mle.updates={length}", every, "--phase", "mle"]
    else:
        before = load_meta(checkpoint)
        made = ["--from", str(start), *BUDGET, *arm.settings, f"{phase}.updates={updates}", every, "--phase", phase]
    done = [trained(runs / f"{arm.slug}-{updates}-seed{seed}", [*made, f"seed={seed}"]) for seed in seeds]
    variances = [logged(run, phase, "train/grad_variance") for run in done]
    return {
        "name": arm.name,
        "settings": arm.settings,
        "updates": updates,
        "accuracy": [test_metric(run, "accuracy") for run in done],
        "at_the_end": [logged(run, phase, "eval/accuracy")[-1] for run in done],
        "grad_variance": [statistics.mean(found) for found in variances if found],
        "cost": cost,
        "cpu_seconds": [cpu_seconds(last_meta(run)) - cpu_seconds(before) for run in done],
    }


def cpu_seconds(meta: Result) -> float:
    """What all updates that led to a checkpoint took, estimates of the gradient's variance included."""
    return sum(Cost.from_dict(meta["trainer"]).cpu_seconds.values())


def measured_costs(start: Path, record: Path) -> dict[str, float]:
    """The cost of each arm's update; measured once, so that a study that goes on has arms of the same length."""
    if record.is_file():
        found: dict[str, float] = json.loads(record.read_text(encoding="utf-8"))
        return found
    measured = dict(zip((arm.name for arm in OBJECTIVES), costs(start, OBJECTIVES), strict=True))
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return measured


def costs(start: Path, arms: Sequence[Arm]) -> list[float]:
    """CPU seconds of an update in the middle of the phase, the fewest of several turns, all on the same instances."""
    weights = {name: value.numpy() for name, value in load_policy(start).policy.state_dict().items()}
    settings = load_meta(resolve_checkpoint(start))["config"]
    fixed = [*BUDGET, "rl.variance_every=0", "rl.updates=1000", "compute.device=cpu"]

    def updating(arm: Arm) -> Callable[[int], object]:
        config = parse_config(settings, overrides=[*fixed, *arm.settings])
        task = make_task(config.task)
        engine = PlainEngine(config, task, SequenceVectorEnv(task).rollout)
        phase: Phase = "rl" if arm.control is None else "mle"
        engine.set_weights(weights)
        engine.start_phase(phase)
        section = config.rl if phase == "rl" else config.mle
        draws = 1 + config.rl.dynamic_sampling
        first, *spare = np.split(phase_split(task, section).ids(0, draws * section.batch_size), draws)
        middle = section.updates // 2
        return lambda turn: engine.update(
            [UpdateRequest(phase, middle + turn, middle + turn, first, 1e-9, spare=tuple(spare))]
        )

    return interleaved([updating(arm) for arm in arms], COST_TURNS)


def objectives_table(result: Result) -> list[str]:
    """Costs are given as multiples of the leave-one-out baseline's."""
    unit = next(arm["cost"] for arm in result["arms"] if arm["name"] == UNIT)
    header = [
        "objective, baseline",
        "accuracy, test",
        "validation at the end",
        "gradient variance",
        "cost of an update",
        "updates",
        "CPU seconds",
    ]
    rows = [
        [
            arm["name"],
            spread(arm["accuracy"]),
            spread(arm["at_the_end"]),
            spread(arm["grad_variance"], digits=3),
            f"{arm['cost'] / unit:.2f}",
            f"{arm['updates']:,}",
            spread(arm["cpu_seconds"], digits=0),
        ]
        for arm in result["arms"]
    ]
    start = ["the mle checkpoint", f"{result['start']:.2f}", *[""] * 5]
    return table(header, [start, *rows])


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


# -------------------------------------------------------------------------------------------------------------- runs
def trained(run: Path, arguments: Sequence[str]) -> Path:
    """A finished run of ``rlseq train`` with these arguments; one that was interrupted goes on."""
    if (run / "train.log").is_file() and not finished(run):
        rlseq("train", "--resume", str(run))
    elif not finished(run):
        rlseq("train", *arguments, "--run", str(run))
    return run


def finished(run: Path) -> bool:
    """The last thing that a run writes is there: what its two phases, or its only one, came to on the test set."""
    return any((run / "report" / name).is_file() for name in ("comparison.json", "evaluation.json"))


def evaluated(checkpoint: Path, made: Path, *options: str) -> Result:
    """What ``rlseq evaluate`` says of a checkpoint on the test set."""
    if not made.is_file():
        rlseq("evaluate", str(checkpoint), *options, "--json", str(made))
    found: Result = json.loads(made.read_text(encoding="utf-8"))
    return found


def rlseq(*arguments: str) -> None:
    """The program, as a user runs it; its output goes to this one's standard error."""
    print("rlseq", *arguments, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "rlseq", *arguments], check=True, stdout=subprocess.DEVNULL)


def test_metric(run: Path, metric: str) -> float:
    """A metric of what a run trained last, on the test set."""
    compared, alone = (run / "report" / name for name in ("comparison.json", "evaluation.json"))
    if not compared.is_file():
        return float(json.loads(alone.read_text(encoding="utf-8"))["metrics"][metric])
    return float(json.loads(compared.read_text(encoding="utf-8"))["arms"][-1]["metrics"][metric])


def logged(run: Path, phase: str, tag: str) -> list[float]:
    """All values of a tag in a phase of a run."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    events = [event for event in map(json.loads, lines) if event["phase"] == phase]
    return [event[tag] for event in events if tag in event]


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
    stale = 0
    for name, document in DOCUMENTS.items():
        made = studies / f"{name}.json"
        if not made.is_file():
            continue
        result, path = json.loads(made.read_text(encoding="utf-8")), root / document.path
        note = f"`{result['command']}`, commit {result['commit'][:12]}, {result['hardware']}"
        before = path.read_text(encoding="utf-8")
        after = replace_block(before, name, [*document.table(result), "", note])
        if before != after:
            stale += 1
            print(f"{document.path} {'is stale: run python scripts/studies.py tables' if check else 'is rewritten'}")
            if not check:
                path.write_text(after, encoding="utf-8")
    return int(check and stale > 0)


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


def refuse_unknown(names: Sequence[str]) -> None:
    """Stop if an arm is not there; a table needs its unit."""
    known = [arm.name for arm in OBJECTIVES]
    unknown = [name for name in names if name not in known]
    if unknown or (names and UNIT not in names):
        raise SystemExit(f"--arms: give {UNIT!r} and any of {known}; unknown: {unknown}")


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
