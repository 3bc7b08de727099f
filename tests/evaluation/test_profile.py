"""What changed in policies and outputs: figures against plain loops."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from rlseq.evaluation.evaluate import evaluate
from rlseq.evaluation.loading import load_policy
from rlseq.evaluation.options import DecodingOptions
from rlseq.evaluation.profile import output_profile, policy_profile
from rlseq_envs.task import TextPairs


@pytest.mark.parametrize("run", ["hull_run", "text_run"])
def test_distributions_are_looked_at_step_by_step(run: str, request: pytest.FixtureRequest) -> None:
    loaded = load_policy(request.getfixturevalue(run))
    found = evaluate(loaded, max_instances=30)
    ids = found.outputs.ids
    columns = {"output": (found.outputs.sequences, found.outputs.lengths), "reference": loaded.task.references(ids)}
    source = loaded.task.source(ids).map(torch.from_numpy)
    entropies, masses, ranks = [], [], []
    for name, (targets, lengths) in columns.items():
        with torch.no_grad():
            log_probs = loaded.policy(source, torch.from_numpy(targets), torch.from_numpy(lengths)).double()
        for row, length in enumerate(lengths.tolist()):
            for time in range(length):
                distribution = log_probs[row, time].exp().numpy()
                if name == "output":
                    entropies.append(-sum(p * np.log(p) for p in distribution if p > 0))
                    masses.append(distribution.max())
                else:
                    ranks.append(1 + (distribution > distribution[targets[row, time]]).sum())
    expected = {"entropy": np.mean(entropies), "top1_mass": np.mean(masses), "reference_rank": np.mean(ranks)}
    assert policy_profile(loaded, found) == pytest.approx(expected, rel=1e-4)
    # However outputs were found, the path that is looked along is the greedy one.
    beam = dataclasses.replace(found, decoding=DecodingOptions(method="beam", beam_size=3))
    assert policy_profile(loaded, beam) == pytest.approx(expected, rel=1e-4)


def test_outputs_of_text_are_counted_in_words(text_run: Path) -> None:
    loaded = load_policy(text_run)
    found = evaluate(loaded, max_instances=3)
    texts = TextPairs(["a b a b", "c", ""], [["a b", "c d", "e"], ["", "", ""]])
    assert output_profile(loaded.task, found, texts) == {
        "length_ratio": 5 / 5,
        "truncated": found.metrics["truncated"],
        "distinct_1": 3 / 5,
        "distinct_2": 2 / 3,  # a b, b a, a b
        "repetition": 1 / 3,
    }


def test_tokens_that_name_positions_are_not_compared_across_instances(hull_run: Path) -> None:
    loaded = load_policy(hull_run)
    found = evaluate(loaded, max_instances=30)
    profile = output_profile(loaded.task, found, None)
    references = loaded.task.references(found.outputs.ids)[1]
    ended = 1 - found.outputs.values["truncated"]
    assert profile["length_ratio"] == pytest.approx((found.outputs.lengths - ended).sum() / (references - 1).sum())
    assert profile["distinct_1"] is None and profile["distinct_2"] is None
