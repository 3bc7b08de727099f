"""Pages of docs/ that are made from the source: the configuration key by key, and the files that follow each paper.

    python scripts/reference.py            # rewrite docs/reference/configuration.md and docs/papers.md
    python scripts/reference.py --check    # fail if one is stale

Both keep what is written by hand: the text around the block of keys, and the names of the papers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from blocks import parser_of_pages, replace_block, table, write_pages
from rlseq.config.reference import Key, KeySection, sections

PARENTHESIS = re.compile(r" ?\(([^()]*\b(?:19|20)\d\d\b[^()]*)\)")
NAME = r"[A-ZÀ-Þ][\w'’-]+"
CITATION = re.compile(rf"\b({NAME})(?:(?: et al\.|(?:, {NAME})* & {NAME}),? \(?| )((?:19|20)\d\d)\b")
PAPER = re.compile(r"^\| ([^|]+ (?:19|20)\d\d) \| ([^|]+) \|", re.MULTILINE)


# --------------------------------------------------------------------------------------------------- the configuration
def configuration(document: str, root: Path) -> str:
    """The page with its block of keys made anew."""
    return replace_block(document, "keys", [line for section in sections() for line in _section(section)][:-1])


def _section(section: KeySection) -> list[str]:
    of_type = f", type `{section.kind}`" if section.kind else ""
    lines = [f"## `{section.path}`{of_type}" if section.path else "## The whole", "", _marked(section.meaning), ""]
    if section.keys:
        lines += [*table(["key", "type", "default", "meaning", "paper"], [_row(key) for key in section.keys]), ""]
    return lines


def _row(key: Key) -> list[str]:
    default = "must be given" if key.default is None else f"`{key.default}`"
    meaning, papers = PARENTHESIS.sub("", key.meaning), "; ".join(PARENTHESIS.findall(key.meaning))
    cells = (f"`{key.path}`", key.type, default, _marked(meaning), papers)
    return [cell.replace("|", "\\|") for cell in cells]


def _marked(text: str) -> str:
    return text.replace("``", "`")


# ---------------------------------------------------------------------------------------------------------- the papers
def papers(document: str, root: Path) -> str:
    """The page with the files of each paper found anew: those that name its first author and its year together.

    Raises:
        ValueError: The source cites papers that the page does not have.
    """
    texts = {
        path.relative_to(root).as_posix(): " ".join(re.sub(r"\n\s*#?", " ", path.read_text(encoding="utf-8")).split())
        for package in ("rlseq", "envs")
        for path in sorted((root / package).rglob("*.py"))
    }
    known = {_author_and_year(citation) for citation, _ in PAPER.findall(document)}
    cited = {found for text in texts.values() for found in CITATION.findall(text)}
    if missing := sorted(f"{author} {year}" for author, year in cited - known):
        raise ValueError(f"docs/papers.md has no row for {', '.join(missing)}: add one")

    def row(match: re.Match[str]) -> str:
        author, year = _author_and_year(match[1])
        near = re.compile(rf"\b{author}\b[^;]{{0,40}}?\b{year}\b")
        links = [f"[{name}](../{name})" for name, text in texts.items() if near.search(text)]
        return f"| {match[1]} | {match[2]} | {', '.join(links)} |"

    return re.sub(PAPER.pattern + ".*$", row, document, flags=re.MULTILINE)


def _author_and_year(citation: str) -> tuple[str, str]:
    return re.split(r"[ ,]", citation)[0], citation[-4:]


# ------------------------------------------------------------------------------------------------------------ documents
PAGES: dict[str, Callable[[str, Path], str]] = {
    "docs/reference/configuration.md": configuration,
    "docs/papers.md": papers,
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser_of_pages(__doc__).parse_args(arguments)
    root: Path = options.root
    try:
        pages = {name: made((root / name).read_text(encoding="utf-8"), root) for name, made in PAGES.items()}
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return write_pages(root, pages, "reference.py", options.check)


if __name__ == "__main__":
    sys.exit(main())
