"""Wrong input ends in exit code 2 and one screen with every problem; nothing shows a traceback unless asked to."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlseq.cli import app, compare, configs, evaluate, generate, inspect, jobs, preflight, submit, train
from rlseq.config import load
from rlseq.config.errors import UserError

EXAMPLES = [
    example
    for module in (train, submit, preflight, evaluate, compare, generate, inspect, configs, jobs)
    for example in module.EXAMPLES
]


def rlseq(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "train",
        "preflight",
        "evaluate",
        "compare",
        "generate",
        "inspect",
        "submit",
        "jobs",
        "jobs list",
        "jobs status",
        "jobs logs",
        "jobs stop",
        "configs",
        "configs list",
        "configs show",
        "configs copy",
    ],
)
def test_help_ends_well_and_has_an_example(command: str) -> None:
    result = rlseq(*command.split(), "--help")
    assert result.exit_code == 0
    examples = result.stdout.split("Example")[1]
    assert "rlseq" in examples
    assert rlseq(*command.split(), "-h").stdout == result.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_understood(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They fail for want of a run at most, never for how they are written."""

    def stop(*arguments: Any, **settings: Any) -> None:
        raise UserError("stopped here")

    monkeypatch.setattr("rlseq.api.training.prepare_task", stop)
    monkeypatch.setattr("rlseq.rllib.submission.Jobs", stop)
    arguments = shlex.split(example.split("|")[-1])
    assert arguments.pop(0) == "rlseq"
    if arguments[0] == "submit":
        Path("mine.yaml").write_text(load.shipped_config("hull").text)
    result = rlseq(*arguments)
    if arguments[0] == "configs":
        assert result.exit_code == 0
    else:
        reasons = ("stopped here", "no such checkpoint or run", "no run directory", "--input sources.txt: no such file")
        assert result.exit_code == 2 and any(reason in result.stderr for reason in reasons), result.output


