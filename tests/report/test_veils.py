"""Attention over a picture: where a word reads the picture is seen, elsewhere there is a veil."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from matplotlib.image import imread

from rlseq.data.tasks import make_vector_env
from rlseq.decoding.attention_map import grid_of
from rlseq.evaluation.arms import ArmSpec
from rlseq.evaluation.evaluate import Evaluation, Outputs
from rlseq.evaluation.examples import examples
from rlseq.evaluation.judging import Arm, Judged
from rlseq.evaluation.loading import LoadedPolicy
from rlseq.evaluation.options import DecodingOptions
from rlseq.report.page import comparison_page
from rlseq.report.page.drawings import attention_on_picture
from rlseq.report.plots import attention_figure, figure_image
from rlseq.report.samples import SampleRow
from rlseq.report.veils import veils
from rlseq.training.plain import PlainEngine
from rlseq.training.sampling_table import sample_rows
from rlseq_envs.drawing import Picture
from rlseq_envs.spaces import Space
from rlseq_envs.task import SequenceTask
from tests.captioned import write_captioned
from tests.report.example import comparison
from tests.support import ReverseTask, tiny_config

# Two words over 2 x 3 cells: the first reads the last cell, the second the first one twice as much as the second one.
WEIGHTS = [[0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [0.5, 0.25, 0.0, 0.0, 0.25, 0.0]]
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def pixels_of(encoded: str) -> npt.NDArray[np.uint8]:
    return np.round(imread(io.BytesIO(base64.b64decode(encoded))) * 255).astype(np.uint8)


def test_there_is_no_veil_where_most_is_read() -> None:
    drawn = veils(WEIGHTS, (2, 3))
    assert drawn.shape == (2, 2, 3, 4) and (drawn[..., :3] == 255).all()
    thickest = round(0.85 * 255)
    assert drawn[0, ..., 3].tolist() == [[thickest] * 3, [thickest, thickest, 0]]
    assert drawn[1, 0, :, 3].tolist() == [0, round(0.425 * 255), thickest]
    assert (veils([[0.0] * 6], (2, 3))[..., 3] == thickest).all()


def test_a_page_shows_the_picture_once_for_each_word() -> None:
    shown = attention_on_picture(Picture(PIXELS), WEIGHTS, ["a", "dog"], (2, 3))
    (seen,) = re.findall(r'<defs><image href="data:image/png;base64,([^"]+)"[^>]*id="([\w-]+)"', shown)
    assert (pixels_of(seen[0])[..., :3] == PIXELS).all()
    assert re.findall(r'<use href="#([\w-]+)"', shown) == [seen[1]] * 2
    over = [pixels_of(each) for each in re.findall(r'<image href="data:image/png;base64,([^"]+)"', shown)[1:]]
    np.testing.assert_array_equal(over, veils(WEIGHTS, (2, 3)))
    assert "a reads row 2, column 3; dog reads row 1, column 1" in shown


def test_a_figure_shows_the_picture_once_for_each_word() -> None:
    row = SampleRow(
        1,
        "",
        "",
        "",
        0.5,
        drawing=Picture(PIXELS),
        attention=np.array(WEIGHTS),
        grid=(2, 3),
        output_labels=("$a", "dog"),
    )
    figure = attention_figure(row)
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == ["$a", "dog"]
    for axes, veil in zip(panels, veils(WEIGHTS, (2, 3)), strict=True):
        picture, over = (image.get_array() for image in axes.images)
        assert (picture == PIXELS).all() and (over == veil).all()
        assert len({tuple(image.get_extent()) for image in axes.images}) == 1
    assert figure_image(figure).std() > 1


POLICIES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, int]]] = {
    "pixels": (
        {"sizes": [20, 8, 8], "picture_size": 15},
        {"encoder": {"type": "convolutional", "channels": 4}},
        (4, 4),
    ),
    "regions": ({}, {"encoder": "features", "decoder": "top_down"}, (2, 3)),
}


@pytest.mark.parametrize("name", POLICIES)
def test_what_captions_read_is_shown_over_their_pictures(name: str, tmp_path: Path) -> None:
    keys, policy, grid = POLICIES[name]
    files = write_captioned(tmp_path, copies=4, pictures=True) | {"picture_directory": str(tmp_path)}
    settings = tiny_config({"type": "caption"} | (keys or files), {"hidden_size": 8, "dropout": 0.0} | policy)
    env = make_vector_env(settings.task)
    engine = PlainEngine(settings, env.task, env.rollout)
    ids = env.task.instances("validation").ids(0, 2)
    for row in sample_rows(env.task, engine, ids, 0):
        assert row.grid == grid and isinstance(row.drawing, Picture) and row.attention is not None
        np.testing.assert_allclose(row.attention.reshape(-1, *grid).sum(axis=(1, 2)), 1, rtol=1e-5)
    items = compared(env.task, engine, tmp_path)
    page = comparison_page(comparison(examples=items, regressions=[]))
    assert len(items) == 2
    assert page.count('class="veiled"') == sum("grid" in output for item in items for output in item["outputs"]) == 4
    assert page.count("<use ") == sum(len(output["output_labels"]) for item in items for output in item["outputs"])


def compared(task: SequenceTask, engine: PlainEngine, place: Path) -> list[dict[str, Any]]:
    """Examples of two arms of one policy, one of which emits references, the other one single words."""
    ids = task.instances("validation").ids(0, 2)
    right, lengths = task.references(ids)
    word = np.zeros_like(right)
    word[:, 0] = right[:, 0]
    arms = []
    for role, sequences, ends in (("mle", word, np.full(2, 2)), ("reward", right, lengths)):
        outputs = Outputs(ids, sequences, ends, task.reward(sequences, ends, ids).total, {})
        evaluation = Evaluation(role, place / role, "validation", DecodingOptions("greedy"), {}, {}, outputs)
        arms.append(Arm(ArmSpec(role), role, [Judged(evaluation, 0, 0, [], {})]))  # type: ignore[arg-type]
    policy = engine.trainee.policy.eval()
    loaded = LoadedPolicy(policy, task, engine.config, {}, place, torch.device("cpu"))
    return examples(task, arms, lambda checkpoint: loaded)["examples"]


@pytest.mark.parametrize(
    ("axes", "columns", "grid"),
    [
        ((7, 10, 3), 70, (7, 10)),
        ((7, 10, 3), 20, (4, 5)),
        ((7, 10, 3), 6, (2, 3)),
        ((7, 10, 3), 12, (3, 4)),
        ((7, 10, 3), 13, None),
        ((7, 7, 128), 49, (7, 7)),
        ((32, 32, 3), 1, None),
        ((1280,), 1, None),
    ],
)
def test_cells_of_a_grid_are_squares_of_the_picture(
    axes: tuple[int, ...], columns: int, grid: tuple[int, int] | None
) -> None:
    task = ReverseTask()
    task.sources = {"picture": Space(axes)}
    assert grid_of(task, columns) == grid
