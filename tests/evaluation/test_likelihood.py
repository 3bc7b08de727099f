"""How likely references are, against single steps, against all sequences there are, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rlseq.decoding.likelihood import Likelihood
from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.likelihood import likelihood
from rlseq.evaluation.loading import LoadedPolicy, load_policy
from rlseq_envs.task import Ints
from tests.support import stepped_log_probs


@pytest.fixture(scope="module", params=["hull", "text"])
def loaded(request: pytest.FixtureRequest) -> LoadedPolicy:
    run: Path = request.getfixturevalue(f"{request.param}_run")
    return load_policy(run / "checkpoints" / "mle")


def test_it_is_what_single_steps_give(loaded: LoadedPolicy) -> None:
    found = likelihood(loaded, split="validation", max_instances=15)
    ids = loaded.task.instances("validation").ids(0, 15)
    references, lengths = loaded.task.references(ids)
    np.testing.assert_array_equal(found.lengths, lengths)
    for row in range(0, 15, 5):
        source = loaded.task.source(ids[row : row + 1]).map(torch.from_numpy)
        tokens = torch.from_numpy(references[row : row + 1, : lengths[row]])
        with torch.no_grad():
            log_probs = stepped_log_probs(loaded.policy, loaded.policy.encode(source), tokens)
        expected = -float(log_probs.double().gather(2, tokens[:, :, None]).sum())
        assert math.isclose(found.nats[row], expected, rel_tol=1e-4)


def test_all_sequences_of_an_instance_have_probability_1(loaded: LoadedPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of up to 2 tokens, or cut off there."""
    choices = loaded.task.choices.size or int(loaded.task.sizes(np.array([_first(loaded)]))[0]) + 1
    every = [(0, 0)] + [(first, last) for first in range(1, choices) for last in range(choices)]
    lengths = np.array([1 if first == 0 else 2 for first, _ in every])
    parts = np.array_split(np.arange(len(every)), len(every) // 1000 + 1)
    total = 0.0
    for rows in parts:

        def references(ids: Ints, rows: Ints = rows) -> tuple[Ints, Ints]:
            return np.array(every)[rows], lengths[rows]

        source = loaded.task.source(np.full(len(rows), _first(loaded)))
        monkeypatch.setattr(loaded.task, "references", references)
        monkeypatch.setattr(loaded.task, "source", lambda ids, source=source: source)
        total += float(np.exp(-likelihood(loaded, max_instances=1).nats).sum())
        monkeypatch.undo()
    assert math.isclose(total, 1.0, abs_tol=1e-4)


def _first(loaded: LoadedPolicy) -> int:
    return int(loaded.task.instances("test").ids(0, 1)[0])


def test_means_by_hand() -> None:
    found = Likelihood(np.array([2.0, 4.0]), np.array([1, 3])).to_json()
    assert found["instances"] == 2 and found["tokens"] == 4
    assert found["nats_per_sequence"] == 3.0 and found["nats_per_token"] == 1.5
    assert math.isclose(found["perplexity"], math.exp(1.5))
    assert math.isclose(found["bits_per_dimension"], 1.5 / math.log(2))


def test_what_cannot_be_emitted_has_no_finite_mean() -> None:
    found = Likelihood(np.array([2.0, math.inf]), np.array([1, 3])).to_json()
    assert found["nats_per_sequence"] is None and found["perplexity"] is None


def test_the_first_instances_alone(loaded: LoadedPolicy) -> None:
    some, whole = likelihood(loaded, max_instances=10), likelihood(loaded)
    np.testing.assert_allclose(some.nats, whole.nats[:10], rtol=1e-5)
    with pytest.raises(EvaluationError, match="give 1 or more"):
        likelihood(loaded, max_instances=0)
