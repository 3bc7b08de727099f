"""The generator of the tables of results."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "results.py"
ARMS = {"mle": (70.0, 71.0), "rl": (78.0, 80.0), "equal_time": (70.5, 70.7), "constant_reward": (70.0, 71.5)}


def make_study(directory: Path, commit: str = "c0ffee" * 6, gain: float = 8.25) -> Path:
    study = directory / "a-study"
    (study / "report").mkdir(parents=True)
    made = {
        "made_with": {
            **{"command": "rlseq study hull", "commit": commit, "directory": "/home/someone"},
            "host": {"cores": 2, "processor": "Some CPU", "gpus": [], "name": "secret"},
        },
        "seeds": [0, 1],
        "equal_time_updates": 14300,
        "arms": [{"name": name, "tried": 2, "selected": {"rl.samples": "8"}} for name in ARMS],
    }
    (study / "study.json").write_text(json.dumps(made))

    def arm(name: str, values: tuple[float, float]) -> dict[str, Any]:
        mean = sum(values) / 2
        return {
            "name": name,
            "seeds": [0, 1],
            "checkpoints": [f"/home/someone/a-study/seed{s}/{name}/checkpoints/rl/900" for s in (0, 1)],
            "metrics": {"accuracy": mean, "area": None},
            "per_seed": {"accuracy": list(values), "area": [None, None]},
            "iqm": {"accuracy": mean, "area": None},
            "ci95": {"accuracy": [mean - 2, mean + 2], "area": None},
            "signatures": {"task": "hull|1", "BLEU": "nrefs:1"},
            "seconds": 900.0,
            "cost": {"updates": 10000},
        }

    def difference(a: str, b: str, delta: float) -> dict[str, Any]:
        return {"metric": "accuracy", "a": a, "b": b, "delta": delta, "ci95": [delta - 1, delta + 1], "p_value": 0.0004}

    comparison = {
        "primary": "accuracy",
        "method": "Intervals over seeds",
        "arms": [arm(name, values) for name, values in ARMS.items()],
        "attributable": [
            {
                "metric": "accuracy",
                "best_control": "constant_reward",
                "delta": gain,
                "ci95": [7.0, 9.5],
                "p_value": 0.02,
            }
        ],
        "differences": [difference("mle", "rl", 8.5), difference("rl", "equal_time", -8.4)],
        "examples": [{"id": 1, "source": "a sentence of the corpus"}],
        "regressions": [{"id": 1, "source": "a sentence of the corpus"}],
    }
    (study / "report" / "comparison.json").write_text(json.dumps(comparison))
    return study


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# rlseq\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nmore\n")
    (tmp_path / "docs" / "results.md").write_text("<!-- arms:begin -->\n<!-- arms:end -->\n")
    (tmp_path / "docs" / "systems.yaml").write_text("- result: hull\n- system: not studied\n- result: copies\n")
    return tmp_path


def run_script(script: ModuleType, root: Path, *arguments: str) -> int:
    code: int = script.main(["--root", str(root), *arguments])
    return code


def test_a_study_becomes_a_row_with_its_best_control_and_all_it_takes_to_make_it_again(
    script: ModuleType, root: Path
) -> None:
    assert run_script(script, root, "record", str(make_study(root)), "--title", "hull", "--command", "make it") == 0
    assert run_script(script, root, "--check") == 1
    assert run_script(script, root) == 0
    assert run_script(script, root, "--check") == 0
    text = (root / "README.md").read_text()
    assert text.startswith("# rlseq\n\n<!-- results:begin -->\n") and text.endswith("<!-- results:end -->\n\nmore\n")
    gain = "70.75 ± 1.06 (constant_reward) | +8.25 [7.00, 9.50] | 0.020 | 15 min |"
    assert f"| hull | accuracy | 2 | 70.50 ± 0.71 | 79.00 ± 1.41 | {gain}" in text
    assert "- hull: `make it`, seeds 0, 1, commit c0ffeec0ffee, 1 core of Some CPU, equal_time: 14,300 updates" in text


def test_every_arm_has_a_point_a_seed_and_its_difference_to_rl_whichever_stands_first(
    script: ModuleType, root: Path
) -> None:
    run_script(script, root, "record", str(make_study(root)), "--title", "hull")
    run_script(script, root)
    text = (root / "docs" / "results.md").read_text()
    assert "| mle | 70.00, 71.00 | 70.50 [68.50, 72.50] | 70.50 | +8.50 [7.50, 9.50] | < 0.001 | 10,000 | 900 |" in text
    assert "| equal_time | 70.50, 70.70 | 70.60 [68.60, 72.60] | 70.60 | +8.40 [7.40, 9.40] | < 0.001 |" in text
    assert "| rl | 78.00, 80.00 | 79.00 [77.00, 81.00] | 79.00 |  |  |" in text


def test_studies_stand_in_the_order_of_the_systems_and_new_ones_behind(script: ModuleType, root: Path) -> None:
    study = str(make_study(root))
    for title in ("a-new-one", "copies", "hull"):
        run_script(script, root, "record", study, "--title", title)
    run_script(script, root)
    for name, beginning in (("README.md", r"^\| ([a-z-]+) \| accuracy"), ("docs/results.md", r"^### (.*)")):
        titles = re.findall(beginning, (root / name).read_text(), re.MULTILINE)
        assert titles == ["hull", "copies", "a-new-one"]


def test_a_gain_that_is_none_is_printed_like_any_other(script: ModuleType, root: Path) -> None:
    run_script(script, root, "record", str(make_study(root, gain=-4.45)), "--title", "translation")
    run_script(script, root)
    assert "| -4.45 [7.00, 9.50] | 0.020 |" in (root / "README.md").read_text()


def test_what_is_recorded_names_no_machine_and_quotes_no_corpus(script: ModuleType, root: Path) -> None:
    run_script(script, root, "record", str(make_study(root)), "--title", "hull")
    text = (root / "docs" / "results" / "hull.json").read_text()
    assert not any(word in text for word in ("secret", "someone", "corpus", str(root)))
    result = json.loads(text)
    assert result["arms"][1]["checkpoints"] == [f"seed{s}/rl/checkpoints/rl/900" for s in (0, 1)]
    assert result["arms"][1]["tried"] == 2 and result["arms"][1]["selected"] == {"rl.samples": "8"}


@pytest.mark.parametrize("commit", ["c0ffee+", ""])
def test_a_study_of_files_in_no_commit_is_refused(
    script: ModuleType, root: Path, commit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_script(script, root, "record", str(make_study(root, commit=commit)), "--title", "hull") == 2
    assert "in no commit" in capsys.readouterr().err


def test_a_document_without_markers_is_refused(
    script: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "README.md").write_text("# rlseq\n")
    assert run_script(script, root) == 2
    assert "results:begin" in capsys.readouterr().err


def test_no_studies_give_tables_that_say_so(script: ModuleType, root: Path) -> None:
    assert run_script(script, root) == 0
    for name in ("README.md", "docs/results.md"):
        assert "No study is recorded yet." in (root / name).read_text()