@pytest.mark.parametrize(
    ("command", "messages"),
    [
        ("train", ["give a CONFIG, such as hull"]),
        ("train hul", ["did you mean 'hull'?", "shipped are "]),
        ("train ./mine.yaml", ["./mine.yaml:", "no such file"]),
        ("train hull rl.baselin=greedy mle.updates=x", ["did you mean 'baseline'?", 'mle.updates: "x" is not']),
        ("train hull --phase rl", ["--phase rl starts from a checkpoint: give one with --from"]),
        ("train hull --control equal_time", ["mle.updates=N", "rlseq study"]),
        ("train hull --phase ml", ["'ml' is not one of"]),
        ("train hull --run .", ["--run .: exists and is not overwritten"]),
        ("train --resume a --from b", ["give one of them"]),
        ("train hull --resume a --run b rl.updates=3", ["leave them out", "rl.updates=3: only compute.* can change"]),
        ("train --resume nowhere", ["nowhere is no run directory"]),
        ("train --from nowhere", ["nowhere: no such checkpoint or run directory"]),
        ("train hull task.test_file=points.txt", ["task.test_file: no such file: "]),
        ("train hull --unknown", ["No such option"]),
        ("trian hull", ["No such command 'trian'", "'train'"]),
        ("evaluate", ["Missing argument"]),
        ("evaluate nowhere", ["nowhere: no such checkpoint or run directory"]),
        (
            "evaluate . --json no/out.json --length-penalty 1 --device gpu",
            ["no does not exist", "--beam", "--device gpu"],
        ),
        ("evaluate . --json .", [". is a directory: give a file"]),
        ("evaluate . --split tst", ["'tst' is not one of"]),
        ("evaluate . --max-instances 0", ["should be greater than or equal to 1"]),
        ("evaluate .", [". holds no checkpoint"]),
        ("preflight nowhere", ["nowhere: no such checkpoint or run directory"]),
        (
            "preflight . hull rl.samples=4 mle.updates=3 task.max_points=6 --json no/out.json --device gpu",
            ["mle.updates=3: only rl.* and compute.*", "task.max_points=6: only", "no does not exist", "--device gpu"],
        ),
        ("preflight . --instances 5", ["should be greater than or equal to 20"]),
        ("compare a b --length-penalty 0", ["--length-penalty is for beam search", "a: no such"]),
        ("compare .", ["one checkpoint is no comparison"]),
        ("compare . a b --name x", ["a: no such", "b: no such", "1 names for 3 checkpoints"]),
        ("compare", ["nothing to compare: give two or more, --arm NAME=CKPT,..., or a study's directory"]),
        (
            "compare --arm mle=a,b --arm rl --control =c --control x=c,,d --hypotheses y=e --json f/g --html . "
            "--top-k 2",
            [
                "--arm mle: a: no such checkpoint or run directory",
                "--arm mle: b: no such checkpoint or run directory",
                "--arm rl: give NAME=CKPT,CKPT",
                "--control =c: give NAME=CKPT,CKPT",
                "--control x=c,,d: give NAME=CKPT,CKPT",
                "--hypotheses y: e: no such file",
                "--top-k is for sampling",
                "f/g: the directory",
                ". is a directory: give a file",
            ],
        ),
        ("generate nowhere", ["nowhere: no such checkpoint"]),
        (
            "generate . --greedy --beam 2 --sample --n-best 5 --temperature 0 --input a --output b/c",
            [
                "exclude each other",
                "--temperature 0: give 1e-06 or more, at most 1e+06",
                "--input a: no such file",
                "b/c: the directory",
            ],
        ),
        ("generate . --n-best 5 --beam 2", ["--n-best 5: there are only 2; give --beam 5 or --sample"]),
        ("generate . --seed 3 --length-penalty 1", ["--seed is for sampling", "--length-penalty is for beam search"]),
        (
            "generate . --sample --top-k 0 --top-p 1.5 --min-length 9 --max-length 3",
            [
                "--top-k 0: give 1 or more",
                "--top-p 1.5: give a number above 0, at most 1",
                "--min-length 9: give at most the maximum length, 3",
            ],
        ),
        (
            "evaluate . --beam 4 --groups 3 --diversity 0 --coverage-penalty -1 --top-k 2",
            [
                "--groups 3: give a divisor of the beam's size, 4",
                "--diversity 0: give a number above 0",
                "--coverage-penalty -1: give 0 or more",
                "--top-k is for sampling: give --sample too",
            ],
        ),
        ("evaluate . --beam 4 --diversity 1", ["--diversity is for groups: give --groups too"]),
        (
            "compare a b --exhaustive --groups 2 --sample --length-norm mean",
            ["'mean' is not one of 'power', 'gnmt'"],
        ),
        (
            "compare a b --exhaustive --groups 2 --sample",
            [
                "--greedy, --beam, --sample and --exhaustive exclude each other: give one",
                "--groups is for beam search: give --beam too",
            ],
        ),
        (
            "evaluate . --coverage-penalty 0.2 --length-norm gnmt",
            [
                "--coverage-penalty is for beam search: give --beam or --exhaustive too",
                "--length-norm is for beam search: give --beam or --exhaustive too",
            ],
        ),
        ("inspect nowhere", ["nowhere: no such checkpoint or run directory"]),
        ("inspect . --json no/out.json", ["no does not exist"]),
        (
            "evaluate . task.test_file=none.npy rl.samples=3",
            ["task.test_file: no such file", "rl.samples=3: only data"],
        ),
        ("compare a b task.test_file=none.npy", ["task.test_file: no such file", "a: no such"]),
        ("train --resume nowhere task.train_file=none.npy", ["task.train_file: no such file"]),
        ("configs show hul", ["did you mean 'hull'?"]),
        ("configs show ../hull", ["no config of this name"]),
        ("configs copy hull no/where.yaml", ["no does not exist"]),
        ("configs shwo hull", ["No such command 'shwo'"]),
    ],
)
def test_wrong_input_is_told_at_once_with_exit_code_2(command: str, messages: list[str]) -> None:
    result = rlseq(*command.split())
    assert result.exit_code == 2, result.output
    text = " ".join(result.stderr.replace("│", " ").split())
    for message in messages:
        assert message in text
    assert "Traceback" not in result.output and result.stderr.count("\n") <= 24
    assert not list(Path().iterdir()), "nothing was made"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("{id: 'nowhere:mine/Task-v0'}", "No module named 'nowhere'"),
        ("{id: 'rlseq_envs:nobodys/Task-v0'}", "Namespace nobodys not found"),
        ("{id: 'rlseq_envs:rlseq/ConvexHul-v0'}", "Did you mean: `ConvexHull`?"),
        (
            "{id: 'rlseq_envs:rlseq/ConvexHull-v0', arguments: {min_point: 5}}",
            "unexpected keyword argument 'min_point'",
        ),
    ],
)
def test_a_task_that_cannot_be_made_is_wrong_input(task: str, message: str) -> None:
    Path("mine.yaml").write_text(
        f"name: mine\ntask: {{type: custom, {task[1:]}\n"
        "policy: {output: pointer}\nmle: {updates: 1}\nrl: {updates: 1}\n"
    )
    result = rlseq("train", "mine.yaml")
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert [path.name for path in Path().iterdir()] == ["mine.yaml"]


