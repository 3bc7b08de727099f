"""What is said of rewards is so: the example trains, tables name what there is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rlseq.cli import app
from rlseq.config.load import load_config
from rlseq.training.run_directory import read_metrics
from rlseq_envs.env import score_sequences
from rlseq_envs.settings.convex_hull import HULL_REWARDS
from rlseq_envs.settings.pixels import PIXELS_REWARDS
from rlseq_envs.settings.story import STORY_REWARDS
from rlseq_envs.settings.tape import TAPE_REWARDS
from rlseq_envs.settings.text import REWARD_OPTIONS, TEXT_REWARDS

DOCS = Path(__file__).parents[1] / "docs"
TABLES, GUIDE = DOCS / "rewards.md", DOCS / "howto" / "own-reward.md"
FEW = [
    *("mle.updates=1", "mle.batch_size=4", "mle.average=0", "rl.updates=2", "rl.batch_size=2", "rl.average=0"),
    *("log_every=1", "evaluation.samples_shown=1", "compute.threads=1", "task.units=character"),
    *("task.cldr_sizes=[60, 8, 8]", "policy.embedding_size=8", "policy.hidden_size=8", "task.max_length=12"),
]


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines()]


def test_the_example_trains_and_logs_each_component_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(blocks(GUIDE, "python")[0])
    (command,) = map(shlex.split, commands(GUIDE))
    # -P leaves the working directory out of the search for modules, as the installed command does.
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command, *FEW, "--run", "run"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    weights = {"sentence_bleu": 0.7, "same_end": 0.2, "brief": 0.1}
    sampled = [record for record in records if "rollout/reward_mean" in record]
    validated = [record for record in records if "eval/reward" in record]
    assert len(sampled) == 2 and len(validated) >= 2
    for record in sampled:
        total = sum(weight * record[f"rollout/{name}_mean"] for name, weight in weights.items())
        assert record["rollout/reward_mean"] == pytest.approx(total)
    for record in validated:
        total = sum(weight * record[f"eval/{name}"] for name, weight in weights.items())
        assert record["eval/reward"] == pytest.approx(total)
    assert "same_end" in done.stdout


@pytest.mark.parametrize("command", commands(TABLES))
def test_every_command_changes_the_reward(command: str) -> None:
    _, _, name, *overrides = shlex.split(command)
    assert load_config(name, overrides).task.reward != load_config(name).task.reward


def test_the_tables_name_every_reward_and_every_option() -> None:
    page = TABLES.read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert named == [*TEXT_REWARDS, *HULL_REWARDS, *TAPE_REWARDS, *STORY_REWARDS, *PIXELS_REWARDS]
    assert all(f"`{key}" in page for key in REWARD_OPTIONS)


def test_the_example_of_potentials_hands_its_reward_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sorting.py").write_text(blocks(DOCS / "howto" / "own-task.md", "python")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, Any] = {}
    exec(blocks(GUIDE, "python")[1], names)
    task, ids = names["SortingByLetters"](), np.arange(3)
    sequences = np.pad(task.references(ids)[0], ((0, 0), (0, 1)))
    assert sequences[1, 3] != 8
    sequences[1, 3:5] = 8, 0
    sequences[2, 0] = 0
    result = score_sequences(task, ids, sequences, with_potentials=True)
    assert result.rewards.tolist() == [1, 0, 0] and result.potentials is not None
    np.testing.assert_allclose(result.potentials[0], [*(np.arange(1, 8) / 7), 0])
    np.testing.assert_allclose(result.potentials[1], [1 / 7, 2 / 7, 3 / 7, 0, 0, 0, 0, 0])
    assert not result.potentials[2].any()


def test_a_mistake_in_it_is_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text(blocks(GUIDE, "python")[0].replace("- 1)", "- 1)[1:]"))
    (command,) = (shlex.split(line)[1:] for line in commands(GUIDE))
    result = CliRunner().invoke(app, [*command, *FEW])
    assert result.exit_code == 2 and result.stderr == (
        "error: task.reward: mine:brief gave an array of shape (1,) for 2 sequences: give one number a sequence\n"
    )
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["mine.py"]
