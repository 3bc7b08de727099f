"""Accuracy after the reference's tokens against accuracy after the policy's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.evaluate import evaluate
from rlseq.evaluation.exposure import ExposureBias, exposure_bias
from rlseq.evaluation.loading import LoadedPolicy, load_policy


@pytest.fixture(scope="module", params=["hull", "text"])
def loaded(request: pytest.FixtureRequest) -> LoadedPolicy:
    """Half trained: it makes errors, and not everywhere."""
    run: Path = request.getfixturevalue(f"{request.param}_run")
    return load_policy(run / "checkpoints" / "mle")


def test_it_is_what_single_steps_and_the_greedy_output_give(loaded: LoadedPolicy) -> None:
    measured = exposure_bias(loaded)
    outputs, task, policy = evaluate(loaded).outputs, loaded.task, loaded.policy
    references, lengths = task.references(outputs.ids)
    np.testing.assert_array_equal(measured.lengths, lengths)
    for row in range(0, len(lengths), 7):
        source = task.source(outputs.ids[row : row + 1]).map(torch.from_numpy)
        with torch.no_grad():
            memory = policy.encode(source)
            state, token = policy.initial_state(memory), torch.zeros(1, dtype=torch.int64)
            for position in range(lengths[row]):
                logits, state, _ = policy.step(token, position, state, memory)
                expected = references[row, position]
                assert measured.forced[row, position] == (int(logits.argmax()) == expected)
                right = position < outputs.lengths[row] and outputs.sequences[row, position] == expected
                assert measured.free[row, position] == right
                token = torch.tensor([expected])
        assert not measured.forced[row, lengths[row] :].any() and not measured.free[row, lengths[row] :].any()


def test_the_two_agree_up_to_the_first_error(loaded: LoadedPolicy) -> None:
    measured = exposure_bias(loaded)
    before = np.cumprod(np.pad(measured.forced, ((0, 0), (1, 0)), constant_values=True), axis=1)[:, :-1].astype(bool)
    np.testing.assert_array_equal(measured.forced[before], measured.free[before])
    result = measured.to_json()
    assert result["positions"][0]["teacher_forced"] == result["positions"][0]["free_running"]
    assert 0 < result["free_running"] <= result["teacher_forced"] < 100


def test_by_hand() -> None:
    forced = np.array([[True, True, True], [True, False, False]])
    free = np.array([[True, False, True], [True, False, False]])
    result = ExposureBias(forced, free, np.array([3, 2])).to_json()
    assert (result["teacher_forced"], result["free_running"], result["difference"]) == (80.0, 60.0, 20.0)
    assert result["positions"] == [
        {"position": 1, "references": 2, "teacher_forced": 100.0, "free_running": 100.0},
        {"position": 2, "references": 2, "teacher_forced": 50.0, "free_running": 0.0},
        {"position": 3, "references": 1, "teacher_forced": 100.0, "free_running": 100.0},
    ]


def test_the_first_instances_alone(loaded: LoadedPolicy) -> None:
    some, whole = exposure_bias(loaded, max_instances=20), exposure_bias(loaded)
    np.testing.assert_array_equal(some.free, whole.free[:20, : some.free.shape[1]])
    with pytest.raises(EvaluationError, match="give 1 or more"):
        exposure_bias(loaded, max_instances=0)
