"""The table of all systems: what is published, what each came to here, and what the reward brought.

    python scripts/systems.py            # rewrite the table in docs/systems.md
    python scripts/systems.py --check    # fail if it is stale

A row says in docs/systems.yaml what the system is and what it is compared with; its figures are those of a recorded
study (see results.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from blocks import parser_of_pages, replace_block, table, write_pages
from results import Result, duration, gain, points, systems_of

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
    options = parser_of_pages(__doc__).parse_args(arguments)
    docs = options.root / "docs"
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (docs / "results").glob("*.json")}
    page = replace_block(
        (docs / "systems.md").read_text("utf-8"), "systems", table(HEADER, rows(systems_of(docs), results))
    )
    return write_pages(options.root, {"docs/systems.md": page}, "systems.py", options.check)


if __name__ == "__main__":
    sys.exit(main())
