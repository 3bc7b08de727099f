"""Pages made from the source: they are as the script makes them, and what is stale or missing is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import reference

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the pages, beside a source of one file."""
    for page in reference.PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    (tmp_path / "rlseq").mkdir()
    (tmp_path / "rlseq" / "one.py").write_text('"""As in (Rennie et\nal. 2017, eq. 4)."""\n# after Holm\n# (1979)\n')
    return tmp_path


def test_the_pages_are_as_the_source_makes_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--check"]) == 0, capsys.readouterr().err


def test_every_file_named_is_there_and_every_paper_is_followed() -> None:
    rows = [line for line in (ROOT / "docs/papers.md").read_text().splitlines() if reference.PAPER.match(line)]
    assert rows and all("](../" in row for row in rows)


def test_a_stale_page_is_told_and_rewritten(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = root / "docs/reference/configuration.md"
    made = page.read_text()
    page.write_text(made.replace("`rl.samples`", "`rl.sample`"))
    reference.main(["--root", str(root)])
    assert page.read_text() == made
    page.write_text(made.replace("`rl.samples`", "`rl.sample`"))
    assert reference.main(["--check", "--root", str(root)]) == 1
    assert "configuration.md is stale: run python scripts/reference.py" in capsys.readouterr().err
    assert page.read_text() != made


def test_papers_are_found_across_lines_and_in_comments(root: Path) -> None:
    assert reference.main(["--root", str(root)]) == 0
    rows = [line for line in (root / "docs/papers.md").read_text().splitlines() if "one.py" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| Rennie et al. 2017", "| Holm 1979"]


@pytest.mark.parametrize(
    "cited", ["Nobody 2031", "Nobody et al. (2031)", "Nobody & Other 2031", "Nobody, Some & Other 2031"]
)
def test_a_paper_without_a_row_is_told(cited: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "rlseq" / "two.py").write_text(f'"""After {cited}."""\n')
    assert reference.main(["--check", "--root", str(root)]) == 2
    assert "docs/papers.md has no row for Nobody 2031: add one" in capsys.readouterr().err