def test_a_device_that_is_not_there_is_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = rlseq("train", "hull", "compute.device=cuda")
    assert result.exit_code == 2 and not list(Path().iterdir())
    assert result.stderr == "error: compute.device cuda: torch finds no GPU here; give cpu or auto\n"


def test_batches_that_the_data_do_not_allow_are_wrong_input_and_leave_nothing_behind() -> None:
    by_token = ("mle.batch_type=token", "rl.batch_type=token")
    result = rlseq("train", "hull", "task.train_size=null", "task.rl_generated=false", *by_token, "--run", "here")
    assert result.exit_code == 2 and not list(Path().iterdir()), result.output
    told = " ".join(result.stderr.split())
    assert "error: mle.batch_type: split 'train' is endless" in told and "rl.batch_type: split 'train'" in told


def test_the_version_is_the_packages() -> None:
    result = rlseq("--version")
    assert (result.exit_code, result.stdout) == (0, f"rlseq {metadata.version('rlseq')}\n")


def test_a_copy_does_not_overwrite() -> None:
    Path("hull.yaml").write_text("mine")
    result = rlseq("configs", "copy", "hull")
    assert result.exit_code == 2 and "hull.yaml exists and is not overwritten" in result.stderr
    assert Path("hull.yaml").read_text() == "mine"


def test_a_fault_of_the_program_is_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(load, "list_configs", fail)
    result = rlseq("configs", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: RuntimeError: first line second line (--debug shows where)\n"
    result = rlseq("configs", "list", "--debug")
    assert result.exit_code == 1 and "Traceback (most recent call last)" in result.stderr and "in fail" in result.stderr


def test_interrupting_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(load, "list_configs", interrupt)
    result = rlseq("configs", "list")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


MODULES = """
import sys
from rlseq.cli import main
sys.argv = ["rlseq", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print(end.code, *sys.modules, file=sys.stderr)
"""
HEAVY = {"torch", "ray", "numba", "matplotlib", "sacrebleu", "scipy", "tensorboard", "rlseq_envs.env"}


@pytest.mark.parametrize(
    ("command", "code", "unwanted"),
    [
        ("--help", 0, {"numpy", "gymnasium", "rich", "pydantic", "omegaconf"}),
        ("train --help", 0, {"numpy", "gymnasium", "rich", "omegaconf"}),
        ("configs show hull --resolved", 0, set()),
        ("train hull rl.updates=abc unknown=1", 2, set()),
        ("train hul", 2, set()),
        ("train --resume nowhere", 2, set()),
        ("train --resume run compute.runners=abc", 2, set()),
        ("train --from nowhere", 2, set()),
        ("study hull rl.updates=abc --run study", 2, set()),
        ("evaluate nowhere --beam 3 --top-k 2", 2, set()),
        ("compare . nowhere", 2, set()),
        ("generate nowhere", 2, set()),
        ("preflight nowhere", 2, set()),
        ("inspect nowhere", 2, set()),
    ],
)
def test_help_and_refusals_wait_for_nothing_heavy(command: str, code: int, unwanted: set[str]) -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text(load.dump_config(load.load_config("hull")))
    ended = subprocess.run([sys.executable, "-c", MODULES, *command.split()], capture_output=True, text=True)
    found, *modules = ended.stderr.splitlines()[-1].split()
    assert int(found) == code, ended.stderr
    assert not (HEAVY | unwanted) & set(modules)


def test_the_package_runs_as_a_module_and_reports_to_the_shell() -> None:
    listed = subprocess.run([sys.executable, "-m", "rlseq", "configs"], capture_output=True, text=True)
    assert listed.returncode == 0 and "\n  hull  " in listed.stdout
    refused = subprocess.run([sys.executable, "-m", "rlseq", "train", "hul"], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stdout == "" and "Traceback" not in refused.stderr
