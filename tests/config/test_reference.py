"""The reference of the configuration: every key, the defaults that a configuration gets, the comments of the source."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from rlseq.cli import app
from rlseq.config.errors import UserError
from rlseq.config.explain import every_path
from rlseq.config.load import parse_config
from rlseq.config.reference import KeySection, find, meanings, sections
from rlseq.config.section import Section

PLACES = {section.path for section in sections()}
TASKS = [section.kind for section in sections() if section.path == "task"]
LEAST: dict[str, Any] = {"name": "least", "mle": {"updates": 1}, "rl": {"updates": 1}}
POLICIES = {
    "convex_hull": {"output": "pointer"},
    "story": {"encoder": "story"},
    "caption": {"encoder": "convolutional"},
}  # others do with the default


def explain(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["configs", "explain", *arguments])
    return result.exit_code, result.output


def test_every_key_there_is_is_in_it() -> None:
    found = {key.path for section in sections() for key in section.keys}
    assert found == {path for path in every_path() if path.removesuffix(".type") not in PLACES - {path}}


def test_every_key_says_what_it_means() -> None:
    assert [key.path for section in sections() for key in section.keys if not key.meaning] == []


@pytest.mark.parametrize("task", TASKS)
def test_defaults_are_those_that_a_configuration_gets(task: str) -> None:
    own = {"id": "mine:Task"} if task == "custom" else {}
    config = parse_config(LEAST | {"task": {"type": task} | own, "policy": POLICIES.get(task, {})})
    values = config.model_dump(mode="json")
    compared = 0
    for section in sections():
        place = _at(values, section.path)
        if section.kind in (None, place.get("type")):
            for key in section.keys:
                value = place[key.path.rsplit(".", 1)[-1]]
                if key.default is None or (isinstance(value, dict) and key.path in PLACES):
                    continue
                assert key.default == (value if isinstance(value, str) else json.dumps(value)), key.path
                compared += 1
    assert compared > 60


def _at(values: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        values = values[part]
    return values


def test_a_place_has_its_defaults() -> None:
    rates = {path: find(f"{path}.optimizer.learning_rate")[0][0][1].default for path in ("mle", "rl")}
    assert rates == {"mle": "0.001", "rl": "0.0001"}


class Parent(Section):
    """A parent."""

    # Above.
    # And on.
    both: int = 1  # behind

    behind: tuple[int, int] = (1, 2)  # over lines
    # a clause
    clause: int = 0  # and another
    text: Literal["# no comment"] = "# no comment"
    repeated: int = 1  # as the parent says


class Child(Parent):
    """A child."""

    repeated: int = 2
    clause: int = 3  # anew


def test_comments_above_and_behind_a_key_belong_to_it() -> None:
    parent = {
        "both": "Above. And on. behind",
        "behind": "over lines",
        "clause": "a clause; and another",
        "repeated": "as the parent says",
    }
    assert meanings(Parent) == parent
    assert meanings(Child) == parent | {"clause": "anew"}


# ---------------------------------------------------------------------------------------------------- on the terminal
@pytest.mark.parametrize("section", sections()[1:], ids=lambda section: section.path)
def test_a_section_prints_all_its_keys(section: KeySection) -> None:
    code, output = explain(section.path)
    assert code == 0
    lines = output.splitlines()
    for key in section.keys:
        assert key.path in lines
        assert " ".join(key.meaning.split()) in " ".join(output.split())


def test_a_key_prints_type_default_and_meaning() -> None:
    assert explain("rl.samples") == (
        0,
        "rl.samples\n    a whole number above 0 and at most 10,000; default: 1\n    sequences sampled an instance\n",
    )
    code, output = explain("task.reward")
    assert code == 0 and "task.reward, if task.type is convex_hull" in output and '{"bleu": 1.0}' in output
    assert (
        "mle.updates\n    a whole number at least 0 and at most 1,000,000,000,000; must be given"
        in explain("mle.updates")[1]
    )
    assert explain("rl.baseline.type") == explain("rl.baseline")


def test_without_a_key_the_sections_are_listed() -> None:
    code, output = explain()
    assert code == 0 and [line for line in output.splitlines() if line[0] != " "] == [
        key.path for key in sections()[0].keys
    ]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rl.baselin", "rl.baselin: unknown key; did you mean 'baseline'?"),
        ("rl.baselin.decay", "rl.baselin: unknown key; did you mean 'baseline'?"),
        ("baseline", "baseline: unknown key; did you mean 'rl.baseline'?"),
        ("rl.ppo", "rl.ppo: moved; write rl.objective={type: ppo, …}"),
        ("rl.samples.more", "rl.samples.more: unknown key; rl.samples is a value and has no keys"),
        ("checkpoint.zzz", "checkpoint.zzz: unknown key; the keys here are every, keep"),
        ("mle.type", "mle.type: unknown key"),
        ("", "unknown key"),
    ],
)
def test_an_unknown_key_is_told_with_what_was_meant(key: str, message: str) -> None:
    code, output = explain(key)
    assert code == 2 and message in output
    with pytest.raises(UserError):
        find(key)
