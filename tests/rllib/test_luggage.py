"""Workers on other machines do without the driver's disk: it is gone before they start."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from rlseq.rllib import algorithm, engine
from rlseq.rllib.engine import RllibEngine
from rlseq.rllib.luggage import Luggage
from rlseq_envs.settings import ConvexHullSettings, CustomTaskSettings
from tests.rllib.test_shared_data import experiment, losses, prepared
from tests.rllib.tools import config, make_engine, requests
from tests.support import policy_config

TASK = """
import rlseq_envs
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from beside_it.parts import scale

class Mine(ConvexHullTask):
    scale = scale

rlseq_envs.register("mine/Hull-v0", Mine)
"""
REWARD = "def longest(outputs, references, **more):\n    return [float(len(output)) for output in outputs]\n"


@pytest.fixture
def without_disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Removes a directory once the driver has all it needs, before workers start."""

    def after(directory: Path) -> None:
        build = algorithm.SequenceAlgorithm

        class Algorithm(build):  # type: ignore[misc, valid-type]
            def __init__(self, **settings: Any) -> None:
                shutil.rmtree(directory)
                super().__init__(**settings)

        monkeypatch.setattr(engine, "SequenceAlgorithm", Algorithm)

    return after


def test_a_vocabulary_reaches_workers(ray_cluster: None, tmp_path: Path, without_disk: Any) -> None:
    place = tmp_path / "data"
    place.mkdir()
    local = RllibEngine(experiment(place), *prepared(experiment(place), place))
    settings = experiment(place, runners=1, learners=1)
    task, artifacts = prepared(settings, place)
    without_disk(place)
    remote = RllibEngine(settings, task, artifacts)
    try:
        assert losses(remote, range(2)) == pytest.approx(losses(local, range(2)), rel=1e-3, abs=1e-4)
    finally:
        remote.close()


def test_modules_of_the_user_reach_workers(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_disk: Any
) -> None:
    place = tmp_path / "modules"
    (place / "beside_it").mkdir(parents=True)
    (place / "beside_it" / "parts.py").write_text("scale = 2.0\n")
    (place / "shipped_task.py").write_text(TASK)
    monkeypatch.syspath_prepend(place)
    importlib.invalidate_caches()
    task = CustomTaskSettings(type="custom", id="shipped_task:mine/Hull-v0")
    without_disk(place)
    remote = make_engine(config(1, 1).model_copy(update={"task": task}))
    try:
        remote.update(requests("mle", 0, 1))
        remote.start_phase("rl")
        remote.update(requests("rl", 1, 1))
        paths = remote.algorithm.env_runner_group.foreach_env_runner(lambda runner: type(runner.env.task).scale)
        assert paths == [2.0]
    finally:
        remote.close()
        for name in [name for name in sys.modules if name.startswith(("shipped_task", "beside_it"))]:
            del sys.modules[name]


def test_what_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that the configuration names in keys and values, with their packages; nothing that is installed."""
    (tmp_path / "package" / "inner").mkdir(parents=True)
    for name in ("rewards.py", "package/__init__.py", "package/inner/net.py", "package/notes.txt", "unrelated.py"):
        (tmp_path / name).write_text(REWARD)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    settings = ConvexHullSettings(type="convex_hull", reward={"rewards:longest": 1.0})
    own = {
        "encoder": {"type": "own", "class": "package.inner.net:Net"},
        "decoder": {"type": "own", "class": "torch:nn"},
    }
    named = config().model_copy(update={"task": settings, "policy": policy_config(own)})
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "vocabulary.json").write_text("[]")
    luggage = Luggage.of(named, tmp_path / "artifacts")
    assert set(luggage.modules) == {"rewards.py", "package/__init__.py", "package/inner/net.py"}
    assert luggage.artifacts == {"vocabulary.json": b"[]"}
    assert Luggage.of(config(), None) == Luggage({}, {})
