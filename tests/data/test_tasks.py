"""Tasks are made from their configuration through Gymnasium's registry."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import pytest

from rlseq.data.tasks import make_task, make_vector_env
from rlseq_envs.settings import ConvexHullSettings, CustomTaskSettings, TranslationSettings
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from rlseq_envs.tasks.translation import TranslationTask
from tests.support import REVERSE, ReverseTask, only


def test_every_key_of_the_hull_reaches_the_task() -> None:
    task = make_task(
        ConvexHullSettings(type="convex_hull", min_points=3, max_points=4, test_points=(7, 9), test_size=11, seed=5)
    )
    assert isinstance(task, ConvexHullTask) and task.sources["points"].largest == (9, 2)
    assert task.instances("test").size == 11 and task.instances("validation").size == 4000
    other = make_task(ConvexHullSettings(type="convex_hull", min_points=3, max_points=4, seed=6))
    ids = task.instances("train").ids(0, 4)
    assert (only(task.source(ids))[0].shape != only(other.source(ids))[0].shape) or (
        only(task.source(ids))[0] != only(other.source(ids))[0]
    ).any()


def test_a_custom_task_takes_its_arguments_and_the_number_of_environments() -> None:
    config = CustomTaskSettings(**REVERSE | {"arguments": {"letters": 6}})
    env = make_vector_env(config, num_envs=3)
    assert isinstance(env.task, ReverseTask) and env.task.choices.size == 7 and env.num_envs == 3


def test_artifacts_replace_the_corpus(tmp_path: Path) -> None:
    config = TranslationSettings(type="translation", units="word", cldr_sizes=(60, 5, 5))
    task = make_task(config)
    task.prepare()
    task.save_artifacts(tmp_path)
    again = make_task(config, tmp_path)
    assert isinstance(again, TranslationTask) and again.choices == task.choices
    assert again.signature == task.signature


def test_an_unknown_environment_is_named() -> None:
    with pytest.raises(gymnasium.error.Error, match="Nowhere"):
        make_task(CustomTaskSettings(type="custom", id="tests.support:test/Nowhere-v0"))
