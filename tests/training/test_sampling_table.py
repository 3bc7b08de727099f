"""What a validation shows beside its metrics: instances that are still wrong, histograms of what was decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.decoding.encoding import encode_sources
from rlseq.training.plain import PlainEngine
from rlseq.training.rollout import Rollout, RolloutRequest
from rlseq.training.sampling_table import histograms, sample_rows, worst
from rlseq_envs.drawing import drawing_to_json
from rlseq_envs.source import Source
from tests.support import HULL, REVERSE, SMALL_ATTENTION, SMALL_POINTER, shaken, stepped_log_probs, tiny_config
from tests.training.scripted import trainer_of

SETTINGS = [tiny_config(HULL, SMALL_POINTER), tiny_config(REVERSE, SMALL_ATTENTION)]
PIXELS = tiny_config({"type": "pixels", "side": 6, "sizes": [60, 20, 20]}, SMALL_ATTENTION)


def engine(settings: Config) -> PlainEngine:
    env = make_vector_env(settings.task)
    made = PlainEngine(settings, env.task, env.rollout)
    shaken(made.trainee.policy)
    return made


def validated(made: PlainEngine, count: int = 12) -> Rollout:
    ids = made.task.instances("validation").ids(0, count)
    return made.rollout(ids, RolloutRequest(0, True, 0), averaged=True)


def scored(rewards: list[float]) -> Rollout:
    count = len(rewards)
    ids, zeros = 100 + np.arange(count), np.zeros((count, 1))
    lengths = np.ones((count, 1), np.int64)
    gained = np.array(rewards)[:, None]
    return Rollout(ids, Source(count, {}), lengths[:, :, None], lengths, zeros, gained, {}, zeros > 0, True)


@pytest.mark.parametrize(
    ("rewards", "shown"),
    [
        ([1.0, 0.0, 0.5, 0.0], [101, 103]),
        ([1.0, 1.0, 0.2, 1.0], [102, 100]),
        ([1.0, 1.0, 1.0], [100, 101]),
        ([0.0], [100]),
    ],
)
def test_the_worst_instances_are_shown_the_first_ones_among_equals(rewards: list[float], shown: list[int]) -> None:
    assert worst(scored(rewards), 2).tolist() == shown


@pytest.mark.parametrize("settings", SETTINGS, ids=["hull", "reverse"])
def test_histograms_are_of_the_greedy_outputs_under_the_policy(settings: Config) -> None:
    made = engine(settings)
    rolled = validated(made)
    found = histograms(rolled)
    policy = made.trainee.chosen(averaged=True)
    memory = encode_sources(policy, made.task.source(rolled.ids), "cpu")
    sequences = torch.from_numpy(rolled.sequences[:, 0])
    with torch.no_grad():
        log_probs = stepped_log_probs(policy.eval(), memory, sequences).gather(-1, sequences[:, :, None])[:, :, 0]
    lengths = rolled.lengths[:, 0]
    expected = [-log_probs[row, step] for row, length in enumerate(lengths) for step in range(length)]
    assert found["surprisal"] == pytest.approx(np.array(expected), abs=1e-5)
    assert found["surprisal"].min() >= 0 and found["surprisal"].max() > 0.1
    assert np.array_equal(found["length"], lengths) and np.array_equal(found["reward"], rolled.rewards[:, 0])


@pytest.mark.parametrize("settings", [*SETTINGS, PIXELS], ids=["hull", "reverse", "pixels"])
def test_what_is_drawn_is_what_is_validated(settings: Config) -> None:
    made = engine(settings)
    ids, samples = made.task.instances("validation").ids(0, 5), made.task.decodes_samples
    judged = made.rollout(ids, RolloutRequest(int(samples), not samples, 7), averaged=True)
    rows = sample_rows(made.task, made, ids, 7)
    assert [row.drawn_reward for row in rows] == judged.rewards[:, 0].tolist()
    for row, sequence, length in zip(rows, judged.sequences[:, 0], judged.lengths[:, 0], strict=True):
        expected = made.task.render(row.id, sequence[:length])
        assert row.output_labels == expected.output_labels
        drawings = [each and drawing_to_json(each) for each in (row.drawing, expected.drawing)]
        assert drawings[0] == drawings[1]


@pytest.mark.parametrize("settings", SETTINGS, ids=["hull", "reverse"])
def test_a_validation_reports_what_is_worst_in_it_and_its_histograms(settings: Config, tmp_path: Path) -> None:
    made = engine(settings)
    trainer, recorder = trainer_of(settings, made, tmp_path / "run", made.task)
    trainer.train()
    assert len(recorder.validations) > 3
    for event in recorder.validations:
        rewards = np.sort(event.histograms["reward"])
        shown = [row.greedy_reward for row in event.samples]
        assert shown == pytest.approx(list(rewards[: len(shown)])) and len(shown) == 2
        assert event.metrics["reward"] == pytest.approx(rewards.mean())
