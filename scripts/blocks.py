"""Pages with blocks that a script writes, between two markers."""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parser_of_pages(description: str | None) -> argparse.ArgumentParser:
    """A parser of what all scripts take that write pages."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="of pages and source; default: this checkout")
    return parser


def write_pages(root: Path, pages: Mapping[str, str], script: str, check: bool) -> int:
    """Rewrite the pages, by their paths under the root, that are not as they are to be.

    Args:
        root: See ``parser_of_pages``.
        pages: What each is to be.
        script: Who makes them.
        check: Only say which are stale.

    Returns:
        The exit code: 1 if one is stale and stays so.
    """
    stale = [name for name, page in pages.items() if (root / name).read_text(encoding="utf-8") != page]
    for name in stale:
        print(f"{name} {f'is stale: run python scripts/{script}' if check else 'is rewritten'}", file=sys.stderr)
        if not check:
            (root / name).write_text(pages[name], encoding="utf-8")
    return int(check and bool(stale))


def replace_block(document: str, name: str, lines: Sequence[str]) -> str:
    """The document with what is between the block's markers replaced.

    Raises:
        ValueError: It does not have the two markers, once each.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if document.count(begin) != 1 or document.count(end) != 1:
        raise ValueError(f"the document must have {begin} and {end} once each")
    block = "\n".join([begin, "", *lines, "", end])
    return re.sub(f"{begin}.*{end}", lambda _: block, document, flags=re.DOTALL)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown, line by line."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def spread(values: Sequence[float], digits: int = 2, sign: str = "") -> str:
    """Mean, with the standard deviation where there are several; a dash where there is none."""
    if not values:
        return "–"
    mean = f"{statistics.mean(values):{sign}.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
