"""What things cost beside what they are compared with.

One process, one thread, CPU time; competitors take turns within one run, and the fastest of N turns counts. Ratios hold
across machines; absolute times do not.

    python scripts/bench.py [--quick] [--only NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"  # before any library starts its threads


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: As given to ``--only``.
        ours: CPU seconds.
        other: CPU seconds of what it is compared with.
        ratio: What the goal is about.
        goal: Bound on the ratio.
        ok: Whether the goal is met.
    """

    name: str
    ours: float
    other: float
    ratio: float
    goal: float
    ok: bool


Measurement = Callable[[int], Row]  # from the number of turns
ROWS: dict[str, Measurement] = {}


def row(measurement: Measurement) -> Measurement:
    """Register a measurement under its function's name."""
    ROWS[measurement.__name__] = measurement
    return measurement


def interleaved(competitors: list[Callable[[int], object]], turns: int) -> list[float]:
    """Fewest CPU seconds of each over ``turns`` turns, each called with the turn's number; who begins alternates."""
    best = [float("inf")] * len(competitors)
    order = list(range(len(competitors)))
    for turn in range(turns):
        for index in order:
            started = time.process_time()
            competitors[index](turn)
            best[index] = min(best[index], time.process_time() - started)
        order.reverse()
    return best


@row
def framework_overhead(turns: int) -> Row:
    """One rl update at batch size 64: RLlib with no runners and no learners, over the plain loop."""
    import numpy as np

    from rlseq.config.load import load_config
    from rlseq.data.tasks import make_task
    from rlseq.rllib.engine import RllibEngine
    from rlseq.training.engine import UpdateRequest
    from rlseq.training.plain import PlainEngine
    from rlseq_envs.env import SequenceVectorEnv

    batch_size = 64
    config = load_config("hull", [f"rl.batch_size={batch_size}", "compute.device=cpu"])
    task = make_task(config.task)
    first = task.instances("train").first
    engines = [RllibEngine(config, task), PlainEngine(config, task, SequenceVectorEnv(task).rollout)]

    def update(engine: RllibEngine | PlainEngine) -> Callable[[int], object]:
        def one(turn: int) -> object:
            ids = np.arange(first + turn * batch_size, first + (turn + 1) * batch_size)
            return engine.update([UpdateRequest("rl", turn, turn, ids, 1e-5)])

        engine.start_phase("rl")
        one(turns)  # the first update allocates
        return one

    ours, other = interleaved([update(engine) for engine in engines], turns)
    engines[0].close()
    return Row("framework_overhead", ours, other, ours / other, 1.10, ours / other <= 1.10)


def table(rows: list[Row]) -> str:
    """Rows as text."""
    lines = [f"{'name':24}{'ours':>12}{'other':>12}{'ratio':>8}{'goal':>8}  ok"]
    for r in rows:
        times = f"{r.ours * 1e3:>9.3f} ms{r.other * 1e3:>9.3f} ms"
        lines.append(f"{r.name:24}{times}{r.ratio:>8.3f}{r.goal:>8.2f}  {'yes' if r.ok else 'NO'}")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--only", metavar="NAME", choices=sorted(ROWS), action="append", help="may be repeated")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the rows there")
    arguments = parser.parse_args()
    rows = [ROWS[name](40 if arguments.quick else 200) for name in arguments.only or ROWS]
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n")
    return 0 if all(r.ok for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
