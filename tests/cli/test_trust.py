"""Whose code is executed: the user's trainings name it, or the user says that it is trusted."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import rlseq as api
from rlseq.api import training
from rlseq.cli import app
from rlseq.training import trust
from rlseq_envs.user_code import find_module
from tests.pages import OWN_NETWORK, OWN_TASK, blocks
from tests.test_readme import plain_engine

FEW = [
    *("policy.hidden_size=8", "mle.updates=2", "mle.batch_size=4", "mle.average=0", "rl.updates=1", "rl.batch_size=2"),
    *("rl.average=0", "rl.validate_every=100", "mle.validate_every=100", "log_every=1", "compute.threads=1"),
    *("evaluation.samples_shown=0", "evaluation.max_instances=8"),
]
HULL = ["task.min_points=5", "task.max_points=5", "task.validation_size=8", "task.test_size=8"]
REWARD = """
import pathlib
pathlib.Path(__file__).with_name("executed").touch()
def worth(points, counts, sequences, lengths, ids):
    return counts * 0.1
"""
POINTS = "0.1 0.2 0.9 0.8 0.3 0.7\n"


def rlseq(*arguments: object, input: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)


def done(*arguments: object, input: str | None = None) -> Result:
    result = rlseq(*arguments, input=input)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run for each kind of code that can be named, trained by the user, and the modules beside them."""
    place = tmp_path_factory.mktemp("runs")
    (place / "worthy.py").write_text(REWARD)
    (place / "trusted_gru.py").write_text(blocks(OWN_NETWORK, "python")[0])
    (place / "trusted_sorting.py").write_text(blocks(OWN_TASK, "python")[0].replace("mine/", "trusted/"))
    text = blocks(OWN_TASK, "yaml")[0].replace("sorting:mine/", "trusted_sorting:trusted/")
    (place / "sorting.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(training, "make_engine", plain_engine)
        patch.setattr(sys, "path", list(sys.path))
        done("train", "hull", *HULL, *FEW, "task.reward={valid: 1, worthy:worth: 0.5}", "--run", "reward")
        network = "policy.decoder={type: own, class: 'trusted_gru:GRUDecoder'}"
        done("train", "hull", *HULL, *FEW, network, "--run", "network")
        done("train", "./sorting.yaml", *FEW, "--run", "task")
    return place


@pytest.fixture
def here(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of everything, as somebody else's archive would be: nothing of it was trained there."""
    copy = tmp_path / "theirs"
    shutil.copytree(runs, copy, symlinks=True)
    (copy / "executed").unlink(missing_ok=True)
    monkeypatch.chdir(copy)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(training, "make_engine", plain_engine)
    monkeypatch.setattr(trust, "_said", set())
    for name in ("worthy", "trusted_gru", "trusted_sorting"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return copy


NAMED = {
    "reward": ("task.reward: worthy:worth, found in ", "worthy.py"),
    "network": ("policy.decoder.class: trusted_gru:GRUDecoder, found in ", "trusted_gru.py"),
    "task": ("task.id: trusted_sorting:trusted/Sorting-v0, found in ", "trusted_sorting.py"),
}
COMMANDS: dict[str, list[str]] = {
    "evaluate": ["evaluate", "RUN", "--max-instances", "4"],
    "compare": ["compare", "RUN/checkpoints/mle", "RUN/checkpoints/rl", "--resamples", "5", "--max-instances", "4"],
    "preflight": ["preflight", "RUN", "--instances", "20"],
    "fork": ["train", "--from", "RUN", "rl.updates=1", "--run", "fork"],
    "resume": ["train", "--resume", "RUN"],
}


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_somebody_else_trained_is_refused_with_the_file_it_would_execute(
    command: str, kind: str, here: Path
) -> None:
    arguments = [part.replace("RUN", kind) for part in COMMANDS[command]]
    before = {path for path in here.rglob("*") if path.name != ".lock"}
    result = rlseq(*arguments)
    assert result.exit_code == 2, result.output
    told, file = NAMED[kind]
    assert f"  {told}{here / file}\n" in result.stderr and "--trust" in result.stderr, result.stderr
    assert "rlseq inspect" in result.stderr and "importing" not in result.stderr
    module = file.removesuffix(".py")
    assert module not in sys.modules and not (here / "executed").exists()
    assert {path for path in here.rglob("*") if path.name != ".lock"} == before


def test_a_comparison_names_the_code_of_all_its_arms(here: Path) -> None:
    result = rlseq("compare", "reward", "network", "--arm", "third=reward/checkpoints/mle")
    assert result.exit_code == 2
    for place, (told, file) in {"reward": NAMED["reward"], "network": NAMED["network"]}.items():
        assert f"rlseq inspect {here / place}" in result.stderr and f"  {told}{here / file}\n" in result.stderr
    assert str(here / "reward" / "checkpoints" / "mle") in result.stderr and not (here / "executed").exists()


@pytest.mark.parametrize("kind", NAMED)
def test_trust_permits_it_once_and_says_what_is_imported(kind: str, here: Path) -> None:
    told = NAMED[kind][0].partition(": ")[2]
    result = done("evaluate", kind, "--max-instances", 4, "--trust")
    assert f"importing {told}{here / NAMED[kind][1]}\n" in result.stderr
    assert rlseq("evaluate", kind, "--max-instances", 4).exit_code == 2
    done("train", "--from", kind, "rl.updates=1", "--run", "fork", "--trust")
    done("evaluate", "fork", "--max-instances", 4)


@pytest.mark.parametrize("kind", NAMED)
def test_who_trained_it_is_never_asked(kind: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setattr(training, "make_engine", plain_engine)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("evaluate", "compare", "resume"):
        done(*(part.replace("RUN", kind) for part in COMMANDS[name]))
    assert api.evaluate(kind, max_instances=4).metrics


def test_the_variable_trusts_all_or_some(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = ("evaluate", "reward", "--max-instances", 4)
    for value, code in (("", 2), ("0", 2), ("worthy:other", 2), ("x:y,worthy:worth", 0), ("1", 0)):
        monkeypatch.setenv("RLSEQ_TRUST", value)
        assert rlseq(*evaluate).exit_code == code, value
    monkeypatch.delenv("RLSEQ_TRUST")
    with pytest.raises(api.UserError, match="worthy:worth"):
        api.evaluate("reward", max_instances=4)
    assert api.evaluate("reward", max_instances=4, trust=True).metrics


def test_what_is_built_in_never_asks(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "nothing"))
    done("train", "hull", *HULL, *FEW, "--run", "plain")
    done("evaluate", "plain", "--max-instances", 4)
    assert not (tmp_path / "nothing").exists()


def test_a_list_that_cannot_be_written_or_read_only_asks_again(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("a file in its place")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    done("train", "./sorting.yaml", *FEW, "--run", "mine")
    assert rlseq("evaluate", "mine", "--max-instances", 4).exit_code == 2
    (tmp_path / "state").unlink()
    (tmp_path / "state" / "rlseq").mkdir(parents=True)
    (tmp_path / "state" / "rlseq" / "trusted.jsonl").write_bytes(b'\xff[1]\n{"a": 1}\n["x"\n')
    done("train", "./sorting.yaml", *FEW, "--run", "more")
    done("evaluate", "mine", "--max-instances", 4)


def test_code_of_the_parent_alone_is_checked_before_a_fork_trains(here: Path) -> None:
    """The closing comparison loads the parent with the parent's configuration."""
    place = next((here / "reward" / "checkpoints" / "mle").glob("[0-9]*"))
    configuration: dict[str, Any] = json.loads((place / "meta.json").read_text())["config"]
    mine = here / "mine.yaml"
    mine.write_text(json.dumps(configuration | {"task": configuration["task"] | {"reward": {"valid": 1.0}}}))
    result = rlseq("train", "./mine.yaml", "--from", "reward", "--run", "fork")
    assert result.exit_code == 2 and "worthy:worth" in result.stderr and not (here / "fork").exists()


def test_generating_needs_neither_the_reward_nor_trust_in_it(here: Path) -> None:
    expected = done("generate", "reward", input=POINTS).stdout
    (here / "worthy.py").write_text("# a comment\n" + REWARD)
    assert done("generate", "reward", input=POINTS).stdout == expected
    (here / "worthy.py").unlink()
    result = done("generate", "reward", input=POINTS)
    assert result.stdout == expected and "importing" not in result.stderr
    refused = rlseq("evaluate", "reward", "--trust")
    assert (
        refused.exit_code == 2 and "task.reward: worthy:worth cannot be imported: no module 'worthy'" in refused.stderr
    )


def test_a_package_above_a_module_is_not_executed_to_find_it(here: Path) -> None:
    (here / "above" / "within").mkdir(parents=True)
    (here / "above" / "__init__.py").write_text(REWARD)
    (here / "above" / "within" / "__init__.py").write_text(REWARD)
    (here / "above" / "within" / "code.py").write_text(REWARD)
    found = find_module("above.within.code")
    assert found == (here / "above" / "within" / "code.py").resolve() and "above" not in sys.modules
    (here / "names" / "paces").mkdir(parents=True)
    (here / "names" / "paces" / "code.py").write_text(REWARD)
    assert find_module("names.paces.code") == (here / "names" / "paces" / "code.py").resolve()
    for nothing in ("above.other", "nowhere.at.all", "sys", "..", ".x", "a\0b", "", "above.\0", "__main__." * 1000):
        assert find_module(nothing) is None
    assert not list(here.rglob("executed"))
