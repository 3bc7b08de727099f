"""What docs/rewards.md says is so: its example trains, its tables name what there is."""

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
from rlseq_envs.settings.text import REWARD_OPTIONS, TEXT_REWARDS

DOC = (Path(__file__).parents[1] / "docs" / "rewards.md").read_text(encoding="utf-8")
FEW = [
    *("mle.updates=1", "mle.batch_size=4", "mle.average=0", "rl.updates=2", "rl.batch_size=2", "rl.average=0"),
    *("log_every=1", "evaluation.samples_shown=1", "compute.threads=1", "task.units=character"),
    *("task.cldr_sizes=[60, 8, 8]", "policy.embedding_size=8", "policy.hidden_size=8", "task.max_length=12"),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOC, flags=re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


def test_the_example_trains_and_logs_each_component_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(blocks("python")[0])
    (command,) = (shlex.split(line) for line in COMMANDS if "mine:" in line)
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


@pytest.mark.parametrize("command", [line for line in COMMANDS if "mine:" not in line])
def test_every_other_command_is_a_configuration(command: str) -> None:
    _, _, name, *overrides = shlex.split(command)
    assert load_config(name, overrides).task.reward != load_config(name).task.reward


def test_the_tables_name_every_reward_and_every_option() -> None:
    named = re.findall(r"^\| `(\w+)` \|", DOC, flags=re.MULTILINE)
    assert named == [*TEXT_REWARDS, *HULL_REWARDS]
    assert all(f"`{key}" in DOC for key in REWARD_OPTIONS)


def test_the_example_of_potentials_hands_its_reward_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    sorting = next(block for block in re.findall(r"^```python\n(.*?)^```$", readme, re.S | re.M) if "Sorting" in block)
    (tmp_path / "sorting.py").write_text(sorting)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)
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
    (tmp_path / "mine.py").write_text(blocks("python")[0].replace("- 1)", "- 1)[1:]"))
    (command,) = (shlex.split(line)[1:] for line in COMMANDS if "mine:" in line)
    result = CliRunner().invoke(app, [*command, *FEW])
    assert result.exit_code == 2 and result.stderr == (
        "error: task.reward: mine:brief gave an array of shape (1,) for 2 sequences: give one number a sequence\n"
    )
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["mine.py"]
