"""A comparison as one HTML page that needs nothing beside itself: no network, no script, no font."""

from __future__ import annotations

from collections.abc import Callable

from rlseq.report.page import details, sections
from rlseq.report.page.layout import Result, Section
from rlseq.report.page.markup import Markup, join, tag
from rlseq.report.page.style import STYLE

# The browser itself then refuses to load anything from anywhere; pictures are in the page.
_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">"""
SECTIONS: tuple[Callable[[Result], Section | None], ...] = (
    sections.arms,
    sections.differences,
    details.profile,
    details.buckets,
    details.training,
    details.decoding,
    details.cost,
    details.selection,
    details.examples,
    details.regressions,
    details.settings,
)


def comparison_page(result: Result) -> str:
    """The page of a comparison.

    Args:
        result: What ``rlseq compare --json`` writes; parts that it lacks are left out of the page.
    """
    names = [arm["name"] for arm in result["arms"]]
    title = f"{', '.join(names)}: {result['primary']}"
    shown = [made for make in SECTIONS if (made := make(result)) is not None]
    body = tag(
        "body",
        tag("header", tag("h1", "What the reward brought"), tag("p", _subtitle(result))),
        sections.verdicts(result),
        tag("nav", *(each.link() for each in shown), aria_label="sections"),
        tag("main", *(each.markup() for each in shown)),
    )
    return join(
        Markup(_HEAD), tag("title", title), tag("style", Markup(STYLE)), Markup("</head>"), body, Markup("</html>\n")
    )


def _subtitle(result: Result) -> str:
    """What was measured, on what, how often."""
    seeds = max(len(arm["seeds"]) for arm in result["arms"])
    where = f"{result['instances']:,} {result['split']} instances"
    arms = f"{len(result['arms'])} arms, {seeds} seed{'s' if seeds > 1 else ''} each"
    return f"{result['primary']} on {where}, {arms}"
