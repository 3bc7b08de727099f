"""The page of what was tried to break a training, made from recorded suites: nothing in it is typed by hand.

pytest tests/reliability --soak --record docs/reliability
python scripts/reliability.py            # rewrite the table in docs/reliability.md
python scripts/reliability.py --check    # fail if it is stale
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blocks import replace_block, table

ROOT = Path(__file__).resolve().parents[1]


def rows(suites: Sequence[dict[str, Any]]) -> list[str]:
    """A line a suite: what was tried, what is promised, how often it held, at which commit."""
    lines = [
        [
            suite["suite"],
            str(suite["cases"]),
            suite["holds_when"],
            str(suite["cases"] - len(suite["fell_short"])),
            ", ".join(f"`{name}`" for name in suite["fell_short"]) or "–",
            f"{suite['seconds']} s",
            f"`{(suite['made_with']['commit'] or 'unknown')[:7]}`",
        ]
        for suite in suites
    ]
    return table(["suite", "cases", "holds when", "held", "fell short", "time", "commit"], lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the table; exit code 1 if it is stale."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the table is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the documents; default: this checkout")
    options = parser.parse_args(arguments)
    page = options.root / "docs" / "reliability.md"
    recorded = sorted((options.root / "docs" / "reliability").glob("*.json"))
    suites = [json.loads(path.read_text(encoding="utf-8")) for path in recorded]
    before = page.read_text(encoding="utf-8")
    after = replace_block(before, "suites", rows(suites))
    if options.check:
        if before != after:
            print("docs/reliability.md is stale: run python scripts/reliability.py", file=sys.stderr)
        return int(before != after)
    page.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
