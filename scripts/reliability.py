"""The page of what was tried to break a training, made from recorded suites: nothing in it is typed by hand.

Record first, then make the table:

    pytest tests/reliability --soak --record docs/reliability
    python scripts/reliability.py            # rewrite the table in docs/reliability.md
    python scripts/reliability.py --check    # fail if it is stale
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from blocks import parser_of_pages, replace_block, table, write_pages


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
    options = parser_of_pages(__doc__).parse_args(arguments)
    docs = options.root / "docs"
    suites = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((docs / "reliability").glob("*.json"))]
    page = replace_block((docs / "reliability.md").read_text("utf-8"), "suites", rows(suites))
    return write_pages(options.root, {"docs/reliability.md": page}, "reliability.py", options.check)


if __name__ == "__main__":
    sys.exit(main())
