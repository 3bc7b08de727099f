"""The console: a bar and tables on a terminal, plain lines anywhere else."""

from __future__ import annotations

import io
import os
import re
import threading

import pytest

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.report import lines
from rlseq.report.console import PlainConsole, RichConsole
from rlseq.report.lines import Pace, format_seconds, format_value, updates_line
from rlseq.report.reporter import Reporter, default_sinks
from rlseq.report.samples import SampleRow
from rlseq.report.sink import MetricsLog, PhaseStart, Sink, Updates


def train(sink: Sink, run: MetricsLog, config: Config, rows: list[SampleRow]) -> None:
    reporter = Reporter([sink])
    reporter.start(config, run)
    reporter.phase("rl", "PPO", 1500)
    stats = {"train/loss": 0.5, "rollout/reward_mean": 0.6125, "time/tokens_per_sec": 12345.6}
    reporter.updates("rl", 6220, 220, stats)
    reporter.validation("rl", 6220, {"accuracy": 81.25, "reward": 0.8125}, True, rows)
    reporter.updates("rl", 6240, 240, stats)
    reporter.message("the rl phase [stops] early")
    reporter.finish()


def on_terminal(run: MetricsLog, config: Config, rows: list[SampleRow], width: int = 160) -> str:
    """What a terminal receives, without its control codes."""
    master, slave = os.openpty()
    received: list[bytes] = []

    def read() -> None:
        while chunk := _read(master):
            received.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w") as stream:
        assert isinstance(default_sinks(stream)[0], RichConsole)
        train(RichConsole(stream, width=width), run, config, rows)
    reader.join(timeout=30)
    os.close(master)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(received).decode())


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the other end is closed
        return b""


def test_a_terminal_shows_progress_and_a_table_of_samples(
    run: MetricsLog, config: Config, rows: list[SampleRow]
) -> None:
    text = on_terminal(run, config, rows)
    last_bar = [line for line in text.splitlines() if "/1500" in line][-1]
    assert "rl (PPO)" in last_bar and "240/1500" in last_bar
    assert "accuracy 81.25  reward 0.6125  tokens/s 12,346" in last_bar
    assert re.search(r"\d:\d\d:\d\d left", last_bar)
    header = next(line for line in text.splitlines() if "reference" in line)
    assert header.split() == ["source", "reference", "greedy", "sample", "reward", "advantage"]
    assert re.search(r"p1 p2 p3 END +p1 p2 p3 p4 END +1\.000 \(0\.000\) +\+1\.000", text)
    assert "a [b] $x$ | c" in text
    assert "info the rl phase [stops] early" in text
    assert "validation rl update 6220 accuracy 81.25 reward 0.8125 (best so far)" in text


def test_the_bar_is_full_when_a_phase_ends_between_two_log_lines(run: MetricsLog, config: Config) -> None:
    console = RichConsole(io.StringIO(), width=100)
    reporter = Reporter([console])
    reporter.start(config, run)
    phases: list[tuple[Phase, int]] = [("mle", 0), ("rl", 30)]
    for name, begun in phases:
        reporter.phase(name, config.phase(name).title, 30)
        reporter.validation(name, begun, {"accuracy": 1.0}, True, [])
        reporter.updates(name, begun + 20, 20, {"train/loss": 1.0})
        reporter.validation(name, begun + 30, {"accuracy": 1.0}, True, [])
    reporter.finish()
    assert [bar.completed for bar in console._progress.tasks] == [30, 30]


def test_a_terminal_shows_a_few_samples_whole(run: MetricsLog, config: Config, rows: list[SampleRow]) -> None:
    text = on_terminal(run, config, rows * 5)
    assert text.count("p1(0,0) p2(1,0)") == 2 == text.count("a [b] $x$ | c")


def test_a_narrow_terminal_shows_everything_on_lines_that_fit(run: MetricsLog, config: Config) -> None:
    row = SampleRow(id=1, source="word " * 100, reference="", greedy="g", greedy_reward=0.5)
    text = on_terminal(run, config, [row] * 5, width=80)
    last_bar = [line for line in text.splitlines() if "240/1500" in line][-1]
    assert "accuracy 81.25  reward 0.6125  tokens/s 12,346" in last_bar and last_bar.rstrip().endswith(" left")
    assert text.count("  source    word word") == 2
    assert max(map(len, re.split(r"[\r\n]+", text))) <= 80


def test_elsewhere_every_event_is_a_plain_line(run: MetricsLog, config: Config, rows: list[SampleRow]) -> None:
    stream = io.StringIO()
    assert isinstance(default_sinks(stream)[0], PlainConsole)
    train(PlainConsole(stream), run, config, rows)
    text = stream.getvalue()
    assert "\x1b" not in text and "\r" not in text
    found = text.splitlines()
    assert found[0] == f"run {run.path} (hull, seed 0)"
    assert found[1] == "rl: PPO, at most 1,500 updates"
    assert found[2].startswith("rl 220/1500 update 6220 loss 0.5000 reward 0.6125 tokens/s 12,346 left ")
    assert found[3] == "validation rl update 6220 accuracy 81.25 reward 0.8125 (best so far)"
    assert found[4:8] == [
        "sample 7",
        "  source    p1(0,0) p2(1,0)",
        "  reference p1 p2 p3 p4 END",
        "  greedy    p1 p2 p3 END",
    ]
    assert found[-1] == "the rl phase [stops] early"


def test_plain_samples_are_cut_to_the_line(run: MetricsLog, config: Config) -> None:
    stream = io.StringIO()
    row = SampleRow(id=1, source="x" * 5000, reference="", greedy="g", greedy_reward=0.5)
    train(PlainConsole(stream), run, config, [row] * 8)
    assert max(map(len, stream.getvalue().splitlines())) < 150
    assert stream.getvalue().count("sample 1\n") == 2


def test_characters_that_the_stream_lacks_are_replaced(run: MetricsLog, config: Config) -> None:
    written = io.BytesIO()
    row = SampleRow(id=1, source="ein ▁weißes 中文 Haus", reference="", greedy="g", greedy_reward=0.5)
    stream = io.TextIOWrapper(written, encoding="latin-1")
    train(PlainConsole(stream), run, config, [row])
    assert "  source    ein ?weißes ?? Haus\n" in written.getvalue().decode("latin-1")


def test_time_left_is_what_the_pace_so_far_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 130.0, 130.0])
    monkeypatch.setattr(lines, "monotonic", lambda: next(clock))
    pace = Pace(PhaseStart("rl", "PPO", total_updates=100, done=40))
    assert pace.seconds_left(40) is None
    assert pace.seconds_left(50) == pytest.approx(150.0)  # 10 updates in 30 seconds, 50 to go
    assert updates_line(Updates("rl", 650, 50, {}), pace) == "rl 50/100 update 650 left 0:02:30"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"), (12345.6, "12,346"), (76.123, "76.12"), (0.61249, "0.6125"), (0.012345, "0.01235"),
        (3e-5, "3.00e-05"), (-2.5, "-2.500"), (float("nan"), "nan"), (999.96, "1000.0"),
    ],
)  # fmt: skip
def test_values_have_four_digits(value: float, text: str) -> None:
    assert format_value(value) == text


def test_seconds_are_rounded_before_they_are_split() -> None:
    assert [format_seconds(s) for s in (0, 59.6, 3599.5, 36000)] == ["0:00:00", "0:01:00", "1:00:00", "10:00:00"]
