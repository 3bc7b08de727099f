"""Two trainings of one configuration and one seed come to the same bytes: in two processes, and with two learners."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlseq.config.load import list_configs, load_config
from rlseq.data.tasks import make_task
from rlseq.report.reporter import Reporter
from rlseq.rllib.engine import RllibEngine
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from tests.small_runs import SHIPPED, digest, shipped, small_form

TEXTS = [
    config.name
    for config in list_configs()
    if "vocabulary_size" in shipped(config.name)["task"] and "subword_dropout" in config.task.__dataclass_fields__
]
FORMS: dict[str, tuple[str, list[str]]] = {name: (name, []) for name in SHIPPED} | {
    f"{name}, subwords drawn anew": (name, ["task.subword_dropout=0.3"]) for name in TEXTS
}
PROCESS = """
import json, sys
from pathlib import Path
from rlseq.config.load import load_config
from tests.small_runs import small_form, trained_alone
place = Path(sys.argv[1])
for form, (name, more) in json.loads(sys.argv[2]).items():
    config = load_config(name, [*small_form(name, place / "data"), *more])
    print(json.dumps([form, trained_alone(config, place / form)]), flush=True)
"""


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What each of two processes came to, by form; text hashes differ between them."""
    found = []
    for salt in ("1", "2"):
        arguments = [sys.executable, "-c", PROCESS, str(tmp_path_factory.mktemp("process")), json.dumps(FORMS)]
        done = subprocess.run(
            arguments, env=os.environ | {"PYTHONHASHSEED": salt}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found.append(dict(json.loads(line) for line in done.stdout.splitlines()))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_two_processes_come_to_the_same_bytes(form: str, of_two_processes: list[dict[str, str]]) -> None:
    one, other = of_two_processes
    assert one[form] == other[form]


def test_every_form_comes_to_bytes_of_its_own(of_two_processes: list[dict[str, str]]) -> None:
    """So the digest sees what was trained, and subwords are indeed drawn."""
    assert len(set(of_two_processes[0].values())) == len(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_two_learners_come_to_the_same_bytes(form: str, tmp_path: Path, ray_cluster: None) -> None:
    name, more = FORMS[form]
    config = load_config(name, [*small_form(name, tmp_path / "data"), *more, "compute.learners=2"])

    def trained(path: Path) -> str:
        run = RunDirectory.create(config, path=path)
        task = make_task(config.task)
        engine = RllibEngine(config, task)
        try:
            Trainer(config, task, engine, run, Reporter([])).train()
        finally:
            engine.close()
            run.close()
        return digest(run.path)

    assert trained(tmp_path / "one") == trained(tmp_path / "other")
