"""What README and docs say is so: commands run, tags are those of a run, the example trains, links lead somewhere."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner, Result

from rlseq.api import training
from rlseq.cli import app
from rlseq.config.load import list_configs
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.rllib import cluster, tuning
from rlseq.training import jobs
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import read_metrics
from rlseq_envs.task import SequenceTask
from tests.captioned import write_captioned
from tests.cli.test_study import InThisProcess
from tests.pages import OWN_LOGGER, OWN_NETWORK, OWN_REWARD, OWN_TASK, ROOT, blocks

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
COMMAND_LINE = ROOT / "docs" / "reference" / "command-line.md"
# Whatever sizes a command has, it is run with these.
FEW = [
    *("mle.updates=2", "mle.batch_size=4", "mle.validate_every=1", "mle.average=0", "rl.updates=2", "rl.batch_size=4"),
    *("rl.validate_every=1", "rl.average=0", "log_every=1", "evaluation.samples_shown=1", "compute.threads=1"),
]
SMALL_HULLS = ["task.train_size=50", "task.validation_size=8", "task.test_size=8", "policy.hidden_size=8"]
SMALL_TEXT = ["task.units=character", "policy.embedding_size=8", "policy.hidden_size=8", "task.cldr_sizes=[60, 8, 8]"]
SMALL_TEXT += ["task.max_length=12"]
SMALL = {
    "hull": SMALL_HULLS,
    "./mine.yaml": SMALL_HULLS,
    "translation": SMALL_TEXT,
    "multi30k": [key for key in SMALL_TEXT if "cldr" not in key],
    "tape-copy": ["task.validation_size=8", "task.test_size=8", "policy.hidden_size=8", "policy.embedding_size=8"],
    "spoken-digits": [
        *("task.speakers=[2, 1, 1]", "task.takes=1", "task.bands=8", "task.hop=0.03", "task.validation_size=8"),
        *("task.test_size=8", "policy.hidden_size=8"),
    ],
    "flickr8k": ["task.captions=2", "policy.hidden_size=8"],
    "scenes": ["task.sizes=[60, 20, 20]", "task.picture_size=16", "policy.hidden_size=8"],
    "digits": ["task.side=6", "task.sizes=[60, 8, 8]", "policy.hidden_size=8"],
    "sorting.yaml": ["evaluation.max_instances=8"],
}


def commands(page: Path) -> list[str]:
    """The commands of ours that a page gives."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if re.match(r"(echo .*\| )?rlseq ", line)]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def rlseq(*arguments: str, input: str | None = None) -> Result:
    result = CliRunner().invoke(app, list(arguments), input=input)
    known = (0, 3) if arguments[0] == "preflight" else (0,)  # rl is not advisable after two updates
    assert result.exit_code in known, (arguments, result.output)
    return result


def plain_engine(config: Config, task: SequenceTask, artifacts: Path) -> PlainEngine:
    made = artifacts if any(artifacts.iterdir()) else None
    return PlainEngine(config, task, make_vector_env(config.task, made).rollout)


def write_data(directory: Path) -> None:
    """The files that the commands name."""
    (directory / "points.txt").write_text("0.1 0.2 0.9 0.8 0.3 0.7\n0.5 0.5 0.1 0.9 0.7 0.1 0.2 0.2\n" * 4)
    names = ["train.en", "train.de", "val.en", "val.de", "test.en", "test.de", "test2.de"]
    multi30k = [f"data/multi30k/{split}" for split in ("train", "val", "test_2016_flickr")]
    names += [f"{base}.{language}.gz" for base in [*multi30k, "flickr2017"] for language in ("en", "de")]
    (directory / "data" / "multi30k").mkdir(parents=True)
    for file in names:
        text = "".join(f"{word} {word}\n" for word in ("one", "two", "three", "four", "five", "six")).encode()
        (directory / file).write_bytes(gzip.compress(text) if file.endswith(".gz") else text)
    write_captioned(directory / "data" / "flickr8k", copies=12)
    np.save(directory / "points.npy", np.random.default_rng(0).random((5, 6, 2)))


def write_examples(directory: Path) -> None:
    """The user's task, reward, network and logger: modules, and the task's configuration."""
    (directory / "sorting.py").write_text(blocks(OWN_TASK, "python")[0])
    (directory / "sorting.yaml").write_text(blocks(OWN_TASK, "yaml")[0])
    (directory / "database.py").write_text(blocks(OWN_LOGGER, "python")[0])
    (directory / "gru.py").write_text(blocks(OWN_NETWORK, "python")[0])
    (directory / "mine.py").write_text(blocks(OWN_REWARD, "python")[0])


