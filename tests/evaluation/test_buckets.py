"""Groups of instances: partitions, rare words by counting."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlseq.evaluation import buckets
from rlseq.evaluation.arms import arms_of_checkpoints
from rlseq.evaluation.buckets import GROUPS, group_values, make_buckets
from rlseq.evaluation.compare import compare
from rlseq.evaluation.loading import load_policy


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.booleans())
def test_groups_are_a_partition_in_order_with_equal_values_together(values: list[int], whole: bool) -> None:
    array = np.array(values) if whole else np.array(values) / 4
    groups = group_values("x", array, GROUPS)
    assert sorted(np.concatenate(groups.rows).tolist()) == list(range(len(values)))
    assert 1 <= len(groups.rows) == len(groups.labels) <= GROUPS + 1
    ordered = [array[rows] for rows in groups.rows]
    assert all(len(part) for part in ordered)
    assert all(a.max() < b.min() for a, b in pairwise(ordered))


def test_labels_say_what_is_in_a_group() -> None:
    assert group_values("x", np.array([5, 6, 5]), 5).labels == ["5", "6"]
    assert group_values("x", np.arange(10), 5).labels == ["0-1", "2-3", "4-5", "6-7", "8-9"]
    assert group_values("x", np.array([0.0, 0.25, 1.0]), 2).labels == ["0.00", "0.25-1.00"]


def test_rare_words_are_those_that_training_hardly_has(text_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_policy(text_run).task
    ids, train = (task.instances(split).ids() for split in ("test", "train"))
    texts = [task.text_pairs(*task.references(part), part).references[0] for part in (ids, train)]
    counts = Counter(" ".join(texts[1]).split())
    assert make_buckets(task, ids, None)[1].labels == ["0.00"]  # no word is rare
    limit = sorted(counts.values())[3]
    monkeypatch.setattr(buckets, "RARE_BELOW", limit)
    expected = [np.mean([counts[word] < limit for word in text.split()]) for text in texts[0]]
    found = buckets.rare_words(task, ids)
    assert found is not None and found.tolist() == expected and 0 < max(expected) < 1
    assert [group.by for group in make_buckets(task, ids, found)] == ["source length", "rare words", "mle score"]


def test_buckets_hold_the_metric_of_their_instances(text_run: Path, hull_run: Path) -> None:
    for run, kinds in ((hull_run, ["points", "mle score"]), (text_run, ["source length", "rare words", "mle score"])):
        comparison = compare(
            arms_of_checkpoints([run / "checkpoints" / phase for phase in ("mle", "rl")]), resamples=10
        )
        result = comparison.to_json()
        assert [group["by"] for group in result["buckets"]] == kinds
        shown = {arm["name"]: arm["metrics"][result["primary"]] for arm in result["arms"]}
        for group in result["buckets"]:
            assert sum(row["instances"] for row in group["rows"]) == result["instances"]
            if result["primary"] == "accuracy":  # a mean; BLEU is none
                for name, value in shown.items():
                    parts = [row["instances"] * row["values"][name] for row in group["rows"]]
                    assert sum(parts) / result["instances"] == pytest.approx(value)
            if len(group["rows"]) == 1:
                assert group["rows"][0]["values"] == pytest.approx(shown)
