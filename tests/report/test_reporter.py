"""What a reporter leaves behind in the run directory: read back, not merely there."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, parse_session_start_info_plugin_data

from rlseq.config.load import load_config
from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.report.files import CurvesFile, LogFile, MetricsFile, SampleFiles
from rlseq.report.reporter import Reporter
from rlseq.report.samples import SampleRow
from rlseq.report.sink import MetricsLog, Sink
from rlseq.report.tensorboard import TensorBoard
from tests.report.conftest import Run

KINDS = ("images", "scalars", "tensors", "histograms")


def sinks() -> list[Sink]:
    return [LogFile(), MetricsFile(), SampleFiles(), TensorBoard(), CurvesFile(Path("report/curves.png"))]


def train(
    run: MetricsLog, config: Config, rows: list[SampleRow], resumed_at: int | None = None, until: int = 8
) -> None:
    """A run of 4 updates of mle and 4 of rl, from the update it is resumed at."""
    reporter = Reporter(sinks())
    reporter.start(config, run, resumed_at)
    phases: list[tuple[Phase, int]] = [("mle", 0), ("rl", 4)]
    for phase, first in phases:
        reporter.phase(phase, config.phase(phase).title, 4, max(0, (resumed_at or 0) - first))
        for update in range(first + 1, min(first + 4, until) + 1):
            if update <= (resumed_at or 0):
                continue
            stats = {"train/loss": 1.0 / update} | ({"rollout/reward_mean": update / 10} if phase == "rl" else {})
            reporter.updates(phase, update, update - first, stats)
            if update % 2 == 0:
                metrics = {"accuracy": 10.0 * update, "area": math.nan, "reward": update / 10}
                histograms = {"reward": np.array([0.0, 0.0, 1.0]), "length": np.array([3, 4, 5])}
                reporter.validation(phase, update, metrics, best=True, samples=rows, histograms=histograms)
    reporter.message("rl collapsed: back to update 4", "warning")
    reporter.finish()


def read_events(run: MetricsLog) -> EventAccumulator:
    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance=dict.fromkeys(KINDS, 0))
    return events.Reload()


@pytest.fixture
def trained(run: MetricsLog, config: Config, rows: list[SampleRow]) -> MetricsLog:
    train(run, config, rows)
    return run


def test_metrics_are_one_record_an_event_in_order(trained: MetricsLog) -> None:
    records = [json.loads(line) for line in (trained.path / "metrics.jsonl").read_text().splitlines()]
    assert [(r["update"], r["phase"]) for r in records if "train/loss" in r] == [
        *((update, "mle") for update in range(1, 5)),
        *((update, "rl") for update in range(5, 9)),
    ]
    validations = [r for r in records if "eval/accuracy" in r]
    assert [(r["update"], r["eval/accuracy"]) for r in validations] == [(2, 20.0), (4, 40.0), (6, 60.0), (8, 80.0)]
    assert all(r["eval/area"] is None for r in validations)


def test_tensorboard_has_one_axis_from_mle_into_rl(trained: MetricsLog) -> None:
    events = read_events(trained)
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [
        (update, pytest.approx(1.0 / update)) for update in range(1, 9)
    ]
    assert [e.step for e in events.Scalars("rollout/reward_mean")] == [5, 6, 7, 8]
    assert [e.step for e in events.Scalars("eval/accuracy")] == [2, 4, 6, 8]
    assert set(events.Tags()["scalars"]) == {"train/loss", "rollout/reward_mean", "eval/accuracy", "eval/reward"}


def test_tensorboard_shows_attention_hulls_and_samples(trained: MetricsLog) -> None:
    events = read_events(trained)
    assert set(events.Tags()["images"]) == {"attention/0", "drawing/0"}
    for tag in ("attention/0", "drawing/0"):
        images = events.Images(tag)
        assert [image.step for image in images] == [2, 4, 6, 8]
        assert all(image.width > 100 and image.encoded_image_string.startswith(b"\x89PNG") for image in images)
    texts = events.Tensors("samples/text_summary")
    assert [text.step for text in texts] == [2, 4, 6, 8]
    table = texts[0].tensor_proto.string_val[0].decode()
    assert "| p1(0,0) p2(1,0) | p1 p2 p3 p4 END | p1 p2 p3 END | p1 p2 p3 p4 END | 1.000 (0.000) | +1.000 |" in table
    assert r"a [b] $x$ \| c" in table and "&lt;b&gt; d" in table
    assert "learning_rate: 0.001" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_tensorboard_shows_histograms_of_a_validation(trained: MetricsLog) -> None:
    events = read_events(trained)
    assert set(events.Tags()["distributions"]) == {"eval/hist_reward", "eval/hist_length"}
    histograms = events.Histograms("eval/hist_reward")
    assert [each.step for each in histograms] == [2, 4, 6, 8]
    found = histograms[0].histogram_value
    assert (found.num, found.sum, found.min, found.max) == (3, 1.0, 0.0, 1.0)


def test_a_directory_of_runs_shows_them_by_their_places_with_the_keys_they_changed(tmp_path: Path) -> None:
    arms = {"rl": ["rl.samples=3", "seed=1"], "constant_reward": ["rl.reward_source=constant", "rl.baseline=none"]}
    for name, changes in arms.items():
        place = tmp_path / "seed1" / name
        place.mkdir(parents=True)
        reporter = Reporter([TensorBoard()])
        reporter.start(load_config("hull", changes), Run(place))
        reporter.validation("rl", 1, {"accuracy": 50.0}, best=True, samples=[])
        reporter.finish()
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert runs.Runs().keys() == {f"seed1/{name}/tensorboard" for name in arms}
    keys = {name: hyperparameters(runs, f"seed1/{name}/tensorboard") for name in arms}
    assert keys["rl"]["rl.samples"] == 3 and keys["rl"]["seed"] == 1 and keys["rl"]["name"] == "hull"
    assert keys["constant_reward"]["rl.reward_source"] == "constant" and keys["constant_reward"]["seed"] == 0
    assert "rl.reward_source" not in keys["rl"] and "compute.runners" not in keys["rl"]


def hyperparameters(runs: EventMultiplexer, run: str) -> dict[str, Any]:
    content = runs.SummaryMetadata(run, SESSION_START_INFO_TAG).plugin_data.content
    values = parse_session_start_info_plugin_data(content).hparams.items()
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values}


def test_pictures_are_drawn_ever_more_rarely_and_at_the_end(
    run: MetricsLog, config: Config, rows: list[SampleRow]
) -> None:
    reporter = Reporter([TensorBoard()])
    reporter.start(config, run)
    reporter.phase("mle", "cross-entropy", 100)
    for update in range(1, 12):
        reporter.validation("mle", update, {"accuracy": 1.0}, best=False, samples=rows)
    reporter.finish()
    assert [image.step for image in read_events(run).Images("drawing/0")] == [1, 2, 4, 8, 11]


def test_resuming_hides_what_was_written_beyond_the_checkpoint(
    run: MetricsLog, config: Config, rows: list[SampleRow]
) -> None:
    train(run, config, rows, until=7)
    train(run, config, rows, resumed_at=4)
    events = read_events(run)
    assert [e.step for e in events.Scalars("train/loss")] == list(range(1, 9))
    assert [e.step for e in events.Scalars("eval/accuracy")] == [2, 4, 6, 8]


def test_log_has_a_dated_line_an_event_and_is_appended_to(
    run: MetricsLog, config: Config, rows: list[SampleRow]
) -> None:
    train(run, config, rows, until=4)
    train(run, config, rows, resumed_at=4)
    lines = (run.path / "train.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d (INFO|WARNING) ", line) for line in lines)
    text = [line.split(" ", 2)[2] for line in lines]
    assert f"run {run.path} (hull, seed 0), resumed after update 4" in text
    assert "mle: cross-entropy, at most 4 updates" in text
    assert "validation mle update 2 accuracy 20.00 area nan reward 0.2000 (best so far)" in text
    assert sum("WARNING rl collapsed" in line for line in lines) == 2
    losses = [line for line in text if line.startswith("rl 2/4 update 6 loss 0.1667 reward 0.6000 left 0:00:0")]
    assert len(losses) == 1


def test_samples_are_kept_uncut(run: MetricsLog, config: Config) -> None:
    reporter = Reporter([SampleFiles()])
    reporter.start(config, run)
    row = SampleRow(id=1, source="word " * 200, reference="r", greedy="g", greedy_reward=0.5)
    reporter.validation("mle", 30, {"accuracy": 1.0}, best=False, samples=[row])
    text = (run.path / "samples" / "30.txt").read_text()
    assert "word " * 200 in text
    assert "  reward    (0.500)" in text and "advantage" not in text


def test_curves_are_drawn_at_the_end(trained: MetricsLog) -> None:
    assert (trained.path / "report" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_ends_before_its_first_validation_finishes(run: MetricsLog, config: Config) -> None:
    reporter = Reporter(sinks())
    reporter.start(config, run)
    reporter.finish()
    assert not (run.path / "metrics.jsonl").exists()


def test_the_metric_is_the_one_named_or_the_first_that_is_not_the_reward(run: MetricsLog, config: Config) -> None:
    seen = []

    class Spy(Sink):
        def validation(self, event: object) -> None:
            seen.append(event.metric)  # type: ignore[attr-defined]

    for metric in (None, {"mle": "edge_f1"}.__getitem__):
        reporter = Reporter([Spy()], metric=metric)
        reporter.start(config, run)
        reporter.validation("mle", 1, {"reward": 0.0, "accuracy": 1.0, "edge_f1": 0.1}, False, [])
    assert seen == ["accuracy", "edge_f1"]


def test_what_is_said_before_the_run_begins_is_logged_below_its_first_line(run: MetricsLog, config: Config) -> None:
    reporter = Reporter([LogFile()])
    reporter.message("train data: lines 5")
    reporter.start(config, run)
    reporter.finish()
    lines = (run.path / "train.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        f"INFO run {run.path} (hull, seed 0)",
        "INFO train data: lines 5",
    ]
