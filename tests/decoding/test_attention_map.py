"""The columns of an attention map are a source's positions, or those of an encoder that has its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rlseq.data.tasks import make_task
from rlseq.decoding.attention_map import column_labels, without_padding
from rlseq.decoding.encoding import encode_sources
from rlseq.models.build import build_policy
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.source import source_sizes
from tests.support import SMALL_ATTENTION, SMALL_POINTER, tiny_config

HULLS: dict[str, Any] = {"type": "convex_hull", "min_points": 5, "max_points": 9, "validation_size": 8}
DATES: dict[str, Any] = {"type": "translation", "corpus": "cldr", "cldr_sizes": [60, 8, 8], "vocabulary_size": 100}


@pytest.mark.parametrize(
    ("task", "policy", "joined"),
    [
        (HULLS, SMALL_POINTER, 1),
        (DATES, SMALL_ATTENTION, 1),
        (DATES, SMALL_ATTENTION | {"encoder": {"type": "pyramidal", "halvings": 2}}, 4),
    ],
    ids=["points", "words", "words, joined by four"],
)
def test_columns_are_the_positions_that_are_there(task: dict[str, Any], policy: dict[str, Any], joined: int) -> None:
    config = tiny_config(task, policy)
    made = make_task(config.task)
    network, ids = build_policy(config.policy, TaskSpaces.of(made)).eval(), np.arange(8)
    source = made.source(ids)
    sizes = source_sizes(source)
    assert len(set(sizes)) > 1
    references = [made.references(ids[row : row + 1])[0][0] for row in range(8)]
    lengths = torch.tensor([len(tokens) for tokens in references])
    targets = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(np.asarray(tokens)) for tokens in references], True)
    with torch.no_grad():
        memory = encode_sources(network, source, torch.device("cpu"))
        attention = network.forced(memory, targets, lengths).attention.numpy()
    end = int(made.points_to is not None)
    for row, read in enumerate(without_padding(made, attention, sizes)):
        assert read.shape[1] == -(-sizes[row] // joined) + end
        np.testing.assert_allclose(read[: len(references[row])].sum(axis=1), 1.0, rtol=1e-5)
        drawn = made.render(row, references[row])
        labels = column_labels(made, drawn, read.shape[1])
        if joined == 1:
            assert labels == ("END",) * end + drawn.input_labels
        else:
            assert labels == tuple(str(column + 1) for column in range(read.shape[1]))
        assert column_labels(made, replace(drawn, input_labels=()), read.shape[1]) == ()