def sized(arguments: list[str]) -> list[str]:
    """A training command with small sizes: what is resumed has them already."""
    if arguments[0] not in ("train", "study", "sweep") or "--resume" in arguments:
        return arguments
    trials = ["--trials", "2"] if arguments[0] == "sweep" else []
    return [*arguments, *SMALL.get(arguments[1], []), *FEW, *trials]


def trials_in_this_process(trial: Any, count: int, **settings: Any) -> None:
    """The trials of a sweep one after the other, none of which is stopped."""
    for number in range(count):
        trial(number, lambda updates, best, words: None)


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(training, "make_engine", plain_engine)
    monkeypatch.setattr(jobs, "LocalProcess", InThisProcess)
    monkeypatch.setattr(tuning, "run_trials", trials_in_this_process)
    monkeypatch.setattr(cluster, "start", lambda compute: False)
    monkeypatch.setenv("RLSEQ_COPIES", str(tmp_path / "copies"))
    write_data(tmp_path)
    write_examples(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for pages whose commands begin with one."""
    run = tmp_path_factory.mktemp("finished") / "mine"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(training, "make_engine", plain_engine)
        rlseq("train", "hull", *SMALL["hull"], *FEW, "--run", str(run))
    return run


def run_commands(page: Path, finished: Path) -> dict[str, str]:
    """What each command of a page prints, run in the order given."""
    if not any("--run runs/mine" in line for line in commands(page)):
        shutil.copytree(finished, "runs/mine", symlinks=True)
    outputs = {}
    for line in commands(page):
        *before, command = line.split(" | ")
        text = "".join(f"{shlex.split(part)[1]}\n" for part in before)
        _, *arguments = shlex.split(command.replace("s3://", "memory://"), comments=True)
        # Only the reference goes on with a study's second seed.
        seeds = ["--seeds", "1"] if arguments[0] == "study" and page != COMMAND_LINE else []
        outputs[line] = rlseq(*sized(arguments), *seeds, input=text or None).stdout
    return outputs


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page) and page != COMMAND_LINE], ids=name)
def test_every_command_runs_in_the_order_given(page: Path, working_directory: Path, finished: Path) -> None:
    run_commands(page, finished)


def test_the_commands_of_the_reference_do_what_it_says(working_directory: Path, finished: Path) -> None:
    outputs = run_commands(COMMAND_LINE, finished)
    generated = [output for line, output in outputs.items() if "generate" in line]
    assert re.fullmatch(r"[\d ]*\n", generated[0])
    assert len(generated[1].splitlines()) > 8 and generated[2] == ""
    assert len(Path("drawn.txt").read_text().splitlines()) == 32
    assert [arm["name"] for arm in json.loads(Path("comparison.json").read_text())["arms"]] == ["mle", "rl", "control"]


def test_every_command_there_is_has_an_example_in_the_reference() -> None:
    used = set(re.findall(r"(?m)(?:^|\| )rlseq (\w+) ", COMMAND_LINE.read_text()))  # those that need a cluster, too
    assert used == {command.name for command in app.registered_commands} | {
        group.name for group in app.registered_groups
    }


def test_the_users_task_is_found_and_trained_through_both_phases(tmp_path: Path) -> None:
    write_examples(tmp_path)
    (command,) = (line for line in commands(OWN_TASK) if "sorting" in line)
    arguments = sized(shlex.split(command)[1:])
    # -P leaves the working directory out of the search for modules, as the installed command does.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "rlseq", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    records = read_metrics(run / "metrics.jsonl")
    assert {record["update"] for record in records if "train/loss" in record} == {1, 2, 3, 4}
    assert all("eval/solved" in record for record in records if "train/loss" not in record)
    assert "solved" in done.stdout


@pytest.mark.parametrize("page", [OWN_TASK, OWN_NETWORK], ids=name)
def test_the_example_is_about_thirty_lines(page: Path) -> None:
    code = blocks(page, "python")[0].split("class ")[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 30


# ----------------------------------------------------------------------------------------------- what a run writes
@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs on points and text, with every term of either loss; on pixels; and one of each other objective."""
    directory = tmp_path_factory.mktemp("runs")
    terms = [
        "rl.baseline=greedy",
        "rl.samples=1",
        "rl.kl=0.1",
        "rl.cross_entropy=0.1",
        "rl.entropy=0.01",
        "rl.reward_scale=2",
        "rl.sampling_precision=bf16",
        "mle.scheduled_sampling={schedule: exponential, constant: 0.5}",
    ]
    mrt = ["rl.objective=mrt", "rl.baseline=none", "rl.samples=2"]
    recipes = {
        "hull": ("hull", terms),
        "translation": (
            "translation",
            [*terms, "mle.attention_regularization=0.1", "task.metrics=[BLEU, chrF, TER, BLEU-1, CIDEr-D, WER, CER]"],
        ),
        "digits": ("digits", []),
        "mrt": ("hull", mrt),
    }
    recipes["mixer"] = ("hull", ["rl.objective=mixer", "rl.baseline=critic", "rl.variance_every=1"])
    redrawing = ["rl.objective=ppo", "rl.baseline=mean", "rl.samples=2", "rl.dynamic_sampling=1"]
    for run, (config, keys) in (recipes | {"ppo": ("hull", redrawing)}).items():
        rlseq("train", config, *SMALL[config], *FEW, "rl.instances=train", *keys, "--run", str(directory / run))
    return [directory / run for run in (*recipes, "ppo")]


def tags(run: Path) -> Iterator[str]:
    """Every tag a run wrote; of pictures and texts as TensorBoard groups them."""
    for record in read_metrics(run / "metrics.jsonl"):
        yield from record.keys() - {"update", "phase"}
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    found = events.Tags()
    yield from (re.sub(r"/\d+$", "/<i>", tag) for tag in [*found["scalars"], *found["images"], *found["histograms"]])
    yield from (tag.removesuffix("/text_summary") for tag in found["tensors"])


def test_the_glossary_has_the_tags_that_are_written_and_no_others(runs: list[Path]) -> None:
    page = (ROOT / "docs" / "reference" / "tags.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE)
    glossary = [tag for row in rows for tag in re.findall(r"`(.*?)`", row)]
    assert len(set(glossary)) == len(glossary)
    assert set(glossary) == {tag for run in runs for tag in tags(run)}


def test_the_run_directory_has_the_entries_that_are_listed(runs: list[Path]) -> None:
    (listing,) = (block for block in blocks(ROOT / "docs" / "reference" / "run-directory.md", ""))
    listed = [line.split()[0] for line in listing.splitlines()[1:]]
    for run in runs:
        entries = {path.name for path in run.iterdir() if not path.name.startswith(".")}
        assert entries == {entry.split("/")[0] for entry in listed}
        for entry in listed:
            place = re.sub(r"<update>(\.txt)?", r"latest" if "checkpoints" in entry else r"2\1", entry)
            assert (run / place).exists(), entry
        checkpoint = {path.name for path in (run / "checkpoints" / "rl" / "best").iterdir()}
        assert checkpoint == {"policy.safetensors", "state.safetensors", "meta.json", "manifest.json", "artifacts"}
        assert all(name in listing for name in checkpoint)
        assert {path.name for path in (run / "report").iterdir()} == {"curves.png", "comparison.json", "status.json"}


# ----------------------------------------------------------------------------------------------------------- the rest
def test_the_control_of_make_train_is_as_long_as_the_recorded_one() -> None:
    given = re.findall(
        r"^EQUAL_TIME\.(\S+) := --equal-time-updates (\d+)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert given
    for name, updates in given:
        recorded = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())["equal_time_updates"]
        assert int(updates) == recorded


def test_the_results_are_those_that_are_recorded() -> None:
    for script in ("results.py", "systems.py"):
        subprocess.run([sys.executable, ROOT / "scripts" / script, "--check"], check=True)


def test_every_configuration_and_every_study_has_a_row_among_the_systems() -> None:
    systems = yaml.safe_load((ROOT / "docs" / "systems.yaml").read_text(encoding="utf-8"))
    assert {system["configuration"] for system in systems} == {config.name for config in list_configs()}
    studied = [system["result"] for system in systems if "result" in system]
    assert sorted(studied) == sorted(path.stem for path in (ROOT / "docs" / "results").glob("*.json"))


def test_the_configurations_named_are_those_that_are_shipped() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"is a shipped name \((.*?)\)", page)
    assert set(re.findall(r"`(.*?)`", named)) == {config.name for config in list_configs()}


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#]+)", index.read_text())}
    assert {page for page in PAGES if page.parent != ROOT} <= linked | {index}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
