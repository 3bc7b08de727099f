"""What a command does, a function does: alike to the bit, typed, with errors that name its arguments."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

import rlseq
from rlseq import cli
from rlseq.api.decoding import Decoding
from rlseq.cli.decoding import OPTIONS
from rlseq.config.load import load_config
from rlseq.report.sink import Sink, StopPhase
from rlseq.training.checkpoint import load_checkpoint
from tests.cli.test_commands import TINY, assert_same_weights, done
from tests.cli.test_commands import rlseq as rlseq_cli
from tests.pages import PYTHON, blocks


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> rlseq.Run:
    return rlseq.train("hull", TINY, run=tmp_path_factory.mktemp("api") / "run", console=False)


@pytest.fixture(scope="module")
def commanded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("commanded") / "run"
    done("train", "hull", *TINY, "--run", path)
    return path


def test_a_training_is_that_of_the_command(run: rlseq.Run, commanded: Path) -> None:
    assert_same_weights(run.best, rlseq.Run(commanded).best)
    theirs = json.loads((commanded / "report" / "comparison.json").read_text())
    assert run.comparison is not None and run.comparison["differences"] == theirs["differences"]
    assert run.evaluation is None and run.metrics[-1]["update"] == 10
    assert run.latest is not None and run.latest.parent.name == "rl" and run.config.seed == 0


def test_nothing_is_printed_without_a_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rlseq.train("hull", [*TINY, "rl.updates=0"], run=tmp_path / "quiet", console=False)
    assert capsys.readouterr().out == ""
    found = rlseq.Run(tmp_path / "quiet")
    assert found.comparison is None and found.evaluation is not None
    rlseq.train("hull", [*TINY, "rl.updates=0"], run=tmp_path / "loud")
    assert "accuracy" in capsys.readouterr().out


def test_a_configuration_may_be_a_file_a_mapping_or_one_that_was_read(tmp_path: Path, run: rlseq.Run) -> None:
    read = load_config("hull", TINY)
    (tmp_path / "mine.yaml").write_text(json.dumps(read.model_dump(mode="json")))
    forms: list[Any] = [read, read.model_dump(mode="json"), tmp_path / "mine.yaml"]
    for number, given in enumerate(forms):
        again = rlseq.train(given, ["rl.updates=0"], run=tmp_path / str(number), console=False)
        assert_same_weights(again.best, run.path / "checkpoints" / "mle" / "best")


def test_a_phase_starts_from_a_checkpoint_as_the_command_does(tmp_path: Path, run: rlseq.Run) -> None:
    source = run.path / "checkpoints" / "mle"
    forked = rlseq.train(overrides=["rl.updates=2"], source=source, run=tmp_path / "api", console=False)
    done("train", "--from", source, "rl.updates=2", "--run", tmp_path / "cli")
    assert_same_weights(forked.best, rlseq.Run(tmp_path / "cli").best)


def test_outputs_and_figures_are_those_of_the_commands(run: rlseq.Run, tmp_path: Path) -> None:
    policy, lines = rlseq.load(run.path), ["0.1 0.1 0.9 0.2 0.4 0.8 0.5 0.4", "0.3 0.2 0.9 0.9 0.1 0.7"]
    assert run.load().generate(lines) == policy.generate(lines)
    for options, flags in (({}, []), ({"beam": 3, "n_best": 2}, ["--beam", "3", "--n-best", "2"])):
        rows = policy.generate(lines, **options)  # type: ignore[arg-type]
        printed = done("generate", run.path, "--scores", *flags, input="".join(f"{line}\n" for line in lines))
        numbers = [
            [f"{number}\t"] * (len(flags) > 0) + [f"{output.score:.4f}\t{output.text}"]
            for number, row in enumerate(rows, 1)
            for output in row
        ]
        assert printed.splitlines() == ["".join(row) for row in numbers]
    done("evaluate", run.path, "--beam", 2, "--likelihood", "--exposure-bias", "--json", tmp_path / "figures")
    found = rlseq.evaluate(run.path, beam=2, likelihood=True, exposure_bias=True)
    assert found.to_json() == json.loads((tmp_path / "figures").read_text())
    done("compare", run.path / "checkpoints/mle", run.path, "--sample", "--json", tmp_path / "both")
    compared = rlseq.compare([run.path / "checkpoints/mle", run.path], sample=True)
    assert compared.to_json() == json.loads((tmp_path / "both").read_text())
    assert policy.generate([]) == []
    rlseq_cli("preflight", run.path / "checkpoints/mle", "--instances", 20, "--json", tmp_path / "advice")
    advice = rlseq.preflight(run.path / "checkpoints/mle", instances=20)
    assert {*advice} == {*json.loads((tmp_path / "advice").read_text())} and advice["verdict"]


def test_it_works_off_the_main_thread(tmp_path: Path, run: rlseq.Run) -> None:
    """Signals belong to the main thread alone."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(rlseq.train("hull", TINY, run=tmp_path / "run", console=False))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(found[0], rlseq.Run), found
    assert_same_weights(found[0].best, run.best)


