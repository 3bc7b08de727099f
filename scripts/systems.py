"""The table of all systems: what is published, what each came to here, and what the reward brought.

    python scripts/systems.py            # rewrite the table in docs/systems.md
    python scripts/systems.py --check    # fail if it is stale

A row says in docs/systems.yaml what the system is and what it is compared with; its figures are those of a recorded
study (see results.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from blocks import replace_block, table
from results import ROOT, Result, duration, gain, points

HEADER = [
    *("system", "configuration", "data", "metric", "published", "mle", "rl", "best control"),
    *("rl − best control [95 % interval]", "p", "seeds", "CPU time", "command"),
]


def rows(systems: Sequence[Mapping[str, str]], results: Mapping[str, Result]) -> list[list[str]]:
    """One for each system, in their order."""
    return [[*_told(system), *_found(system, results)] for system in systems]


def _told(system: Mapping[str, str]) -> list[str]:
    return [system["system"], f"`{system['configuration']}`", system["data"]]


def _found(system: Mapping[str, str], results: Mapping[str, Result]) -> list[str]:
    if "result" not in system:
        told = "; ".join([*([system["measured"]] if "measured" in system else []), "not studied"])
        return ["", str(system["published"]), told, *[""] * 6, f"`rlseq study {system['configuration']}`"]
    result = results[system["result"]]
    metric = result["primary"]
    item = next((each for each in result["attributable"] if each["metric"] == metric), None)
    return [
        *(metric, str(system["published"]), *(points(result, arm, metric) for arm in ("mle", "rl"))),
        *gain(result, item, metric),
        *(str(len(result["seeds"])), duration(result), f"`{result['command']}`"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the table is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the documents; default: this checkout")
    options = parser.parse_args(arguments)
    docs = options.root / "docs"
    systems: list[dict[str, Any]] = yaml.safe_load((docs / "systems.yaml").read_text(encoding="utf-8"))
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (docs / "results").glob("*.json")}
    before = (docs / "systems.md").read_text(encoding="utf-8")
    after = replace_block(before, "systems", table(HEADER, rows(systems, results)))
    if before == after:
        return 0
    told = "is stale: run python scripts/systems.py" if options.check else "is rewritten"
    print(f"docs/systems.md {told}", file=sys.stderr)
    if not options.check:
        (docs / "systems.md").write_text(after, encoding="utf-8")
    return int(options.check)


if __name__ == "__main__":
    sys.exit(main())
