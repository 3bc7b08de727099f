"""Every objective of rl and its baselines from one mle checkpoint, at equal CPU time.

``python scripts/studies.py objectives`` runs it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench_rows.measure import interleaved
from blocks import spread, table
from rlseq.config.load import parse_config
from rlseq.config.phases import Phase
from rlseq.data.batches import phase_split
from rlseq.data.tasks import make_task
from rlseq.evaluation.loading import load_policy
from rlseq.training.checkpoint import load_meta
from rlseq.training.cost import Cost
from rlseq.training.engine import UpdateRequest
from rlseq.training.finding import resolve_checkpoint
from rlseq.training.plain import PlainEngine
from rlseq.training.study import last_meta
from rlseq_envs.env import SequenceVectorEnv
from study_runs import Arm, Result, evaluated, logged, test_metric, trained

COST_TURNS = 8
UNIT = "reinforce, leave_one_out"  # what costs are multiples of
VALIDATIONS = 4  # of an arm, evenly spaced
BUDGET = ("rl.samples=8", "rl.variance_every=25")
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
    Arm("actor-critic, shaped, λ = 0.95", ("rl.baseline={type: critic, shaped: true, gae_lambda: 0.95}",)),
    Arm("mixer, leave_one_out", ("rl.objective={type: mixer, step: 2, every: 150}", "rl.instances=train")),
    Arm("mrt, α = 1", ("rl.objective={type: mrt, alpha: 1, reference: false}", "rl.baseline=none")),
    Arm(
        "mrt, α = 1, with the reference",
        ("rl.objective={type: mrt, alpha: 1}", "rl.baseline=none", "rl.instances=train"),
    ),
    Arm("ppo, token, leave_one_out", ("rl.objective={type: ppo, epochs: 2}",)),
    Arm("ppo, token, leave_one_out, clip_high", ("rl.objective={type: ppo, epochs: 2, clip_high: 0.28}",)),
    Arm(
        "ppo, token, as DAPO",
        (
            *("rl.objective={type: ppo, epochs: 2, clip_high: 0.28}", "rl.baseline=mean"),
            *("rl.normalize_advantage=instance", "rl.dynamic_sampling=3", "rl.normalization=token"),
        ),
    ),
    Arm("ppo, sequence, leave_one_out", ("rl.objective={type: ppo, epochs: 2, ratio: sequence, clip: 0.05}",)),
    Arm(
        "ppo, sequence, leave_one_out, 4 mini-batches",
        ("rl.objective={type: ppo, epochs: 2, minibatches: 4, ratio: sequence, clip: 0.05}",),
    ),
    Arm(
        "ppo, sequence, leave_one_out, given starts",
        ("rl.objective={type: ppo, epochs: 2, ratio: sequence, clip: 0.05}", "rl.starts=task"),
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
    """Costs are given as multiples of the leave-one-out baseline's; what a record does not tell is a dash."""
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
            f"{arm['updates']:,}" if "updates" in arm else "–",
            spread(arm.get("cpu_seconds", []), digits=0),
        ]
        for arm in result["arms"]
    ]
    start = ["the mle checkpoint", f"{result['start']:.2f}", *[""] * 5]
    return table(header, [start, *rows])


def refuse_unknown(names: Sequence[str]) -> None:
    """Stop if an arm is not there; a table needs its unit."""
    known = [arm.name for arm in OBJECTIVES]
    unknown = [name for name in names if name not in known]
    if unknown or (names and UNIT not in names):
        raise SystemExit(f"--arms: give {UNIT!r} and any of {known}; unknown: {unknown}")
