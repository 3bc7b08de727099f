"""A million pairs train within 2 GiB: measured on fewer and extended along a line.

``scripts/memory.py`` without a number measures the million, in a minute or two.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "memory.py"
FEW, MANY, MILLION = 10_000, 150_000, 1_000_000
# Of the least weight, so that the data's is not lost in it.
SMALL = [
    *("policy.embedding_size=32", "policy.hidden_size=64", "task.vocabulary_size=2000", "mle.batch_size=1000"),
    *("mle.updates=2", "rl.batch_size=200", "rl.updates=1", "mle.average=0", "rl.average=0"),
]


def measured(pairs: int, place: Path) -> dict[str, float]:
    command = [sys.executable, str(SCRIPT), "--pairs", str(pairs), "--json", str(place / "figures"), *SMALL]
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    figures: dict[str, float] = json.loads((place / "figures").read_text())
    return figures


@pytest.mark.skipif(sys.platform == "win32", reason="the peak is read from getrusage")
def test_a_million_pairs_train_within_two_gibibytes(tmp_path: Path) -> None:
    few, many = measured(FEW, tmp_path), measured(MANY, tmp_path)
    assert few["goal"] == 2048
    for stage in ("prepared", "trained"):
        a_pair = (many[stage] - few[stage]) / (MANY - FEW)
        assert few[stage] + a_pair * (MILLION - FEW) < few["goal"], stage
