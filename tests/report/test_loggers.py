"""Loggers write what metrics.jsonl has, under the same tags, and go on with a run that is resumed."""

from __future__ import annotations

import csv
import json
import sqlite3
import struct
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rlseq
from rlseq.report.loggers import registry
from rlseq.report.loggers.registry import LOGGERS, LoggerError, make_loggers
from rlseq.report.sink import Sink
from rlseq.training.run_directory import read_metrics
from tests.cli.test_commands import TINY
from tests.pages import OWN_LOGGER, blocks

OF_THE_PAGE = "database:Database"
Figures = dict[str, dict[int, float]]  # of each tag, the value at each update


def of_csv(run: Path) -> Figures:
    found: Figures = defaultdict(dict)
    with (run / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["value"]:
                found[row["tag"]][int(row["update"])] = float(row["value"])
    return found


@pytest.fixture(autouse=True)
def file_store_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def of_mlflow(run: Path) -> Figures:
    from mlflow.tracking import MlflowClient

    client = MlflowClient((run.parent / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("hull")
    (theirs,) = client.search_runs([experiment.experiment_id])
    assert theirs.info.status == "FINISHED" and theirs.data.params["policy.hidden_size"] == "8"
    history = {tag: client.get_metric_history(theirs.info.run_id, tag) for tag in theirs.data.metrics}
    return {tag: {each.step: each.value for each in points} for tag, points in history.items()}


def of_wandb(run: Path) -> Figures:
    """From the files that offline mode writes."""
    from wandb.proto import wandb_internal_pb2

    found: Figures = defaultdict(dict)
    for path in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        for data in leveldb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            if "update" in row:
                found |= {tag: found[tag] | {row["update"]: value} for tag, value in row.items() if "/" in tag}
    return found


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """The records of a log of LevelDB's, whose blocks have 32 KiB and whose parts begin with checksum, length, type."""
    place, record = 7, b""  # after a head of 7 bytes
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield record
            record = b""


def of_database(run: Path) -> Figures:
    found: Figures = defaultdict(dict)
    with sqlite3.connect(run.parent / "figures.sqlite") as database:
        for tag, update, value in database.execute(
            "SELECT tag, update_, value FROM figures WHERE run = ?", (run.name,)
        ):
            found[tag][update] = value
    return found


READERS: dict[str, Callable[[Path], Figures]] = {
    "csv": of_csv,
    "mlflow": of_mlflow,
    "wandb": of_wandb,
    OF_THE_PAGE: of_database,
}


def of_metrics(run: Path) -> Figures:
    found: Figures = defaultdict(dict)
    for record in read_metrics(run / "metrics.jsonl"):
        update = record.pop("update")
        found |= {t: found[t] | {update: v} for t, v in record.items() if t != "phase" and v is not None}
    return found


class Quits(Sink):
    """Ends the run in the middle, as Ctrl-C does."""

    def updates(self, event: Any) -> None:
        if event.update == 5:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped at update 5, gone on with from update 4."""
    path = tmp_path_factory.mktemp("logged") / "run"
    (path.parent / "database.py").write_text(blocks(OWN_LOGGER, "python")[0])
    keys = [*TINY, f"report.loggers={json.dumps([*LOGGERS, OF_THE_PAGE])}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("MLFLOW_TRACKING_URI", (path.parent / "mlruns").as_uri())
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        with pytest.raises(rlseq.Stopped):
            rlseq.train("hull", keys, run=path, callbacks=[Quits()], console=False)
        rlseq.resume(path, console=False)
    return path


@pytest.mark.parametrize("name", [*LOGGERS, OF_THE_PAGE])
def test_a_logger_has_the_figures_of_the_run_directory(name: str, run: Path) -> None:
    expected, found = of_metrics(run), READERS[name](run)
    assert found.keys() >= expected.keys() and "eval/accuracy" in expected
    for tag, values in expected.items():
        assert {update: found[tag][update] for update in values} == pytest.approx(values), tag


def test_a_logger_of_a_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("quits", f"{__name__}:Quits", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == registry.GROUP else [])
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Quits=Quits))
    (made,) = make_loggers(["quits"])
    assert isinstance(made, Quits)


def test_all_loggers_that_cannot_be_made_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in {"wandb", "mlflow"} | {name for name in sys.modules if name.startswith(("wandb.", "mlflow."))}:
        monkeypatch.setitem(sys.modules, module, None)
    for place in LOGGERS.values():
        monkeypatch.delitem(sys.modules, place.split(":")[0], raising=False)
    with pytest.raises(LoggerError) as caught:
        make_loggers(["wandb", "csv", "wandbb", "nowhere:Logger", "mlflow", "json:JSONDecoder", "json:Nothing"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 6 and all("report.loggers: " in line for line in lines)
    assert "pip install 'rlseq[wandb]'" in lines[0] and "pip install 'rlseq[mlflow]'" in lines[3]
    assert "did you mean 'wandb'?" in lines[1] and "nowhere:Logger cannot be imported" in lines[2]
    assert "no subclass" in lines[4] and "AttributeError" in lines[5]


def test_a_logger_that_is_missing_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(LoggerError):
        rlseq.train("hull", [*TINY, "report.loggers=[nothing]"], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_service_cannot_use_is_told_before_the_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://nowhere")
    with pytest.raises(LoggerError, match="mlflow cannot use gopher://nowhere: set MLFLOW_TRACKING_URI"):
        make_loggers(["mlflow"])
