"""What things cost beside what they are compared with.

One process, one thread, CPU time; competitors take turns within one run, and the fastest of N turns counts. Ratios hold
across machines; absolute times do not. Exit code 1 where a goal is missed; rows that cannot be measured are skipped.

    python scripts/bench.py [--quick] [--only NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before any library starts its threads.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import torch

import bench_rows  # registers all rows
from bench_rows.measure import BENCHMARKS, Row
from rlseq.training import provenance

__all__ = ["bench_rows", "main"]

HEADING = f"{'name':30}{'ours':>11}{'other':>11}{'ratio':>8}{'goal':>8}  ok"


def line(row: Row) -> str:
    """A row as text: seconds, or what the note names."""
    start = f"{row.name:30}"
    if row.figures is None:
        return f"{start}{'-':>11}{'-':>11}{'-':>8}{row.goal!s:>8}  skipped: {row.skipped}"
    found = row.figures
    figures = f"{found.ours:>11.4g}{found.other:>11.4g}{found.ratio:>8.3f}{row.goal!s:>8}"
    return f"{start}{figures}  {'yes' if row.ok else 'NO'}{f'   ({found.note})' if found.note else ''}"


def environment() -> dict[str, Any]:
    """Versions, commit, command and machine, as in a run's environment.json, and torch's threads."""
    return provenance.environment() | {"threads": torch.get_num_threads()}


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--only", metavar="NAME", choices=list(BENCHMARKS), action="append", help="may be repeated")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the rows there")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 if a goal is missed."""
    arguments = _arguments(given)
    torch.set_num_threads(1)
    print(HEADING, flush=True)
    rows = []
    for name in arguments.only or BENCHMARKS:
        rows.append(BENCHMARKS[name].run(arguments.quick))
        print(line(rows[-1]), flush=True)
    if arguments.json:
        result = {"environment": environment(), "quick": arguments.quick, "rows": [row.to_dict() for row in rows]}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    missed = sum(not row.ok and not row.skipped for row in rows)
    print(f"{sum(row.ok for row in rows)} met, {missed} missed, {sum(bool(row.skipped) for row in rows)} skipped")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
