"""What tasks draw, on pages and in figures: a task that draws in each way there is goes through both."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.evaluation.arms import ArmSpec, Role
from rlseq.evaluation.evaluate import Evaluation, Outputs
from rlseq.evaluation.examples import examples
from rlseq.evaluation.judging import Arm, Judged
from rlseq.evaluation.loading import load_policy
from rlseq.evaluation.options import DecodingOptions
from rlseq.report.page import comparison_page
from rlseq.report.page.drawings import LINE, drawn
from rlseq.report.plots import drawing_figure, figure_image
from rlseq.report.reporter import Reporter
from rlseq.report.samples import SampleRow
from rlseq.report.tensorboard import TensorBoard
from rlseq.training.plain import PlainEngine
from rlseq.training.sampling_table import sample_rows
from rlseq_envs.drawing import Drawing, Picture, Strip
from tests.drawings import MADE, DrawingTask
from tests.report.conftest import Run
from tests.report.example import comparison
from tests.support import SMALL_ATTENTION, tiny_config


# --------------------------------------------------------------------------------------------------------------- pages
def shown(task: DrawingTask) -> list[dict[str, Any]]:
    """Examples of two arms: one emits the references, the other a single letter."""
    ids = task.instances("validation").ids(0, 5)
    right, lengths = task.references(ids)
    letters = np.zeros_like(right)
    letters[:, 0] = 1
    emitted: list[tuple[str, Role, Any, Any]] = [
        ("mle", "mle", letters, np.full(len(ids), 2)),
        ("rl", "reward", right, lengths),
    ]
    arms = []
    for name, role, sequences, ends in emitted:
        rewards = task.reward(sequences, ends, ids).total
        outputs = Outputs(ids, sequences, ends, rewards, {})
        evaluation = Evaluation(name, Path(name), "validation", DecodingOptions("beam"), {}, {}, outputs)
        arms.append(Arm(ArmSpec(name), role, [Judged(evaluation, None, 0, [], {})]))
    found = examples(task, arms, load_policy)["examples"]
    assert found
    return json.loads(json.dumps(found, allow_nan=False))


def images(html: str) -> list[Any]:
    """The pixels of the pictures in a page, (height, width, 4) each."""
    encoded = re.findall(r'<image href="data:image/png;base64,([^"]+)"', html)
    return [np.round(imread(io.BytesIO(base64.b64decode(each))) * 255).astype(np.uint8) for each in encoded]


@pytest.mark.parametrize("made", MADE)
def test_a_page_has_a_panel_for_the_reference_and_one_for_each_output(made: str) -> None:
    items = shown(DrawingTask(made))
    page = comparison_page(comparison(examples=items, regressions=[]))
    articles = re.findall(r"<article>.*?</article>", page, flags=re.DOTALL)
    assert len(articles) == len(items)
    for article in articles:
        assert re.findall(r"<figcaption><b>(\w+)</b>", article) == ["reference", "mle", "rl"]
        titles = re.findall(r'role="img" aria-label="([^"]*)"', article)
        assert [title.split(":")[0].split(", ")[1] for title in titles] == ["reference", "mle", "rl"]
        panels = [re.sub(r' (aria-label|class)="[^"]*"', "", each) for each in re.findall("<svg.*?</figure>", article)]
        assert len({panel.split("<figcaption>")[0] for panel in panels[1:]}) == 2


def test_pictures_are_in_the_page_pixel_by_pixel() -> None:
    for made in ("grey", "colour"):
        for item in shown(DrawingTask(made)):
            page = comparison_page(comparison(examples=[item], regressions=[]))
            reference, output, right = images(page)
            assert (reference == right).all() and (output != right).any()
            assert output[:, 0, 0].tolist() == [40, 40, 40, 200] and output[:, 0, 2].tolist() == (
                [40, 40, 40, 200] if made == "grey" else [215, 215, 215, 55]
            )


def test_what_all_outputs_share_is_shown_once_above_their_texts() -> None:
    items = shown(DrawingTask("source"))
    assert all("drawing" in item and not any("drawing" in each for each in item["outputs"]) for item in items)
    page = comparison_page(comparison(examples=items, regressions=[]))
    assert len(images(page)) == len(items)
    for article in re.findall(r"<article>.*?</article>", page, flags=re.DOTALL):
        assert article.index("<image") < article.index("<dt>source</dt>")
    assert "Against the reference:" in page


def test_an_output_without_a_drawing_stands_in_its_panel_as_text() -> None:
    page = comparison_page(comparison(examples=shown(DrawingTask("nothing")), regressions=[]))
    assert '<figure class="arm-mle"><p>[1]</p><figcaption><b>mle</b>' in page
    assert '<figure class="arm-reward"><svg' in page


def test_a_line_keeps_the_extremes_of_a_long_row_and_leaves_out_gaps() -> None:
    values = np.sin(np.arange(50_000) / 9)
    values[[7000, 30_000]] = [4.0, -4.0]
    values[100] = np.nan
    (line,) = re.findall(r'<polyline points="([^"]*)" class="curve"', drawn(Strip(values), "what"))
    places = np.array([[float(each) for each in place.split(",")] for place in line.split()])
    assert LINE / 2 < len(places) <= LINE and (np.diff(places[:, 0]) >= 0).all()
    assert places[places[:, 1].argmin()].tolist() == [14.0, 3.0]
    assert places[:, 1].max() == 69.0


def test_a_map_is_as_long_as_its_time_beside_the_reference() -> None:
    shorter = drawn(Strip(np.array([[0.0, 1.0], [2.0, 3.0]]), np.ones((2, 8))), "what")
    assert re.findall(r'<image [^>]* width="([^"]*)"', shorter) == ["25%"]
    pixels = images(shorter)[0][:, :, :3].astype(int)
    assert pixels[1, 0].tolist() == [68, 1, 84] and pixels[0, 1].tolist() == [253, 231, 36]  # the ends of viridis
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 4


@pytest.mark.parametrize("empty", [Strip(np.zeros(0)), Strip(np.zeros((3, 0))), Strip(np.zeros(0), np.ones(4))])
def test_an_output_of_no_time_has_a_panel(empty: Strip) -> None:
    assert "what" in drawn(empty, "what") and "image" not in drawn(empty, "what")
    assert figure_image(drawing_figure(row(empty))).std() > 1


# ------------------------------------------------------------------------------------------------------------- figures
def row(drawing: Drawing) -> SampleRow:
    return SampleRow(id=3, source="a", reference="b", greedy="c", greedy_reward=0.5, drawing=drawing)


@pytest.mark.parametrize("made", [*MADE, "source"])
def test_a_validation_draws_its_samples(made: str, run: Run) -> None:
    settings = tiny_config(
        {"type": "custom", "id": "tests.drawings:test/Drawing-v0", "arguments": {"made": made}}, SMALL_ATTENTION
    )
    rows = validated(settings)
    reporter = Reporter([TensorBoard()])
    reporter.start(settings, run, None)
    reporter.phase("mle", "cross-entropy", 2, 0)
    reporter.validation("mle", 1, {"accuracy": 0.0}, best=True, samples=rows, histograms={})
    reporter.finish()
    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0}).Reload()
    for index, each in enumerate(rows):
        (image,) = events.Images(f"drawing/{index}")
        expected = figure_image(drawing_figure(each))
        assert (np.round(imread(io.BytesIO(image.encoded_image_string))[:, :, :3] * 255) == expected).all()


def validated(settings: Config) -> list[SampleRow]:
    """Two samples, as a validation has them."""
    env = make_vector_env(settings.task)
    return sample_rows(
        env.task, PlainEngine(settings, env.task, env.rollout), env.task.instances("validation").ids(0, 2), 0
    )


def test_a_figure_has_the_output_and_the_reference_side_by_side() -> None:
    pixels, other = np.zeros((3, 2), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    figure = drawing_figure(row(Picture(pixels, other)))
    assert [axes.images[0].get_array().tolist() for axes in figure.axes] == [pixels.tolist(), other.tolist()]
    assert [axes.get_xlabel() for axes in figure.axes] == ["output", "reference"]
    assert figure.axes[0].images[0].get_clim() == (0, 255)
    assert figure.axes[0].get_title() == "instance 3, reward 0.500"
    (alone,) = drawing_figure(row(Picture(pixels))).axes
    assert alone.get_xlabel() == ""


def test_a_figure_of_a_row_has_the_reference_dashed_below() -> None:
    (axes,) = drawing_figure(row(Strip(np.array([1, 2, 3]), np.array([3, 4])))).axes
    assert [(line.get_label(), line.get_linestyle(), np.array(line.get_ydata()).tolist()) for line in axes.lines] == [
        ("reference", "--", [3, 4]),
        ("output", "-", [1, 2, 3]),
    ]


@pytest.mark.parametrize(("time", "of_reference"), [(2, 5), (5, 2), (0, 5)])
def test_maps_of_output_and_reference_are_on_one_scale_and_one_axis_of_time(time: int, of_reference: int) -> None:
    figure = drawing_figure(row(Strip(np.zeros((2, time)), np.tile([[0.0], [3.0]], of_reference))))
    drawn_maps = [image for axes in figure.axes for image in axes.images]
    assert [image.get_clim() for image in drawn_maps] == [(0, 3)] * (2 if time else 1)
    assert {image.origin for image in drawn_maps} == {"lower"}
    assert [axes.get_ylabel() for axes in figure.axes] == ["output", "reference"]
    assert [axes.get_xlim() for axes in figure.axes] == [(-0.5, 4.5)] * 2
