"""HTML and SVG elements as text in which only elements are markup: everything else is escaped."""

from __future__ import annotations

from html import escape

Attribute = str | float | None


class Markup(str):
    """Text that is markup already; any other text is escaped when it becomes part of an element."""


def tag(name: str, *children: str | None, **attributes: Attribute) -> Markup:
    """An element with an end tag.

    Args:
        name: Of the element.
        children: Elements, or text to be escaped; None is left out.
        attributes: Name to value; ``class_`` stands for ``class``, ``_`` for ``-``; None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*parts: str | None) -> Markup:
    """Elements and escaped text one after the other; None is left out."""
    return Markup(
        "".join(part if isinstance(part, Markup) else escape(part, quote=False) for part in parts if part is not None)
    )
