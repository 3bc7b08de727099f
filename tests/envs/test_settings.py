"""Settings of tasks: written once, they make the task, and the configuration reads them as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import gymnasium
import pytest
from pydantic import Field, ValidationError, create_model

from rlseq.config.load import load_config
from rlseq.config.schema import Config
from rlseq.config.section import Section
from rlseq.data.tasks import make_task
from rlseq_envs.registration import register
from rlseq_envs.settings import ConvexHullSettings, TaskSettings, TranslationSettings
from rlseq_envs.settings.base import Settings
from rlseq_envs.settings.rules import File, PositiveInt
from tests.support import ReverseTask

KINDS = get_args(TaskSettings)
SHIPPED = [kind for kind in KINDS if kind is not KINDS[-1]]
WRONG: list[Any] = [-1, 0, 1, 1.5, True, None, "x", [], [1, 2], [2, 1, 3], {}, ["a", "b"], "subword", ["BLEU", "x"]]


# ------------------------------------------------------------------------------------------- a new task, for instance
@dataclass(frozen=True, kw_only=True)
class SpellingSettings(Settings):
    env_id: ClassVar[str] = "rlseq-tests/Spelling-v0"

    type: Literal["spelling"] = "spelling"
    letters: PositiveInt = 5
    words: File = None

    def conflicts(self) -> Iterator[str]:
        if self.words and self.letters > 26:
            yield f"letters is {self.letters}: there are 26 in words"
        if self.letters == 13:
            yield "letters is 13: give another number"

    def outline(self) -> None:
        return None

    @property
    def trains_rl_on_others(self) -> bool:
        return False


class SpellingTask(ReverseTask):
    def __init__(self, **settings: Any) -> None:
        self.settings = SpellingSettings(**settings)
        super().__init__(letters=self.settings.letters)


class SpellingConfig(Config):
    task: Annotated[TaskSettings | SpellingSettings, Field(discriminator="type")]  # type: ignore[assignment]


def test_a_new_task_is_its_settings_its_class_and_a_line_in_registry_and_union() -> None:
    register(SpellingSettings.env_id, SpellingTask)
    data = load_config("hull").model_dump(mode="json") | {"task": {"type": "spelling", "letters": 7}}
    config = SpellingConfig.model_validate_json(json.dumps(data))
    task = make_task(config.task)  # type: ignore[arg-type]
    assert isinstance(task, SpellingTask) and task.settings == config.task and task.choices.size == 8
    assert SpellingConfig.model_validate_json(config.model_dump_json()) == config
    assert SpellingSettings.file_keys() == ["words"]


def test_everything_that_is_wrong_is_told_a_line_each() -> None:
    with pytest.raises(ValueError) as caught:
        SpellingSettings(letters=-1, words=3)  # type: ignore[arg-type]
    assert str(caught.value).split("\n") == [
        "letters is -1; give a whole number above 0",
        "words is 3; give a text or None",
    ]
    with pytest.raises(TypeError, match="leters"):
        SpellingSettings(leters=3)  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------------------ those that are there
@pytest.mark.parametrize("kind", SHIPPED, ids=lambda kind: kind.__name__)
def test_settings_have_a_default_for_every_key_and_an_environment_that_takes_them(kind: type[Settings]) -> None:
    assert all(field.default is not MISSING or field.default_factory is not MISSING for field in fields(kind))
    name, arguments = kind().environment()  # type: ignore[call-arg]
    assert name in gymnasium.registry
    assert arguments.keys() == {field.name for field in fields(kind)} - {"type"}


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, field.name) for kind in SHIPPED for field in fields(kind) if field.name != "type"]
)
def test_the_configuration_and_the_task_refuse_the_same_values(kind: type[Settings], key: str) -> None:
    """The rules are read by pydantic here and by the settings there."""

    def accepts(make: Any) -> bool:
        try:
            make()
        except (ValueError, ValidationError):
            return False
        return True

    section = create_model("Probe", __base__=Section, task=(kind, ...))
    for value in WRONG:
        read = accepts(lambda: section.model_validate_json(json.dumps({"task": {key: value}})))  # noqa: B023
        assert read == accepts(lambda: kind(**{key: value})), value  # noqa: B023


def test_several_rules_broken_are_as_many_lines_of_the_configuration(tmp_path: Path) -> None:
    overrides = ["task.chrf_beta=3", "task.metrics=[TER]", "task.rl_target=nowhere", "task.max_length=1"]
    with pytest.raises(ValueError) as caught:
        load_config("translation", overrides[:-2])
    assert str(caught.value).split("\n")[1:] == [
        "  task: chrf_beta is 3, but reward has no chrf: add it, or leave chrf_beta out",
        "  task: metrics must hold BLEU, which picks the best checkpoint: add it",
    ]
    with pytest.raises(ValueError, match=r"task\.max_length: 1 is not a whole number at least 2"):
        load_config("translation", overrides)


def test_rl_has_other_instances_if_they_are_named() -> None:
    assert not ConvexHullSettings().trains_rl_on_others and not TranslationSettings().trains_rl_on_others
    assert ConvexHullSettings(rl_generated=True).trains_rl_on_others
    assert ConvexHullSettings(rl_file="a").trains_rl_on_others
    named: dict[str, Any] = {key: "a" for key in TranslationSettings.file_keys() if not key.startswith("test")}
    assert TranslationSettings(**named).trains_rl_on_others
