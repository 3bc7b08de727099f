"""Loading and scoring checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch

from rlseq.data.tasks import make_vector_env
from rlseq.evaluation.compare import compare_checkpoints
from rlseq.evaluation.decoding import Output, generate_outputs
from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.evaluate import evaluate, evaluate_checkpoint
from rlseq.evaluation.loading import LoadedPolicy, load_policy
from rlseq.evaluation.options import DecodingOptions
from rlseq.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from rlseq.training.rollout import Rollout, RolloutRequest, rollout, shards
from rlseq_envs.tasks.convex_hull import ConvexHullTask


@pytest.fixture(scope="module")
def hull(hull_run: Path) -> LoadedPolicy:
    return load_policy(hull_run)


@pytest.fixture(scope="module")
def text(text_run: Path) -> LoadedPolicy:
    return load_policy(text_run)


def generate(loaded: LoadedPolicy, lines: list[str], decoding: DecodingOptions, n_best: int = 1) -> list[list[Output]]:
    """Outputs for sources that are written as lines."""
    return generate_outputs(loaded, loaded.task.parse_sources(lines), decoding, n_best)


def test_a_run_stands_for_its_best_rl_checkpoint(hull_run: Path, hull: LoadedPolicy) -> None:
    assert hull.checkpoint == (hull_run / "checkpoints" / "rl" / "80").resolve()
    assert hull.name == "hull-1/rl-80"
    assert not hull.policy.training
    weights = load_checkpoint(hull.checkpoint).weights
    for name, value in hull.policy.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), weights[name])


def test_metrics_are_those_of_a_rollout(hull: LoadedPolicy) -> None:
    found = evaluate(hull)
    env = make_vector_env(hull.config.task)
    ids = env.task.instances("test").ids()
    parts = rollout(hull.policy, env.task, env.rollout, shards(ids, 64), RolloutRequest(0, True, 0), seed=0)
    expected = Rollout.concatenate(parts)
    np.testing.assert_array_equal(found.outputs.lengths, expected.lengths[:, 0])
    assert found.metrics["reward"] == pytest.approx(expected.rewards.mean())
    assert found.metrics["accuracy"] == pytest.approx(100 * expected.components["valid"].mean())
    assert found.metrics["edge_f1"] == pytest.approx(expected.components["edge_f1"].mean())
    assert found.metrics["truncated"] == pytest.approx(expected.truncated.mean())
    assert found.metrics["length"] == pytest.approx(expected.lengths.mean())
    assert found.metrics["accuracy"] > 0  # the policy has learnt something, so the tests compare something


def test_json_is_json_and_a_failed_metric_is_null(hull: LoadedPolicy) -> None:
    found = evaluate(hull, max_instances=30)
    assert math.isnan(found.metrics["area"])
    result = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert result["metrics"]["area"] is None
    assert result["instances"] == 30 and result["split"] == "test" and result["decoding"] == {"method": "greedy"}
    assert result["signatures"] == {"task": hull.task.signature}


def test_text_metrics_are_sacrebleus_with_their_signatures(text: LoadedPolicy) -> None:
    found = evaluate(text)
    pairs = text.task.text_pairs(found.outputs.sequences, found.outputs.lengths, found.outputs.ids)
    assert pairs is not None and len(pairs.hypotheses) == 40
    assert found.metrics["BLEU"] == sacrebleu.corpus_bleu(pairs.hypotheses, pairs.references, force=True).score
    assert found.metrics["BLEU"] > 0
    assert found.signatures["BLEU"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert set(found.signatures) == {"task", "BLEU", "chrF", "TER"}


def test_the_corpus_is_not_needed_for_loading(text_run: Path, text: LoadedPolicy, tmp_path: Path) -> None:
    """A checkpoint taken elsewhere brings its vocabulary along."""
    moved = tmp_path / "moved"
    checkpoint = load_checkpoint(text.checkpoint, resume=True)
    assert checkpoint.state is not None
    gone = {f"{split}_{side}": "/gone/file" for split in ("train", "validation") for side in ("source", "target")}
    meta = json.loads(json.dumps(checkpoint.meta))
    meta["config"]["task"] |= gone

    def copy(directory: Path) -> None:
        for file in checkpoint.artifacts.iterdir():
            (directory / file.name).write_bytes(file.read_bytes())

    save_checkpoint(moved, tensors=checkpoint.state, meta=meta, artifacts=copy)
    lines = ["a red boat ."]
    assert generate(load_policy(moved), lines, DecodingOptions()) == generate(text, lines, DecodingOptions())


def resave(loaded: LoadedPolicy, place: Path, **changes: Any) -> Path:
    checkpoint = load_checkpoint(loaded.checkpoint, resume=True)
    assert checkpoint.state is not None
    save_checkpoint(place, tensors=checkpoint.state, meta=checkpoint.meta | changes, artifacts=lambda _: None)
    return place


def test_another_reward_than_it_was_trained_with_is_refused(hull: LoadedPolicy, tmp_path: Path) -> None:
    path = resave(hull, tmp_path / "1", signature=hull.task.signature.replace("version:1", "version:0"))
    with pytest.raises(EvaluationError, match=r"(?s)  - version:0\n  \+ version:1\n"):
        load_policy(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        evaluate_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(("split", "limit", "message"), [("train", None, "endless"), ("test", 0, "max_instances is 0")])
def test_a_split_that_cannot_be_decoded_is_refused(hull: LoadedPolicy, split: Any, limit: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluate(hull, split=split, max_instances=limit)


def test_options_are_checked_all_at_once() -> None:
    with pytest.raises(EvaluationError, match=r"method is 'best'.*beam_size is 0.*temperature is 0"):
        DecodingOptions("best", beam_size=0, temperature=0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"length_norm": "mean"}, "length_norm is 'mean': give power or gnmt"),
        ({"length_penalty": -1.0}, "length_penalty is -1.0: give 0 or more"),
        ({"coverage_penalty": -0.1}, "coverage_penalty is -0.1: give 0 or more"),
        ({"coverage_penalty": float("nan")}, "coverage_penalty is nan: give 0 or more"),
        ({"beam_size": 4, "groups": 3}, "groups is 3: give a divisor of the beam's size, 4"),
        ({"groups": 0}, "groups is 0: give 1 or more"),
        ({"diversity": 0.0}, "diversity is 0.0: give a number above 0"),
        ({"temperature": float("inf")}, "temperature is inf: give 1e-06 or more"),
        ({"top_k": 0}, "top_k is 0: give 1 or more"),
        ({"top_p": 0.0}, "top_p is 0.0: give a number above 0, at most 1"),
        ({"top_p": 1.01}, "top_p is 1.01: give a number above 0, at most 1"),
        ({"min_length": 0}, "min_length is 0: give 1 or more"),
        ({"max_length": 0}, "max_length is 0: give 1 or more"),
        ({"min_length": 5, "max_length": 4}, "min_length is 5: give at most the maximum length, 4"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_what_would_be_right(values: Any, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        DecodingOptions(**values)
    assert str(caught.value).startswith(f"decoding: {message}")


# -------------------------------------------------------------------------------------------------- ways of decoding
def test_a_beam_of_one_is_greedy(text: LoadedPolicy) -> None:
    greedy, beam = evaluate(text), evaluate(text, decoding=DecodingOptions("beam", beam_size=1))
    np.testing.assert_array_equal(greedy.outputs.lengths, beam.outputs.lengths)
    assert greedy.metrics == pytest.approx(beam.metrics)
    assert beam.to_json()["decoding"] == {"method": "beam", "beam_size": 1, "length_penalty": 1.0}


def test_samples_are_chosen_by_the_seed_alone(hull: LoadedPolicy) -> None:
    def sample(seed: int, instances: int) -> np.ndarray[Any, Any]:
        return evaluate(hull, decoding=DecodingOptions("sample", seed=seed), max_instances=instances).outputs.lengths

    np.testing.assert_array_equal(sample(0, 60), sample(0, 60))
    np.testing.assert_array_equal(sample(0, 20), sample(0, 60)[:20])
    assert (sample(0, 60) != sample(1, 60)).any()


def test_a_task_that_decodes_samples_is_drawn_from_unless_told_otherwise(
    hull_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConvexHullTask, "decodes_samples", True)
    loaded, lines = load_policy(hull_run), ["0.1 0.1 0.9 0.2 0.5 0.8 0.4 0.4"]
    for given, expected in (
        (None, DecodingOptions("sample")),
        (DecodingOptions(max_length=2), DecodingOptions("sample", max_length=2)),
        (DecodingOptions("greedy"), DecodingOptions("greedy")),
    ):
        ours, theirs = (evaluate(loaded, decoding=each, max_instances=40) for each in (given, expected))
        assert ours.to_json() == theirs.to_json() and ours.decoding == expected
        np.testing.assert_array_equal(ours.outputs.sequences, theirs.outputs.sequences)
    assert len(generate(loaded, lines, DecodingOptions(), n_best=3)[0]) == 3
    compared = compare_checkpoints([hull_run / "checkpoints" / phase for phase in ("mle", "rl")], max_instances=40)
    assert compared.to_json()["decoding"] == DecodingOptions("sample").to_dict()


def test_cold_samples_are_greedy(text: LoadedPolicy) -> None:
    lines = ["a red boat .", "a green house ."]
    cold = generate(text, lines, DecodingOptions("sample", temperature=1e-3))
    assert [row[0].text for row in cold] == [row[0].text for row in generate(text, lines, DecodingOptions("greedy"))]


def test_the_likeliest_token_alone_is_greedy(hull: LoadedPolicy) -> None:
    lines = ["0.1 0.1 0.9 0.2 0.5 0.8", "0.1 0.1 0.9 0.2 0.5 0.8 0.4 0.4"]
    greedy = [row[0].text for row in generate(hull, lines, DecodingOptions())]
    for options in ({"top_k": 1}, {"top_p": 1e-6}):
        drawn = generate(hull, lines, DecodingOptions("sample", **options), n_best=2)
        assert [[out.text for out in row] for row in drawn] == [[text] * 2 for text in greedy]
        assert all(out.score == 0.0 for row in drawn for out in row)


@pytest.mark.parametrize("method", ["greedy", "beam", "sample", "exhaustive"])
def test_every_method_keeps_the_bounds_of_length(hull: LoadedPolicy, method: Any) -> None:
    free = evaluate(hull, decoding=DecodingOptions(method), max_instances=40)
    assert free.metrics["length"] > 3 and "max_length" not in free.to_json()["decoding"]
    bound = evaluate(hull, decoding=DecodingOptions(method, min_length=2, max_length=2), max_instances=40)
    assert (bound.outputs.lengths == 2).all()
    told = bound.to_json()["decoding"]
    assert told["method"] == method and told["min_length"] == told["max_length"] == 2


def test_an_exhaustive_search_finds_nothing_worse_than_a_beam(hull: LoadedPolicy) -> None:
    lines = ["0.1 0.1 0.9 0.2 0.5 0.8", "0.1 0.1 0.9 0.2 0.5 0.8 0.4 0.4"]
    keys: Any = {"length_penalty": 0.0}
    best, wide = (generate(hull, lines, DecodingOptions(method, **keys)) for method in ("exhaustive", "beam"))
    assert all(ours[0].score >= theirs[0].score - 1e-5 for ours, theirs in zip(best, wide, strict=True))


def test_too_large_an_exhaustive_search_is_refused(text: LoadedPolicy) -> None:
    with pytest.raises(EvaluationError, match=r"more than 100,000 sequences .* give a smaller max_length, or"):
        evaluate(text, decoding=DecodingOptions("exhaustive"), max_instances=1)


def test_what_was_asked_for_is_told(hull: LoadedPolicy) -> None:
    beam: Any = {
        "beam_size": 4,
        "length_penalty": 0.6,
        "length_norm": "gnmt",
        "coverage_penalty": 0.2,
        "groups": 2,
    }
    found = evaluate(hull, decoding=DecodingOptions("beam", **beam), max_instances=3).to_json()["decoding"]
    assert found == {"method": "beam"} | beam | {"diversity": 0.5}
    drawn = DecodingOptions("sample", temperature=0.7, top_k=3, top_p=0.9, groups=5)
    assert drawn.to_dict() == {"method": "sample", "temperature": 0.7, "top_k": 3, "top_p": 0.9, "seed": 0}


def test_generated_outputs_are_those_of_the_split(text: LoadedPolicy) -> None:
    found = evaluate(text)
    pairs = text.task.text_pairs(found.outputs.sequences, found.outputs.lengths, found.outputs.ids)
    assert pairs is not None
    sources = [text.task.render(int(instance), np.zeros(1, np.int64)).source for instance in found.outputs.ids]
    outputs = generate(text, sources, DecodingOptions())
    assert [row[0].text for row in outputs] == pairs.hypotheses
    assert [row[0].tokens for row in outputs] == found.outputs.lengths.tolist()


def test_scores_are_log_probabilities(hull: LoadedPolicy) -> None:
    line = "0.1 0.1 0.9 0.2 0.5 0.8"
    (row,) = generate(hull, [line], DecodingOptions())
    source = hull.task.parse_sources([line]).map(torch.from_numpy)
    tokens = [int(index) for index in row[0].text.split()]
    targets = np.zeros((1, row[0].tokens), np.int64)
    named = tokens[:-1] if len(tokens) > 1 else tokens
    targets[0, : len(named)] = named
    with torch.no_grad():
        log_probs = hull.policy(source, torch.from_numpy(targets), torch.tensor([row[0].tokens]))
    expected = log_probs[0].gather(1, torch.from_numpy(targets[0])[:, None]).sum()
    assert row[0].score == pytest.approx(float(expected), abs=1e-4)


def test_n_best_is_ranked_and_distinct(hull: LoadedPolicy) -> None:
    lines = ["0.1 0.1 0.9 0.2 0.5 0.8", "0.1 0.1 0.9 0.2 0.5 0.8 0.4 0.4"]
    options = DecodingOptions("beam", beam_size=4, length_penalty=0.0)
    for row in generate(hull, lines, options, n_best=3):
        assert 1 <= len(row) <= 3
        assert [out.score for out in row] == sorted((out.score for out in row), reverse=True)
        assert len({(out.text, out.tokens) for out in row}) == len(row)
    assert [len(row) for row in generate(hull, lines, DecodingOptions("sample"), n_best=5)] == [5, 5]


def test_more_outputs_than_there_are_is_refused(hull: LoadedPolicy) -> None:
    with pytest.raises(EvaluationError, match="greedy decoding gives 1 … 1"):
        generate(hull, ["0.1 0.1 0.9 0.2 0.5 0.8"], DecodingOptions(), n_best=2)


def test_no_lines_give_no_outputs(text: LoadedPolicy) -> None:
    assert generate(text, [], DecodingOptions()) == []


def test_shards_change_nothing(hull: LoadedPolicy) -> None:
    config = hull.config.model_copy(update={"evaluation": hull.config.evaluation.model_copy(update={"batch_size": 7})})
    whole, cut = evaluate(hull, max_instances=50), evaluate(dataclasses.replace(hull, config=config), max_instances=50)
    np.testing.assert_array_equal(whole.outputs.lengths, cut.outputs.lengths)
    assert whole.metrics == pytest.approx(cut.metrics, nan_ok=True)
