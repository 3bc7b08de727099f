"""The commands do their work, end to end on a tiny task, in this process and with the plain engine."""

from __future__ import annotations

import codecs
import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rlseq.api import training
from rlseq.cli import app
from rlseq.config.errors import UserError
from rlseq.config.load import load_config
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.evaluation.loading import load_policy
from rlseq.training.checkpoint import load_checkpoint
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import read_metrics
from rlseq_envs.task import SequenceTask
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from tests.support import only

TINY = [
    *("task.max_points=6", "task.validation_size=20", "task.test_size=30", "policy.hidden_size=8"),
    *("mle.updates=6", "mle.batch_size=8", "mle.validate_every=3", "rl.updates=4", "rl.batch_size=4"),
    *("rl.validate_every=2", "log_every=1", "evaluation.samples_shown=1", "checkpoint.every=2", "compute.threads=1"),
]


def plain_engine(config: Config, task: SequenceTask, artifacts: Path) -> PlainEngine:
    made = artifacts if any(artifacts.iterdir()) else None
    return PlainEngine(config, task, make_vector_env(config.task, made).rollout)


class InterruptedEngine(PlainEngine):
    """The user presses Ctrl-C during the third update."""

    def update(self, requests: Any) -> Any:
        if requests[0].update >= 2:
            os.kill(os.getpid(), signal.SIGINT)
        return super().update(requests)


@pytest.fixture(scope="module", autouse=True)
def engine() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_engine", plain_engine)
        yield


def rlseq(*arguments: object, input: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)


