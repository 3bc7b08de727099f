"""The generator of the README's results table."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "results.py"
LOG = """\
2026-01-01T10:00:00+00:00 INFO run runs/hull-1 (hull, seed 3)
2026-01-01T10:10:00+00:00 INFO validation mle update 200 accuracy 70
2026-01-01T12:00:00+00:00 INFO run runs/hull-1 (hull, seed 3), resumed after update 200
2026-01-01T12:05:00+00:00 INFO validation rl update 300 accuracy 75
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_run(directory: Path, seed: int, accuracy: tuple[float, float], commit: str = "c0ffee" * 6) -> Path:
    run = directory / f"hull-{seed}"
    (run / "report").mkdir(parents=True)
    place = run / "checkpoints" / "rl"
    (place / "7500").mkdir(parents=True)
    (place / "best").symlink_to("7500")
    checkpoints = {name: f"/home/someone/{run.name}/checkpoints/{name}/7500" for name in ("mle", "rl")}
    comparison: dict[str, Any] = {
        "arms": [
            {"name": name, "checkpoint": checkpoints[name], "metrics": {"accuracy": value, "area": None, "reward": 0.1}}
            for name, value in zip(("mle", "rl"), accuracy, strict=True)
        ],
        "differences": [
            {
                "metric": "accuracy", "a": "mle", "b": "rl", "delta": accuracy[1] - accuracy[0],
                "ci95": [1.25, 6.5], "p_value": 0.0002 * (seed + 1),
            }
        ],
        "examples": [{"id": 1, "source": "a sentence of the corpus"}],
    }  # fmt: skip
    environment = {
        "command": "rlseq train hull", "commit": commit,
        "host": {"cores": 2, "processor": "Some CPU", "gpus": [], "name": "secret"},
    }  # fmt: skip
    (run / "report" / "comparison.json").write_text(json.dumps(comparison))
    (run / "environment.json").write_text(json.dumps(environment))
    (run / "train.log").write_text(LOG)
    meta = {"config": {"seed": seed}, "signature": "convex_hull|version:1"}
    (place / "7500" / "meta.json").write_text(json.dumps(meta))
    return run


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text("# rlseq\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nmore\n")
    return path


def run_script(script: ModuleType, readme: Path, *arguments: str) -> int:
    return script.main(["--readme", str(readme), "--results", str(readme.parent / "results"), *arguments])


def test_a_run_becomes_a_row_with_all_it_takes_to_make_it_again(script: ModuleType, readme: Path) -> None:
    run = make_run(readme.parent, 3, (76.0, 80.5))
    assert run_script(script, readme, "record", str(run), "--title", "hull", "--command", "make train") == 0
    assert run_script(script, readme, "--check") == 1
    assert run_script(script, readme) == 0
    assert run_script(script, readme, "--check") == 0
    text = readme.read_text()
    assert text.startswith("# rlseq\n\n<!-- results:begin -->\n") and text.endswith("<!-- results:end -->\n\nmore\n")
    assert "| hull | accuracy | 1 | 76.00 | 80.50 | +4.50 [1.25, 6.50] | < 0.001 | 15 min |" in text
    assert "- hull: `make train`, seed 3, commit c0ffeec0ffee, 2 cores of Some CPU" in text


def test_seeds_become_mean_and_spread_with_the_worst_p_value(script: ModuleType, readme: Path) -> None:
    for seed, accuracy in ((0, (75.0, 79.0)), (9, (77.0, 80.0))):
        run = make_run(readme.parent, seed, accuracy)
        assert run_script(script, readme, "record", str(run), "--title", "hull") == 0
    assert run_script(script, readme) == 0
    row = "| hull | accuracy | 2 | 76.00 ± 1.41 | 79.50 ± 0.71 | +3.50 ± 0.71 | 0.002 | 15 min |"
    assert row in readme.read_text()
    assert readme.read_text().count("- hull: `rlseq train hull`") == 2


def test_what_is_recorded_names_no_machine_and_quotes_no_corpus(script: ModuleType, readme: Path) -> None:
    run = make_run(readme.parent, 3, (76.0, 80.5))
    evaluation = readme.parent / "evaluation.json"
    evaluation.write_text(json.dumps({"signatures": {"task": "t", "BLEU": "nrefs:1|tok:13a"}}))
    run_script(script, readme, "record", str(run), "--title", "hull", "--evaluation", str(evaluation))
    text = (readme.parent / "results" / "hull-seed3.json").read_text()
    assert not any(word in text for word in ("secret", "someone", "corpus", str(readme.parent)))
    result = json.loads(text)
    assert [arm["checkpoint"] for arm in result["arms"]] == [
        "hull-3/checkpoints/mle/7500",
        "hull-3/checkpoints/rl/7500",
    ]
    assert result["wall_time"] == 900.0
    run_script(script, readme)
    assert "BLEU `nrefs:1|tok:13a`" in readme.read_text()


@pytest.mark.parametrize("commit", ["c0ffee+", ""])
def test_a_run_from_files_in_no_commit_is_refused(
    script: ModuleType, readme: Path, commit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(readme.parent, 0, (1.0, 2.0), commit=commit)
    assert run_script(script, readme, "record", str(run), "--title", "hull") == 2
    assert "in no commit" in capsys.readouterr().err


def test_a_readme_without_markers_is_refused(
    script: ModuleType, readme: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme.write_text("# rlseq\n")
    assert run_script(script, readme) == 2
    assert "results:begin" in capsys.readouterr().err


def test_no_runs_give_a_table_that_says_so(script: ModuleType, readme: Path) -> None:
    assert run_script(script, readme) == 0
    assert "No run is recorded yet." in readme.read_text()