def test_a_stopped_run_is_gone_on_with(tmp_path: Path, run: rlseq.Run) -> None:
    class Quits(Sink):
        def updates(self, event: Any) -> None:
            if event.update == 5:
                raise KeyboardInterrupt

    with pytest.raises(rlseq.Stopped, match="train --resume"):
        rlseq.train("hull", TINY, run=tmp_path / "run", callbacks=[Quits()], console=False)
    assert_same_weights(rlseq.resume(tmp_path / "run", console=False).best, run.best)


WRONG: dict[str, tuple[Any, list[str]]] = {
    "nothing": (lambda run: rlseq.train(), ["give a CONFIG"]),
    "name": (lambda run: rlseq.train("hul"), ["did you mean 'hull'?"]),
    "mapping": (lambda run: rlseq.train({"name": "x", "mle": {"update": 3}}), ["update", "task"]),
    "no value": (lambda run: rlseq.train({"name": "x", "task": object()}), ["config"]),
    "key": (lambda run: rlseq.train("hull", ["rl.sample=2"]), ["did you mean 'samples'?"]),
    "logger": (lambda run: rlseq.train("hull", [*TINY, "report.loggers=[cvs]"]), ["did you mean 'csv'?"]),
    "phases": (
        lambda run: rlseq.train("hull", phase="lr", control="equal_tim", run=run.path),
        ["phase='lr': give one of mle, rl", "did you mean 'equal_time'?", "exists and is not overwritten"],
    ),
    "resume": (lambda run: rlseq.resume("nowhere", ["rl.updates=3"]), ["rl.updates=3: only compute.*"]),
    "no run": (lambda run: rlseq.resume("nowhere"), ["nowhere is no run directory"]),
    "no run to read": (lambda run: rlseq.Run("nowhere"), ["nowhere is no run directory"]),
    "no checkpoint": (
        lambda run: rlseq.load("nowhere", device="gpu"),
        ["nowhere: no such checkpoint", "device gpu: give auto, cpu or cuda"],
    ),
    "option": (
        lambda run: run.load().generate([], beem=2, top_k=2.5, length_norm="mean", n_best=0),
        ["beem: decoding has no such option; did you mean 'beam'?", "top_k='2.5': give a whole number", "n_best='0'"],
    ),
    "options": (
        lambda run: run.load().evaluate("tst", beam=2, sample=True, groups=3, temperature=0),
        ["exclude each other", "groups 3: give a divisor", "temperature 0: give 1e-06 or more", "split='tst'"],
    ),
    "n best": (lambda run: run.load().generate(["x"], n_best=3), ["there are only 1; give beam='3' or sample"]),
    "text": (lambda run: run.load().generate("0.1 0.2"), ["sources: give a list of texts"]),
    "line": (lambda run: run.load().generate(["a b"]), ["line 1: 'a' is not a number"]),
    "arms": (
        lambda run: rlseq.compare(
            [run.path], arms={"x": ["nowhere"], "y": "z"}, hypotheses={"h": "no"}, names=["a", "b"]
        ),
        ["arms x: nowhere: no such", "arms y: give a list", "hypotheses h: no: no such file", "2 names for 1"],
    ),
    "preflight": (
        lambda run: rlseq.preflight(run.path, overrides=["mle.updates=3"], instances=5),
        ["mle.updates=3: only rl.* and compute.*", "instances='5': give 20 or more"],
    ),
    "study": (
        lambda run: rlseq.study(controls=["equal"], run=None),
        ["give a CONFIG", "give the study a directory with run='DIR'", "controls='equal': there is no such control"],
    ),
    "no sweep": (
        lambda run: rlseq.sweep(trials=0, jobs=0),
        ["trials='0': give 1", "jobs='0'", "give a CONFIG", "give the sweep a directory with run='DIR'"],
    ),
    "one arm": (lambda run: rlseq.compare([run.path]), ["one checkpoint is no comparison"]),
    "metric": (
        lambda run: rlseq.compare([run.path, run.path / "checkpoints/mle"], metric="blue"),
        ["no metric 'blue'"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_error_that_names_the_argument(case: str, run: rlseq.Run) -> None:
    call, expected = WRONG[case]
    with pytest.raises(rlseq.UserError) as caught:
        call(run)
    for text in expected:
        assert text in str(caught.value)


# ---------------------------------------------------------------------------------------------- two faces
def test_every_command_has_its_function() -> None:
    names = {command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    functions = {name for name in rlseq.__all__ if inspect.isfunction(getattr(rlseq, name))}
    assert names - {"submit"} == (functions - {"load", "resume"}) | {"generate"}


def test_functions_and_commands_have_the_same_options_of_decoding() -> None:
    hints = get_type_hints(Decoding)
    assert list(hints) == list(OPTIONS)
    assert all(isinstance(annotation.__metadata__[0], typer.models.OptionInfo) for annotation in OPTIONS.values())


def test_importing_it_is_light_and_everything_promised_is_there() -> None:
    code = "import rlseq, sys; print(sorted({'torch', 'ray', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    assert all(getattr(rlseq, name).__doc__ for name in rlseq.__all__) and {*rlseq.__all__} <= {*dir(rlseq)}
    with pytest.raises(AttributeError):
        rlseq.tarin  # noqa: B018


# ---------------------------------------------------------------------------------------------------------- callbacks
class Remembers(Sink):
    """What a callback hears, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.checkpoints: list[tuple[int, bool]] = []

    def start(self, event: Any) -> None:
        self.heard.append("start")

    def phase(self, event: Any) -> None:
        self.heard.append(event.name)

    def updates(self, event: Any) -> None:
        self.heard.append(f"update {event.update}")

    def validation(self, event: Any) -> None:
        self.heard.append(f"validation {event.update}")
        if event.checkpoint is not None:
            self.checkpoints.append((event.update, load_checkpoint(event.checkpoint).meta["update"] == event.update))

    def finish(self) -> None:
        self.heard.append("finish")


def test_a_callback_hears_of_everything_and_of_validations_once_they_are_saved(tmp_path: Path) -> None:
    callback = Remembers()
    rlseq.train("hull", [*TINY, "rl.updates=2"], run=tmp_path / "run", callbacks=[callback], console=False)
    updates = [f"update {number}" for number in range(1, 9)]
    expected = ["start", "mle", "validation 0", *updates[:3], "validation 3", *updates[3:6], "validation 6"]
    assert callback.heard == [*expected, "rl", "validation 6", *updates[6:], "validation 8", "finish"]
    assert (0, True) in callback.checkpoints and all(same for _, same in callback.checkpoints)


def test_a_callback_stops_a_phase_and_the_next_one_begins(tmp_path: Path) -> None:
    class Enough(Sink):
        def updates(self, event: Any) -> None:
            if event.phase == "mle" and event.phase_update == 2:
                raise StopPhase("it is enough")

    run = rlseq.train("hull", [*TINY, "rl.updates=2"], run=tmp_path / "run", callbacks=[Enough()], console=False)
    assert [record["update"] for record in run.metrics if record["phase"] == "mle"][-1] == 2
    assert run.metrics[-1]["update"] == 4 and "it is enough" in (run.path / "train.log").read_text()


def test_what_a_callback_raises_ends_the_training_and_what_was_done_is_saved(tmp_path: Path, run: rlseq.Run) -> None:
    class Fails(Sink):
        def updates(self, event: Any) -> None:
            if event.update == 5:
                raise RuntimeError("the callback's own fault")

    with pytest.raises(RuntimeError, match="the callback's own fault"):
        rlseq.train("hull", TINY, run=tmp_path / "run", callbacks=[Fails()], console=False)
    assert rlseq.Run(tmp_path / "run").latest == tmp_path / "run" / "checkpoints" / "mle" / "5"
    assert_same_weights(rlseq.resume(tmp_path / "run", console=False).best, run.best)


# ------------------------------------------------------------------------------------------------------------- the page
def test_the_examples_of_the_page_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny sizes; the one with Ray Tune is in tests/rllib."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(json.dumps(load_config("hull", TINY).model_dump(mode="json")))
    examples = [block for block in blocks(PYTHON, "python") if "ray" not in block]
    assert len(examples) == 2
    for example in examples:
        exec(example.replace('"hull"', '"./tiny.yaml"'), {})
    assert len(list((tmp_path / "runs").iterdir())) == 2