def done(*arguments: object, input: str | None = None) -> str:
    result = rlseq(*arguments, input=input)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    return run, done("train", "hull", *TINY, "--run", run)


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translation run: its vocabulary has to travel."""
    directory = tmp_path_factory.mktemp("text")
    (directory / "text.yaml").write_text(
        "name: text\n"
        "task: {type: translation, cldr_sizes: [300, 20, 20], units: character, vocabulary_size: 200, max_length: 30}\n"
        "policy: {embedding_size: 8, hidden_size: 8}\n"
        "mle: {updates: 2, batch_size: 4}\n"
        "rl: {updates: 1, batch_size: 4}\n"
        "evaluation: {samples_shown: 0}\n"
    )
    done("train", directory / "text.yaml", "--run", directory / "run")
    return directory / "run"


def weights(path: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(path).weights


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


# -------------------------------------------------------------------------------------------------------------- train
def test_training_ends_with_the_comparison_and_the_command_for_the_curves(trained: tuple[Path, str]) -> None:
    run, output = trained
    assert "accuracy" in output and "95 % interval" in output
    assert f"--logdir {run / 'tensorboard'}" in output.splitlines()[-1]
    result = json.loads((run / "report" / "comparison.json").read_text())
    assert [arm["name"] for arm in result["arms"]] == ["mle", "rl"]
    assert read_metrics(run / "metrics.jsonl")[-1]["update"] == 10
    for phase in ("mle", "rl"):
        assert (run / "checkpoints" / phase / "best").is_symlink()


def test_an_interrupted_run_says_how_to_go_on_and_ends_like_an_uninterrupted_one(
    tmp_path: Path, trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "interrupted"
    with monkeypatch.context() as patch:
        patch.setattr(
            training, "make_engine", lambda config, task, _: InterruptedEngine(config, task, plain_score(config))
        )
        result = rlseq("train", "hull", *TINY, "--run", run)
    assert result.exit_code == 130
    assert result.stderr == f"stopped at update 3 by SIGINT; go on with: rlseq train --resume {run}\n"
    done("train", "--resume", run, "compute.timeout=100")
    assert_same_weights(run / "checkpoints" / "rl" / "latest", trained[0] / "checkpoints" / "rl" / "latest")
    ours, theirs = (read_metrics(path / "metrics.jsonl") for path in (run, trained[0]))
    assert [(line["phase"], line["update"]) for line in ours] == [(line["phase"], line["update"]) for line in theirs]
    assert len(json.loads((run / "environment.json").read_text())["resumed"]) == 1


def plain_score(config: Config) -> Any:
    return make_vector_env(config.task).rollout


def test_the_mle_phase_alone_is_trained_and_evaluated(tmp_path: Path) -> None:
    output = done("train", "hull", *TINY, "--phase", "mle", "--run", tmp_path / "run")
    assert not any((tmp_path / "run" / "checkpoints" / "rl").iterdir())
    assert "on 30 test instances" in output
    assert json.loads((tmp_path / "run" / "report" / "evaluation.json").read_text())["instances"] == 30


def test_a_fork_starts_rl_from_the_weights_with_its_own_settings(tmp_path: Path, trained: tuple[Path, str]) -> None:
    source = trained[0] / "checkpoints" / "mle" / "best"
    run = tmp_path / "fork"
    output = done("train", "--from", source, "rl.updates=0", "rl.baseline=greedy", "rl.samples=1", "--run", run)
    assert not any((run / "checkpoints" / "mle").iterdir())
    assert_same_weights(run / "checkpoints" / "rl" / "best", source)
    assert load_config(str(run / "config.yaml")).rl.baseline.type == "greedy"
    assert json.loads((run / "environment.json").read_text())["forked_from"] == str(source.resolve())
    assert "Arms" in output and "mle" in output


def test_a_fork_of_mle_continues_cross_entropy_alone(tmp_path: Path, trained: tuple[Path, str]) -> None:
    """What no weight depends on may be another."""
    run, free = tmp_path / "control", ["policy.dropout=0.2", "policy.output.mask_revisits=true"]
    done("train", "hull", *TINY, *free, "mle.updates=2", "--from", trained[0], "--phase", "mle", "--run", run)
    assert load_config(str(run / "config.yaml")).policy.dropout == 0.2
    assert {line["phase"] for line in read_metrics(run / "metrics.jsonl")} == {"mle"}
    assert not any((run / "checkpoints" / "rl").iterdir())


def test_a_fork_of_another_task_is_evaluated_alone(tmp_path: Path, trained: tuple[Path, str]) -> None:
    """Longer sets are learnt after shorter ones; figures on different test sets are not compared."""
    run, longer = tmp_path / "longer", ["mle.updates=2", "task.min_points=6", "task.max_points=7"]
    result = rlseq("train", "hull", *TINY, *longer, "--from", trained[0], "--phase", "mle", "--run", run)
    assert result.exit_code == 0 and "on 30 test instances" in result.stdout, result.output
    assert "different test instances" in result.stderr and "the best of this run is evaluated alone" in result.stderr
    assert json.loads((run / "report" / "evaluation.json").read_text())["instances"] == 30
    assert not (run / "report" / "comparison.json").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.hidden_size=16", "policy.hidden_size is 16, in the checkpoint it is 8"),
        ("policy.decoder.match=dot", "policy.decoder.match is 'dot', in the checkpoint it is 'additive'"),
        ("task.reward={edge_f1: 1}", "was trained for another reward (-) than this one (+)"),
    ],
)
def test_a_fork_that_does_not_fit_is_refused_before_a_run_is_made(
    tmp_path: Path, trained: tuple[Path, str], override: str, message: str
) -> None:
    result = rlseq("train", "--from", trained[0], override, "--run", tmp_path / "run")
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_text_run_keeps_its_vocabulary_and_is_forked_with_it(tmp_path: Path, text_run: Path) -> None:
    done("train", "--from", text_run / "checkpoints" / "mle", "rl.updates=1", "--run", tmp_path / "fork")
    ours = {path.name: path.read_bytes() for path in (tmp_path / "fork" / "artifacts").iterdir() if path.is_file()}
    theirs = {path.name: path.read_bytes() for path in (text_run / "artifacts").iterdir() if path.is_file()}
    assert ours == theirs and ours


def text_files(directory: Path) -> list[str]:
    """Parallel files of a few lines, and the overrides that name them; one training pair is empty on one side."""
    names = [f"{split}_{side}" for split in ("train", "validation", "test") for side in ("source", "target")]
    for name in names:
        lines = [f"{word} {word}" for word in ("one", "two", "three", "four")]
        (directory / name).write_text("\n".join([*lines, "" if name == "train_target" else "five"]) + "\n")
    files = [f"task.{name}={directory / name}" for name in names]
    return ["task.corpus=files", "task.units=character", "task.vocabulary_size=50", *files]


SMALL_TEXT = ["policy.hidden_size=8", "policy.embedding_size=8", "mle.updates=1", "mle.batch_size=2", "rl.updates=0"]


def test_what_was_skipped_of_a_corpus_is_said_and_logged(tmp_path: Path) -> None:
    output = done("train", "translation", *text_files(tmp_path), *SMALL_TEXT, "--run", tmp_path / "run")
    line = "train data: lines 5, pairs 4, skipped empty 1"
    assert line in output and line in (tmp_path / "run" / "train.log").read_text()


def test_a_fault_in_any_split_is_found_before_training(tmp_path: Path) -> None:
    files = text_files(tmp_path)
    (tmp_path / "test_target").write_text("one line\n")
    result = rlseq("train", "translation", *files, *SMALL_TEXT, "--run", tmp_path / "run")
    assert result.exit_code == 2 and str(tmp_path / "test_target") in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_refused_at_the_last_moment_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> Any:
        raise UserError("too many learners")

    monkeypatch.setattr(training, "make_engine", refuse)
    result = rlseq("train", "hull", *TINY, "--run", tmp_path / "run")
    assert (result.exit_code, result.stderr) == (2, "error: too many learners\n")
    assert not (tmp_path / "run").exists()


def test_rl_without_a_gain_is_said(tmp_path: Path, trained: tuple[Path, str]) -> None:
    output = done("train", "--from", trained[0], "rl.updates=0", "--run", tmp_path / "run")
    assert "no update of rl was better than what it started from" in output


class ComplainingEngine(PlainEngine):
    """A worker is lost, which is logged deep inside."""

    def update(self, requests: Any) -> Any:
        logging.getLogger("rlseq.rllib.fleet").warning("environment runner %d was lost", 2)
        return super().update(requests)


def test_the_loss_of_a_worker_is_said_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        training, "make_engine", lambda config, task, _: ComplainingEngine(config, task, plain_score(config))
    )
    output = done("train", "hull", *TINY, "mle.updates=1", "rl.updates=0", "--run", tmp_path / "run")
    assert "warning: environment runner 2 was lost\n" in output
    assert "WARNING environment runner 2 was lost\n" in (tmp_path / "run" / "train.log").read_text()


# ----------------------------------------------------------------------------------------------- evaluate and compare
def test_evaluate_prints_every_metric_and_writes_json(tmp_path: Path, trained: tuple[Path, str]) -> None:
    output = done("evaluate", trained[0], "--split", "validation", "--json", tmp_path / "out.json", "--beam", 2)
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["instances"] == 20 and result["decoding"] == {"method": "beam", "beam_size": 2, "length_penalty": 1.0}
    assert all(name in output for name in result["metrics"])


def test_evaluate_says_how_likely_references_are_if_asked_to(tmp_path: Path, trained: tuple[Path, str]) -> None:
    output = done("evaluate", trained[0], "--likelihood", "--json", tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())["likelihood"]
    assert found["instances"] == 30 and found["nats_per_token"] > 0 and "bits per dimension" in output


def test_evaluate_measures_exposure_bias_where_asked_to(tmp_path: Path, trained: tuple[Path, str]) -> None:
    output = done("evaluate", trained[0], "--exposure-bias", "--json", tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())["exposure_bias"]
    assert found["difference"] == pytest.approx(found["teacher_forced"] - found["free_running"])
    assert found["positions"][0]["references"] == 30
    assert "after its own" in output and f"{found['free_running']:.2f}" in output


def test_evaluate_to_standard_output_is_json_and_nothing_else(trained: tuple[Path, str]) -> None:
    result = json.loads(done("evaluate", trained[0], "--json", "-", "--max-instances", 5))
    assert result["instances"] == 5 and result["split"] == "test"


def test_evaluate_writes_outputs_that_compare_reads(tmp_path: Path, trained: tuple[Path, str]) -> None:
    done("evaluate", trained[0], "--output", tmp_path / "out.txt", "--beam", 3)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    loaded = load_policy(trained[0])
    source, sizes = only(loaded.task.source(loaded.task.instances("test").ids()))
    points = "".join(f"{' '.join(map(str, row[:size].ravel()))}\n" for row, size in zip(source, sizes, strict=True))
    assert lines == done("generate", trained[0], "--beam", 3, input=points).splitlines()
    theirs = ("--hypotheses", f"theirs={tmp_path / 'out.txt'}")
    done("compare", trained[0], *theirs, "--name", "ours", "--beam", 3, "--json", tmp_path / "out.json", *FAST)
    result = json.loads((tmp_path / "out.json").read_text())
    ours, theirs = (arm["metrics"]["accuracy"] for arm in result["arms"])
    assert ours == theirs


FAST = ("--resamples", 20)


def test_compare_writes_what_it_promises(tmp_path: Path, trained: tuple[Path, str]) -> None:
    checkpoints = [trained[0] / "checkpoints" / phase for phase in ("mle", "rl")]
    names = ("--name", "before", "--name", "after")
    output = done("compare", *checkpoints, "--json", tmp_path / "out.json", *names, *FAST)
    result = json.loads((tmp_path / "out.json").read_text())
    assert {"arms", "differences", "examples", "attributable"} < set(result)
    assert {"metric", "a", "b", "delta", "ci95", "p_value"} < set(result["differences"][0])
    assert result["arms"][0]["name"] == "before" and "before" in output and "after" in output
    assert "no control was given" in output.splitlines()[0] + output.splitlines()[-2]


def test_compare_takes_arms_of_several_seeds_and_controls(tmp_path: Path, trained: tuple[Path, str]) -> None:
    mle, rl = (trained[0] / "checkpoints" / phase for phase in ("mle", "rl"))
    arms = ("--arm", f"mle={mle},{mle}", "--arm", f"rl={rl},{rl}", "--control", f"mine={mle},{rl}")
    report = {name: tmp_path / f"report.{name}" for name in ("html", "latex", "csv")}
    files = [part for name, path in report.items() for part in (f"--{name}", path)]
    options = ("--metric", "edge_f1", "--resampling-seed", 3, "--curves", "--max-instances", 6)
    output = done("compare", *arms, *files, "--json", tmp_path / "out.json", *options, *FAST)
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["primary"], result["seed"], result["resamples"], result["instances"]) == ("edge_f1", 3, 20, 6)
    assert [(arm["role"], len(arm["checkpoints"])) for arm in result["arms"]] == [
        ("mle", 2), ("reward", 2), ("control", 2),
    ]  # fmt: skip
    assert result["attributable"][0]["best_control"] == "mine" and "curves" in result
    assert output.startswith("gain attributable to the reward: rl - best control (mine): edge_f1")
    assert "<html" in report["html"].read_text() and "tabular" in report["latex"].read_text()
    assert "edge_f1" in report["csv"].read_text()


# ----------------------------------------------------------------------------------------------------------- generate
POINTS = "0.1 0.2 0.9 0.8 0.3 0.7\n0.1 0.1 0.5 0.6 0.9 0.1 0.2 0.7\n"


def test_generate_writes_a_line_for_each_source_from_standard_input(trained: tuple[Path, str]) -> None:
    assert done("generate", trained[0], input=POINTS).count("\n") == 2
    assert done("generate", trained[0], input="") == ""


def test_generate_from_and_to_files_with_n_best_and_scores(tmp_path: Path, trained: tuple[Path, str]) -> None:
    (tmp_path / "in.txt").write_bytes(POINTS.replace("\n", "\r\n").encode())
    files = ("--input", tmp_path / "in.txt", "--output", tmp_path / "out.txt")
    assert done("generate", trained[0], *files, "--beam", 4, "--n-best", 3, "--scores", "--length-penalty", 0) == ""
    rows = [line.split("\t") for line in (tmp_path / "out.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "1", "2", "2", "2"]
    scores = [float(row[1]) for row in rows]
    assert scores[:3] == sorted(scores[:3], reverse=True) and max(scores) <= 0


def test_a_byte_order_mark_a_pipe_and_a_dash_are_read_as_any_other_input(
    tmp_path: Path, trained: tuple[Path, str]
) -> None:
    expected = done("generate", trained[0], input=POINTS)
    (tmp_path / "marked.txt").write_bytes(codecs.BOM_UTF8 + POINTS.encode())
    assert done("generate", trained[0], "--input", tmp_path / "marked.txt") == expected
    assert done("generate", trained[0], "--input", "-", "--output", "-", input="\ufeff" + POINTS) == expected
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(POINTS,))
    writer.start()
    assert done("generate", trained[0], "--input", tmp_path / "pipe") == expected
    writer.join()


def test_lines_are_read_as_sources_once(trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    read, parse = [], ConvexHullTask.parse_sources
    monkeypatch.setattr(
        ConvexHullTask, "parse_sources", lambda task, lines: (read.append(lines), parse(task, lines))[1]
    )
    done("generate", trained[0], input=POINTS)
    assert read == [POINTS.splitlines()]


def test_samples_follow_their_seed(trained: tuple[Path, str]) -> None:
    drawn = [
        done("generate", trained[0], "--sample", "--n-best", 8, "--seed", seed, input=POINTS) for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    cold = done("generate", trained[0], "--sample", "--temperature", 1e-6, input=POINTS)
    assert cold == done("generate", trained[0], "--greedy", input=POINTS)


def test_every_way_of_decoding_can_be_asked_for(tmp_path: Path, trained: tuple[Path, str]) -> None:
    beam = ("--beam", 4, "--groups", 2, "--diversity", 1, "--length-norm", "gnmt", "--coverage-penalty", 0.2)
    assert done("generate", trained[0], *beam, "--n-best", 2, input=POINTS).count("\n") == 4
    whole = done("generate", trained[0], "--exhaustive", "--max-length", 3, "--scores", input=POINTS)
    wide = done("generate", trained[0], "--beam", 100, "--max-length", 3, "--scores", input=POINTS)
    assert whole == wide
    likeliest = done("generate", trained[0], "--sample", "--top-k", 1, "--min-length", 3, input=POINTS)
    assert likeliest == done("generate", trained[0], "--min-length", 3, input=POINTS)
    for command in (("evaluate", trained[0]), ("compare", *[trained[0] / "checkpoints" / p for p in ("mle", "rl")])):
        done(*command, "--sample", "--top-p", 0.9, "--seed", 2, "--max-instances", 5, "--json", tmp_path / "out.json")
        assert "metrics" in (tmp_path / "out.json").read_text()


def test_text_is_generated_with_the_checkpoints_own_vocabulary(text_run: Path) -> None:
    assert done("generate", text_run, input="3:45 PM\nline\u2028separator\n").count("\n") == 2


# ------------------------------------------------------------------------------------------------------------ configs
def test_configs_are_listed_shown_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert done("configs") == done("configs", "list")
    task, listed = "", {}
    for line in done("configs").splitlines():
        if line.startswith("  "):
            listed[line.split()[0]] = task
        else:
            task = line
    assert listed["hull"] == listed["hull-long"] == "convex_hull: Points in, hull vertices out."
    assert listed["translation"] == "translation: A sentence in, a sentence out."
    text = done("configs", "show", "hull")
    assert text.startswith("# rlseq train hull\n")
    assert "wrote hull.yaml" in done("configs", "copy", "hull") and Path("hull.yaml").read_text() == text
    assert "rlseq train ./mine" in done("configs", "copy", "hull", "mine")
    assert "wrote other/hull.yaml" in done("configs", "copy", "hull", mkdir("other"))


def mkdir(name: str) -> str:
    Path(name).mkdir()
    return name


def test_a_resolved_configuration_is_the_one_that_would_be_trained(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(done("configs", "show", "hull", "rl.samples=3"))
    assert load_config(str(tmp_path / "all.yaml")) == load_config("hull", ["rl.samples=3"])
    assert done("configs", "show", "hull", "--resolved") != done("configs", "show", "hull")
