"""A run directory as reports see it, and rows of samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from rlseq.config.load import load_config
from rlseq.config.schema import Config
from rlseq.report.samples import SampleRow
from rlseq_envs.drawing import Polygon


class Run:
    """What reports need of a run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append_metrics(self, record: Mapping[str, object]) -> None:
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture(scope="session")
def config() -> Config:
    return load_config("hull")


@pytest.fixture
def rows() -> list[SampleRow]:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    hull = SampleRow(
        id=7,
        source="p1(0,0) p2(1,0)",
        reference="p1 p2 p3 p4 END",
        greedy="p1 p2 p3 END",
        greedy_reward=0.0,
        sample="p1 p2 p3 p4 END",
        sample_reward=1.0,
        advantage=1.0,
        drawing=Polygon(points, (0, 1, 2), (0, 1, 2, 3)),
        attention=np.eye(4, 5),
        input_labels=("p1", "p2", "p3", "p4", "p5"),
        output_labels=("p1", "p2", "p3", "END"),
    )
    text = SampleRow(id=8, source="a [b] $x$ | c", reference="", greedy="<b> d", greedy_reward=0.25)
    return [hull, text]
