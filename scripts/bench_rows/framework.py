"""What the framework costs, and what its workers bring."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench_rows.measure import Figures, SkipRow, at_least, at_most, cost, interleaved
from bench_rows.policies import zipf_biases
from bench_rows.task import IdTask, id_config
from rlseq.config.load import load_config
from rlseq.data.tasks import make_task
from rlseq.training.engine import Engine, UpdateRequest
from rlseq.training.plain import PlainEngine
from rlseq.training.rollout import RolloutRequest
from rlseq_envs.env import SequenceVectorEnv


@at_most(1.07)
def framework_overhead(quick: bool) -> Figures:
    """One rl update at batch size 64: RLlib with no runners and no learners, over the plain loop."""
    from rlseq.rllib.engine import RllibEngine

    batch_size = 64
    config = load_config("hull", [f"rl.batch_size={batch_size}", "compute.device=cpu"])
    task = make_task(config.task)
    ids = task.instances("train").ids(0, batch_size)  # the same in every turn: the fastest is not that with least to do

    def updating(engine: Engine) -> Callable[[int], object]:
        engine.start_phase("rl")

        def update(turn: int) -> object:
            return engine.update([UpdateRequest("rl", turn, turn, ids, 1e-6)])

        return update

    framework = RllibEngine(config, task)
    plain = PlainEngine(config, task, SequenceVectorEnv(task).rollout)
    try:
        return cost(updating(framework), updating(plain), 40 if quick else 200)
    finally:
        framework.close()


# ---------------------------------------------------------------------------------------------------------- scaling
VOCABULARY, SIZE, INSTANCES, SAMPLES, SHARD = 8000, 512, 256, 2, 32
IDLE_CORES = 1.8  # of 2: the operating system needs something, too


@at_least(1.7)
def scaling(quick: bool) -> Figures:
    """Tokens sampled and scored a second of wall time: two environment runners over one."""
    _need_idle_cores()
    from rlseq.rllib.engine import RllibEngine

    task = IdTask(VOCABULARY)
    engines = []
    try:
        for runners in (2, 1):
            engines.append(RllibEngine(id_config(VOCABULARY, SIZE, 64, runners=runners, shard_size=SHARD), task))
        rates = _sampling_rates(engines, task, 3 if quick else 8)
    finally:
        for engine in reversed(engines):  # the first one holds the cluster
            engine.close()
    return Figures(rates[0], rates[1], rates[0] / rates[1], f"tokens a second of wall time; {os.cpu_count()} cores")


def _sampling_rates(engines: Sequence[Engine], task: IdTask, turns: int) -> list[float]:
    ids = task.instances("train").ids(0, INSTANCES)
    biases = zipf_biases(task.token_distribution())

    def sampling(engine: Engine) -> Callable[[int], object]:
        policy = {name: value for name, value in engine.get_state().items() if name.startswith("policy/")}
        weights = {name.removeprefix("policy/"): value for name, value in policy.items()}
        engine.set_weights(weights | {"output.bias": biases})

        def sample(turn: int) -> object:
            return engine.rollout(ids, RolloutRequest(SAMPLES, False, turn), averaged=False)

        sample(0)  # starts the workers
        return sample

    seconds = interleaved([sampling(engine) for engine in engines], turns, time.perf_counter)
    tokens = SAMPLES * int(task.length_limits(task.sizes(ids)).sum())
    return [tokens / taken for taken in seconds]


def _need_idle_cores(window: float = 0.5) -> None:
    """Look at the machine for a moment.

    Raises:
        SkipRow: It cannot give two processes a core each.
    """
    before, started = _idle_seconds(), time.perf_counter()
    time.sleep(window)
    idle = (_idle_seconds() - before) / (time.perf_counter() - started)
    usable = min(idle, len(os.sched_getaffinity(0)))
    if usable < IDLE_CORES:
        raise SkipRow(f"needs 2 idle cores and finds {usable:.1f}: run it on a machine that does nothing else")


def _idle_seconds() -> float:
    """Idle time of all cores together since the machine started (proc(5), /proc/stat)."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
