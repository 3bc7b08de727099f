"""Small runs of both tasks, each with two checkpoints that give different outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq.config.load import parse_config
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.models.spaces import TaskSpaces
from rlseq.training.engine import UpdateRequest
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import RunDirectory
from tests.support import POINTER, checkpoint_meta

HULL: dict[str, Any] = {
    "name": "hull",
    "task": {
        "type": "convex_hull", "min_points": 3, "max_points": 4, "test_size": 250, "validation_size": 50,
        "reward": {"valid": 1.0, "edge_f1": 0.5},
    },
    "policy": POINTER | {"hidden_size": 32, "dropout": 0.0},
    "mle": {"updates": 0, "batch_size": 64}, "rl": {"updates": 0}, "evaluation": {"batch_size": 64},
}  # fmt: skip
TEXT: dict[str, Any] = {
    "name": "text",
    "task": {"type": "translation", "corpus": "files", "units": "word", "vocabulary_size": 60, "max_length": 12},
    "policy": {"embedding_size": 16, "hidden_size": 16, "dropout": 0.0},
    "mle": {"updates": 0}, "rl": {"updates": 0}, "evaluation": {"batch_size": 16},
}  # fmt: skip
COLORS = {"red": "rote", "blue": "blaue", "green": "grüne", "white": "weiße"}
THINGS = {"boat": "das {} Boot liegt heute am Ufer .", "house": "ein {} Haus steht dort auf dem Hügel ."}


def write_corpus(directory: Path) -> dict[str, str]:
    """Sentences that are soon learnt, and the configuration's keys of their files."""
    generator, files = np.random.default_rng(0), {}
    for split, size in (("train", 384), ("validation", 20), ("test", 40)):
        colors, things = generator.choice(list(COLORS), size), generator.choice(list(THINGS), size)
        source = [f"a {color} {thing} ." for color, thing in zip(colors, things, strict=True)]
        target = [THINGS[thing].format(COLORS[color]) for color, thing in zip(colors, things, strict=True)]
        for side, lines in (("source", source), ("target", target)):
            files[f"{split}_{side}"] = str(directory / f"{split}.{side}")
            (directory / f"{split}.{side}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return files


def train(path: Path, data: dict[str, Any], stops: dict[str, int], learning_rate: float) -> RunDirectory:
    """A run with a checkpoint after so many updates, one a phase."""
    config: Config = parse_config(data)
    env = make_vector_env(config.task)
    engine = PlainEngine(config, env.task, env.rollout)
    run = RunDirectory.create(config, path=path)
    env.task.save_artifacts(run.artifacts)
    batches = env.task.instances("train").ids(0, 384).reshape(-1, 64)
    update = 0
    for phase, stop in stops.items():
        while update < stop:
            ids = batches[update % len(batches)] if config.task.type == "translation" else np.arange(64) + 64 * update
            engine.update([UpdateRequest("mle", update, update, ids, learning_rate)])
            update += 1
        described = {"spaces": TaskSpaces.of(env.task).to_dict(), "signature": env.task.signature}
        meta = checkpoint_meta(phase, update, config=config.model_dump(mode="json"), **described)
        run.save(phase, update, engine.get_state(), meta, best=True)  # type: ignore[arg-type]
    run.close()
    return run


@pytest.fixture(scope="session")
def hull_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "hull-1", HULL, {"mle": 40, "rl": 80}, 0.01).path


@pytest.fixture(scope="session")
def hull_runs(tmp_path_factory: pytest.TempPathFactory, hull_run: Path) -> list[Path]:
    """Three seeds."""
    place = tmp_path_factory.mktemp("runs")
    others = [train(place / f"hull-{s}", HULL | {"seed": s}, {"mle": 40, "rl": 80}, 0.01).path for s in (1, 2)]
    return [hull_run, *others]


@pytest.fixture(scope="session")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = TEXT["task"] | write_corpus(tmp_path_factory.mktemp("corpus"))
    place = tmp_path_factory.mktemp("runs") / "text-1"
    return train(place, TEXT | {"task": task}, {"mle": 20, "rl": 60}, 0.02).path
