"""Sections and tables, as every part of the page makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlseq.report.page.figures import MISSING
from rlseq.report.page.markup import Markup, join, tag

Result = Mapping[str, Any]  # the JSON of a comparison, or a part of it


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    title: str
    content: Markup

    def markup(self) -> Markup:
        """The section itself."""
        return tag("section", tag("h2", self.title), self.content, id=self._name())

    def link(self) -> Markup:
        """Leads to it."""
        return tag("a", self.title, href=f"#{self._name()}")

    def _name(self) -> str:
        return self.title.lower().replace(" ", "-")


def section(title: str, *content: str | None) -> Section:
    """A section of these parts."""
    return Section(title, join(*content))


def folded(summary: str, *content: str) -> Markup:
    """What is shown on demand, and on paper."""
    return tag("details", tag("summary", summary), *content)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] = (), texts: int = 1) -> Markup:
    """A table; columns without any value are left out.

    Args:
        headers: Of the columns.
        rows: Cells, the first one naming the row.
        marked: For each row, whether it stands out.
        texts: How many columns at the left hold text.
    """
    kept = [i for i in range(len(headers)) if i < texts or any(row[i] != MISSING for row in rows)]
    head = tag("tr", *(tag("th", headers[i], scope="col", class_="text" if i < texts else None) for i in kept))
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", class_="text"),
            *(tag("td", row[i], class_="text" if i < texts else None) for i in kept[1:]),
            class_="significant" if marked and marked[number] else None,
        )
        for number, row in enumerate(rows)
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")
