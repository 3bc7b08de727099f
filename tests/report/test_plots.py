"""The figures show what they should: their lines and labels are read back, and their pixels looked at."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rlseq.report.page.drawings import drawn
from rlseq.report.plots import attention_figure, draw_curves, drawing_figure, figure_image, read_curves
from rlseq.report.samples import SampleRow
from rlseq_envs.drawing import Polygon


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    """4 validations of mle up to update 40, then of rl from the same update on; the last line was cut short."""
    records: list[dict[str, object]] = []
    for update in (10, 20, 30, 40):
        records.append({"update": update, "phase": "mle", "train/loss": 1.0})
        records.append({"update": update, "phase": "mle", "eval/BLEU": 30.0 + (update % 40) / 10, "eval/reward": 0.3})
    records.append({"update": 40, "phase": "rl", "eval/BLEU": 33.0, "eval/reward": 0.33})
    for update in (50, 60):
        records.append({"update": update, "phase": "rl", "rollout/reward_mean": 0.25})
        records.append({"update": update, "phase": "rl", "eval/BLEU": update / 2 + 5, "eval/reward": None})
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"update": 70, "ph')
    return path


def test_curves_are_read_by_phase(metrics: Path) -> None:
    curves = read_curves(metrics)
    assert curves.spans == {"mle": (10, 40), "rl": (40, 60)}
    updates, values = curves.series["eval/BLEU"]["rl"]
    assert updates.tolist() == [40, 50, 60] and values.tolist() == [33.0, 30.0, 35.0]
    assert curves.series["eval/reward"]["rl"][0].tolist() == [40]
    assert "rl" not in curves.series["train/loss"]


def test_curves_show_both_phases_their_boundary_and_their_best(metrics: Path, tmp_path: Path) -> None:
    figure = draw_curves(metrics, tmp_path / "curves.png", "BLEU", {"mle": "cross-entropy", "rl": "PPO"})
    upper, lower = figure.axes
    drawn = [line.get_xydata().tolist() for line in upper.lines]
    assert [[10, 31], [20, 32], [30, 33], [40, 30]] in drawn
    assert [[40, 33], [50, 30], [60, 35]] in drawn
    assert {text.get_text() for text in upper.texts} == {"33.0", "35.0", "cross-entropy", "PPO"}
    boundary = [line for line in upper.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata() for line in boundary] == [[40.0, 40.0]]
    assert {text.get_text() for text in lower.get_legend().get_texts()} == {
        "training reward (sampled)", "validation reward (greedy)",
    }  # fmt: skip
    assert (upper.get_ylabel(), lower.get_ylabel(), lower.get_xlabel()) == ("BLEU", "reward", "update")


def test_of_an_error_rate_the_least_is_marked(metrics: Path, tmp_path: Path) -> None:
    (tmp_path / "errors.jsonl").write_text(metrics.read_text().replace("eval/BLEU", "eval/WER"))
    figure = draw_curves(tmp_path / "errors.jsonl", tmp_path / "curves.png", "WER", {"mle": "mle", "rl": "rl"})
    assert {text.get_text() for text in figure.axes[0].texts} == {"30.0", "mle", "rl"}


def test_no_records_give_an_empty_picture(tmp_path: Path) -> None:
    figure = draw_curves(
        tmp_path / "none.jsonl", tmp_path / "curves.png", "BLEU", {"mle": "cross-entropy", "rl": "PPO"}
    )
    assert not figure.axes[0].lines and (tmp_path / "curves.png").exists()


def test_hull_shows_the_reference_dashed_and_the_output_closed(rows: list[SampleRow]) -> None:
    pointer = dataclasses.replace(rows[0], input_labels=("END", *rows[0].input_labels))
    axes = drawing_figure(pointer).axes[0]
    lines = {str(line.get_label()): line for line in axes.lines}
    assert lines["reference"].get_linestyle() == "--"
    assert lines["reference"].get_xydata().tolist() == [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    assert lines["output"].get_linestyle() == "-"
    assert lines["output"].get_xydata().tolist() == [[0, 0], [1, 0], [1, 1], [0, 0]]
    assert np.shape(lines["points"].get_xydata()) == (5, 2)
    assert [text.get_text() for text in axes.texts] == ["p1", "p2", "p3", "p4", "p5"]


@pytest.mark.parametrize("labels", [(), ("a",), tuple("abcdefg")])
def test_points_have_numbers_if_the_labels_are_not_theirs(labels: tuple[str, ...], rows: list[SampleRow]) -> None:
    axes = drawing_figure(dataclasses.replace(rows[0], input_labels=labels)).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("count", [20, 21, 200])
def test_all_of_few_points_are_named_and_only_corners_of_many(count: int, rows: list[SampleRow]) -> None:
    points = np.random.default_rng(0).random((count, 2))
    hull = Polygon(points, polygon=(3, 1, 7), reference=(3, 1, 12))
    named = {str(i + 1) for i in (range(count) if count == 20 else (1, 3, 7, 12))}
    axes = drawing_figure(dataclasses.replace(rows[0], drawing=hull, input_labels=())).axes[0]
    assert {text.get_text() for text in axes.texts} == named
    page = str(drawn(hull, "a hull"))
    assert set(re.findall(r">(\d+)</text>", page)) == named


def test_hull_of_no_output_shows_points_and_reference(rows: list[SampleRow]) -> None:
    hull = rows[0].drawing
    assert hull is not None
    axes = drawing_figure(dataclasses.replace(rows[0], drawing=hull.reference_alone())).axes[0]
    assert [line.get_label() for line in axes.lines] == ["reference", "points"]


def test_hull_pixels_carry_both_polygons(rows: list[SampleRow]) -> None:
    image = figure_image(drawing_figure(rows[0]))
    assert image.dtype == np.uint8 and image.shape[2] == 3
    for color in ("#d9822b", "#8a8f98", "#1f5fa8"):
        distance = np.abs(image.astype(float) - 255 * np.array(to_rgb(color))).max(axis=2)
        assert (distance < 12).sum() > 20, color


def test_attention_is_the_map_with_the_tokens_at_its_sides(rows: list[SampleRow]) -> None:
    figure = attention_figure(rows[0])
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), np.eye(4, 5))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["p1", "p2", "p3", "p4", "p5"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["p1", "p2", "p3", "END"]
    assert axes.images[0].get_clim() == (0.0, 1.0)


def test_padding_of_the_attention_is_cut_off(rows: list[SampleRow]) -> None:
    padded = np.zeros((9, 11))
    padded[:4, :5] = 0.2
    axes = attention_figure(dataclasses.replace(rows[0], attention=padded)).axes[0]
    assert axes.images[0].get_array().shape == (4, 5)


@pytest.mark.filterwarnings("error")
def test_labels_are_text_whatever_they_hold(rows: list[SampleRow]) -> None:
    odd = dataclasses.replace(
        rows[0], input_labels=("$", "$x_{", r"\frac", "中文", "_"), output_labels=("▁a", "$1$", "", "END")
    )
    for figure in (attention_figure(odd), drawing_figure(odd)):
        assert figure_image(figure).std() > 1


def test_no_global_state_of_pyplot() -> None:
    program = "import rlseq.report.reporter, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
