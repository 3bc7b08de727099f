"""The generator of the table of systems: figures are those of studies, and what was not studied says so."""

from __future__ import annotations

from pathlib import Path

import pytest

import results
import systems
from tests.report.test_results import make_study

ROWS = """
- {system: Pointer network, configuration: hull, data: made, published: none, result: hull}
- {system: A network, configuration: other, data: a corpus, published: 12.3}
- {system: Another, configuration: third, data: a corpus, published: none, measured: 4 after mle}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "systems.md").write_text("<!-- systems:begin -->\nold\n<!-- systems:end -->\n")
    (tmp_path / "docs" / "systems.yaml").write_text(ROWS)
    results.main(["--root", str(tmp_path), "record", str(make_study(tmp_path)), "--title", "hull"])
    return tmp_path


def test_a_row_has_the_figures_of_its_study_or_says_that_there_is_none(root: Path) -> None:
    arguments = ["--root", str(root)]
    assert systems.main([*arguments, "--check"]) == 1
    assert systems.main(arguments) == 0
    assert systems.main([*arguments, "--check"]) == 0
    text = (root / "docs" / "systems.md").read_text()
    figures = "70.50 ± 0.71 | 79.00 ± 1.41 | 70.75 ± 1.06 (constant_reward) | +8.25 [7.00, 9.50] | 0.020 | 2 | 15 min"
    assert f"| Pointer network | `hull` | made | accuracy | none | {figures} | `rlseq study hull` |" in text
    assert "| A network | `other` | a corpus |  | 12.3 | not studied |" in text and text.count("\n|") == 5
    assert "| none | 4 after mle; not studied |" in text


def test_a_row_of_a_study_that_is_not_recorded_is_an_error(root: Path) -> None:
    (root / "docs" / "results" / "hull.json").unlink()
    with pytest.raises(KeyError, match="hull"):
        systems.main(["--root", str(root)])
