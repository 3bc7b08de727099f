"""What things cost beside what they are compared with.

One process, one thread, CPU time; competitors take turns within one run, and the fastest of N turns counts. Ratios hold
across machines; absolute times do not. Exit code 1 where a goal is missed; rows that cannot be measured are skipped,
and where torch's default matrix product is fast already, rows that are compared with it do not count.

    python scripts/bench.py [--quick] [--only NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before any library starts its threads.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import torch

from bench_rows import machine
from bench_rows.machine import Machine
from bench_rows.measure import BENCHMARKS, Row
from rlseq.training import provenance

HEADING = f"{'name':30}{'ours':>11}{'other':>11}{'ratio':>8}{'goal':>8}  ok"


def verdict(row: Row, here: Machine) -> str:
    """``met``, ``missed``, ``skipped``, or ``uncounted``: missed where it does not count."""
    if row.figures is None:
        return "skipped"
    if row.ok:
        return "met"
    return "uncounted" if row.goal.beside_default and here.default_is_fast else "missed"


def line(row: Row, here: Machine) -> str:
    """A row as text: seconds, or what the note names."""
    start = f"{row.name:30}"
    if row.figures is None:
        return f"{start}{'-':>11}{'-':>11}{'-':>8}{row.goal!s:>8}  skipped: {row.skipped}"
    found = row.figures
    figures = f"{found.ours:>11.4g}{found.other:>11.4g}{found.ratio:>8.3f}{row.goal!s:>8}"
    shown = {"met": "yes", "missed": "NO", "uncounted": "no, does not count here"}[verdict(row, here)]
    return f"{start}{figures}  {shown}{f'   ({found.note})' if found.note else ''}"


def document(rows: Sequence[Row], here: Machine, quick: bool) -> dict[str, Any]:
    """The rows, and what they were measured with: versions, commit, command, host, torch's threads, products."""
    environment = provenance.environment() | {"threads": torch.get_num_threads()}
    products = {"gflops": here.rates, "default_is_fast": here.default_is_fast}
    return {"environment": environment, "machine": products, "quick": quick, "rows": [row.to_dict() for row in rows]}


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
    here = machine.look(4 if arguments.quick else 12)
    print(f"{here}; {here.case}\n{HEADING}", flush=True)
    rows = []
    for name in arguments.only or BENCHMARKS:
        rows.append(BENCHMARKS[name].run(arguments.quick))
        print(line(rows[-1], here), flush=True)
    if arguments.json:
        text = json.dumps(document(rows, here, arguments.quick), indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    found = Counter(verdict(row, here) for row in rows)
    print(", ".join(f"{found[kind]} {kind}" for kind in ("met", "missed", "uncounted", "skipped")))
    return 1 if found["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
