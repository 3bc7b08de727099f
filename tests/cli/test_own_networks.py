"""A network of the user's from the command line: what is told, what is trained, what is found again."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlseq.api import training
from rlseq.cli import app
from tests.pages import OWN_NETWORK, blocks
from tests.test_readme import plain_engine

TINY = [
    *("task.min_points=5", "task.max_points=5", "task.validation_size=8", "task.test_size=8", "policy.hidden_size=8"),
    *("mle.updates=2", "mle.batch_size=4", "mle.average=0", "rl.updates=2", "rl.batch_size=2", "rl.average=0"),
    *("rl.validate_every=100", "evaluation.samples_shown=0", "log_every=1", "compute.threads=1"),
]
FAULTS = """
import torch
from gru import GRUDecoder

number = 1


class Raises(GRUDecoder):
    def initial_state(self, memory):
        raise RuntimeError("not today")


class Counts(GRUDecoder):
    def initial_state(self, memory):
        self.steps = 0
        return super().initial_state(memory)

    def step(self, read, *rest):
        self.steps += 1
        return super().step(read * self.steps, *rest)

    def forced(self, inputs, memory, forbidden):
        steps = [super(Counts, self).step(self.read(each), None, 0, self.initial_state(memory), memory, None)[0]
                 for each in inputs.unbind(1)]
        return type(steps[0])(*(torch.cat(parts, 1) for parts in zip(*steps)))


class Unfinished(GRUDecoder.__mro__[1]):
    pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(training, "make_engine", plain_engine)
    (tmp_path / "gru.py").write_text(blocks(OWN_NETWORK, "python")[0])
    (tmp_path / "faults.py").write_text(FAULTS)
    return tmp_path


def train(*keys: str) -> Result:
    return CliRunner().invoke(app, ["train", "hull", *TINY, *keys, "--run", "run"])


def decoder(path: str, arguments: str = "{}") -> str:
    return f"policy.decoder={{type: own, class: '{path}', arguments: {arguments}}}"


def test_it_is_trained_and_its_checkpoint_decodes(here: Path) -> None:
    trained = train(decoder("gru:GRUDecoder", "{scale: 0.5}"))
    assert trained.exit_code == 0, trained.output
    for command in (
        ["evaluate", "run", "--split", "test"],
        ["train", "--from", "run", "rl.updates=1", "--run", "fork"],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    other = CliRunner().invoke(app, ["train", "--from", "run", "policy.decoder.arguments.scale=1", "--run", "other"])
    assert other.exit_code == 2 and "policy.decoder.arguments.scale is 1, in the checkpoint it is 0.5" in other.stderr


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        ("nowhere:Decoder", "{}", "nowhere:Decoder cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("gru:GRU", "{}", "gru:GRU does not exist: module 'gru' has no 'GRU'"),
        ("faults:number", "{}", "faults:number is no subclass of rlseq.models.parts.Decoder"),
        ("torch.nn:Linear", "{}", "torch.nn:Linear is no subclass of rlseq.models.parts.Decoder"),
        ("gru:GRUDecoder", "{scal: 1}", "unexpected keyword argument 'scal'"),
        ("faults:Unfinished", "{}", "faults:Unfinished cannot be made with arguments {}: TypeError: Can't instantiate"),
        ("faults:Raises", "{}", "faults:Raises: failed on 2 training instances with RuntimeError: not today"),
        ("faults:Counts", "{}", "faults:Counts: a step does not give what teacher forcing gives"),
        ("gru", "{}", "policy.decoder.class: 'gru' is no import path: give package.module:Class"),
    ],
)
def test_one_that_cannot_be_used_is_wrong_input(here: Path, path: str, arguments: str, message: str) -> None:
    result = train(decoder(path, arguments))
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert "policy.decoder.class" in result.stderr
    assert not (here / "run").exists()


def test_all_that_cannot_be_used_is_told_at_once(here: Path) -> None:
    given = [
        f"policy.{slot}={{type: own, class: 'nowhere:{slot.title()}'}}" for slot in ("encoder", "decoder", "output")
    ]
    result = train(*given)
    assert result.exit_code == 2
    for slot in ("encoder", "decoder", "output"):
        assert f"policy.{slot}.class: nowhere:{slot.title()} cannot be imported" in result.stderr
