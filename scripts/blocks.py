"""Blocks of a document that a script writes, between two markers."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence


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
