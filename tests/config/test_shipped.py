"""Every shipped configuration is sound and trains: two updates of each phase, with small sizes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rlseq.cli import app
from rlseq.config.load import list_configs, shipped_config
from rlseq.training.run_directory import read_metrics

NAMES = [config.name for config in list_configs()]
# Sizes alone: what makes an experiment what it is stays as it is shipped.
SIZES = {
    "convex_hull": ["task.validation_size=20", "task.test_size=20", "policy.hidden_size=8"],
    "translation": [
        *("task.cldr_sizes=[200, 20, 20]", "task.vocabulary_size=150"),
        *("policy.embedding_size=8", "policy.hidden_size=8"),
    ],
}
FEW = [
    *("mle.updates=2", "mle.batch_size=8", "mle.validate_every=2", "rl.updates=2", "rl.batch_size=4"),
    *("rl.validate_every=2", "log_every=1", "evaluation.samples_shown=1", "compute.threads=1"),
]


def shipped(name: str) -> dict[str, Any]:
    return yaml.safe_load(shipped_config(name).text)


def write_corpus(directory: Path, task: dict[str, Any]) -> None:
    """Small files where the configuration expects its corpus."""
    words = "a two three four five six seven eight nine ten".split()
    lines = "".join(f"{' '.join(words[i % 7 : i % 7 + 4])} {words[i % 10]}.\n" for i in range(200))
    for place in [value for key, value in task.items() if key.endswith(("_source", "_target"))]:
        (directory / place).parent.mkdir(parents=True, exist_ok=True)
        (directory / place).write_bytes(gzip.compress(lines.encode()))


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_through_both_phases(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = shipped(name)["task"]
    sizes = list(SIZES[task["type"]])
    if task.get("corpus") == "files":
        write_corpus(tmp_path, task)
        sizes = ["task.vocabulary_size=40", *sizes[2:]]
    result = CliRunner().invoke(app, ["train", name, *sizes, *FEW, "--run", "run"])
    assert result.exit_code == 0, result.output
    records = [record for record in read_metrics(Path("run/metrics.jsonl")) if "train/loss" in record]
    assert [(record["phase"], record["update"]) for record in records] == [("mle", 1), ("mle", 2), ("rl", 3), ("rl", 4)]
    assert len(json.loads(Path("run/report/comparison.json").read_text())["arms"]) == 2


@pytest.mark.parametrize("name", NAMES)
def test_it_says_how_it_is_launched_and_what_it_is(name: str) -> None:
    config = shipped_config(name)
    assert config.text.startswith(f"# rlseq train {name}")
    assert len(config.description) > 40 and shipped(name)["name"] == name
