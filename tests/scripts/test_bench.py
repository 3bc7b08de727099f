"""The benchmark program: what it reports, and that competitors do the same work. No timing is asserted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

import bench
from bench_rows import decode, framework, machine, measure, peers, update
from bench_rows.machine import DEFAULT, PACKED, Machine
from bench_rows.measure import BENCHMARKS, Benchmark, Figures, Goal, SkipRow
from bench_rows.naive import NaivePointer, NaiveTranslator, greedy
from bench_rows.policies import decode_batch, zipf_biases
from bench_rows.task import IdTask
from rlseq.objectives.losses import negative_log_likelihood
from rlseq.training.rollout import RolloutRequest
from tests.support import attention_policy, only, pointer_policy, sources

ROOT = Path(__file__).resolve().parents[2]
PLAIN: dict[str, Any] = {"match": "bilinear", "feed_context": False, "tie_embeddings": False}
COLUMNS = {"name", "ours", "other", "ratio", "goal", "ok"}
LENGTHS = [3, 7, 1, 5]


def skipping(quick: bool) -> Figures:
    raise SkipRow("not here")


def fixed(ratio: float, note: str = "") -> Callable[[bool], Figures]:
    return lambda quick: Figures(1.0, ratio, ratio, note)


TWICE = Goal(2.0)
SLOW_DEFAULT, FAST_DEFAULT = Machine({DEFAULT: 10.0, PACKED: 20.0}), Machine({DEFAULT: 10.0, PACKED: 11.0})


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts other rows in place of the real ones, and another machine."""

    def replace(here: Machine = SLOW_DEFAULT, goal: Goal = TWICE, **fakes: Callable[[bool], Figures]) -> None:
        monkeypatch.setattr(bench, "BENCHMARKS", {name: Benchmark(name, goal, fake) for name, fake in fakes.items()})
        monkeypatch.setattr(machine, "look", lambda turns: here)

    return replace


# ----------------------------------------------------------------------------------------------------- what is reported
def test_rows_have_exactly_the_documented_keys() -> None:
    measured = Benchmark("a", Goal(2.0), fixed(3.0)).run(quick=True).to_dict()
    assert measured == {"name": "a", "ours": 1.0, "other": 3.0, "ratio": 3.0, "goal": 2.0, "ok": True}
    assert set(Benchmark("a", Goal(2.0), fixed(3.0, "GFLOP/s")).run(quick=True).to_dict()) == COLUMNS | {"note"}
    skipped = Benchmark("a", Goal(2.0), skipping).run(quick=True).to_dict()
    assert set(skipped) == COLUMNS | {"skipped"} and skipped["skipped"] == "not here" and skipped["ratio"] is None


@pytest.mark.parametrize("smaller", [False, True])
def test_a_skipped_row_is_never_ok(smaller: bool) -> None:
    assert Benchmark("a", Goal(2.0, smaller), skipping).run(quick=True).ok is False


def test_goals_are_bounds_that_may_be_touched() -> None:
    assert Goal(2.0).met(2.0) and not Goal(2.0).met(1.99)
    assert Goal(2.0, smaller_is_better=True).met(2.0) and not Goal(2.0, smaller_is_better=True).met(2.01)


def test_a_missed_goal_ends_in_exit_code_1(rows: Callable[..., None]) -> None:
    rows(good=fixed(3.0), bad=fixed(1.0))
    assert bench.main([]) == 1
    assert bench.main(["--only", "good"]) == 0


def test_skipped_rows_are_named_with_their_reason(
    rows: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    rows(good=fixed(3.0), absent=skipping)
    assert bench.main([]) == 0
    out = capsys.readouterr().out
    assert "skipped: not here" in out and out.splitlines()[-1] == "1 met, 0 missed, 0 uncounted, 1 skipped"


def test_rows_beside_a_fast_default_do_not_count(rows: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    goal = Goal(2.0, beside_default=True)
    rows(goal=goal, bad=fixed(1.0))
    assert bench.main([]) == 1 and "the default is slow here" in capsys.readouterr().out
    rows(FAST_DEFAULT, goal, bad=fixed(1.0))
    assert bench.main([]) == 0
    out = capsys.readouterr().out
    assert "the default is fast here" in out and "no, does not count here" in out
    rows(FAST_DEFAULT, bad=fixed(1.0))
    assert bench.main([]) == 1


def test_the_products_of_the_two_libraries_are_one() -> None:
    results = [product(0) for product in machine.products().values()]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-4)


def test_an_unknown_row_ends_in_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["--only", "no_such_row"])
    assert ended.value.code == 2 and "no_such_row" in capsys.readouterr().err


def test_the_file_holds_the_rows_and_the_machine(rows: Callable[..., None], tmp_path: Path) -> None:
    rows(good=fixed(3.0), absent=skipping)
    bench.main(["--quick", "--json", str(tmp_path / "rows.json")])
    written: dict[str, Any] = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["good", "absent"] and written["quick"] is True
    environment = written["environment"]
    assert environment["host"]["processor"] and environment["versions"]["torch"] == torch.__version__
    assert environment["threads"] == 1 and "commit" in environment
    assert written["machine"] == {"gflops": SLOW_DEFAULT.rates, "default_is_fast": False}


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="two rows are called 'framework_overhead'"):
        measure.register("framework_overhead", skipping, Goal(1.0))


def test_the_page_explains_every_row_with_its_goal() -> None:
    page = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    lines = [[cell.strip(" `") for cell in line.split("|")] for line in page.splitlines()]
    table = {cells[1]: cells[3] for cells in lines if len(cells) == 5}
    assert {name: table.get(name) for name in BENCHMARKS} == {name: str(row.goal) for name, row in BENCHMARKS.items()}


# --------------------------------------------------------------------------------------------------------------- timing
def test_competitors_take_turns_and_the_fastest_turn_counts() -> None:
    calls: list[tuple[str, int]] = []
    now, durations = [0.0], {"a": [5.0, 2.0, 4.0], "b": [1.0, 3.0, 2.0]}

    def competitor(name: str) -> Callable[[int], None]:
        def run(turn: int) -> None:
            calls.append((name, turn))
            now[0] += durations[name][turn]

        return run

    assert measure.interleaved([competitor("a"), competitor("b")], 3, lambda: now[0]) == [2.0, 1.0]
    assert calls == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]


def test_flops_of_a_small_decoding_counted_by_hand() -> None:
    # Multiply–adds: encoder 2 × (2 + 1) × 4, keys 4, bridge 8, gates 16 + 16, combine 8, attention 4, output 6.
    sizes = {"size": 2, "vocabulary_size": 3, "source": 1}
    one = decode.decode_flops(**sizes, tokens=1, inputs=1)
    assert one == 2 * (24 + 4 + 8 + 16 + 16 + 8 + 4 + 6)
    assert decode.decode_flops(**sizes, tokens=2, inputs=1.5) - one == 2 * (8 + 16 + 8 + 4 + 6)


def test_different_inputs_of_each_step() -> None:
    assert decode.different_inputs(torch.tensor([[5, 7, 1], [5, 6, 2], [4, 7, 3]])) == 1 + 2 + 2
    assert decode.different_inputs(torch.arange(20).view(10, 2)) == 1 + 10
    assert decode.different_inputs(torch.arange(20).clamp(max=17).view(10, 2)) == 1 + 10  # 9 of 10 differ: not shared


# ---------------------------------------------------------------------------------------------------------------- peers
@pytest.mark.parametrize(
    ("row", "package"),
    [
        ("greedy_vs_opennmt", "onmt"),
        ("sampling_vs_opennmt", "onmt"),
        ("greedy_vs_joeynmt", "joeynmt"),
        ("sampling_vs_hf_generate", "transformers"),
        ("hull_valid_vs_scipy", "scipy"),
    ],
)
def test_a_peer_that_is_not_installed_is_skipped(monkeypatch: pytest.MonkeyPatch, row: str, package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    found = BENCHMARKS[row].run(quick=True)
    assert found.skipped.startswith(f"{package}: ") and "'bench'" in found.skipped and not found.ok


def test_a_peer_that_fails_with_these_versions_is_skipped() -> None:
    def broken(source: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        raise TypeError("unexpected keyword")

    with pytest.raises(SkipRow, match="TypeError: unexpected keyword"):
        decode._against(broken, True, samples=0, greedy=True)


def test_a_peer_that_decodes_another_number_of_tokens_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_ours", lambda **_: lambda turn: torch.zeros(decode.BATCH, 1, decode.TOKENS))
    peer: peers.Decode = lambda source, lengths: torch.zeros(decode.BATCH, decode.TOKENS - 1)  # noqa: E731
    with pytest.raises(RuntimeError, match="the competitors decode"):
        decode._against(peer, True, samples=0, greedy=True)


def test_scaling_is_skipped_where_cores_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framework, "_idle_seconds", lambda: 0.0)
    found = BENCHMARKS["scaling"].run(quick=True)
    assert "needs 2 idle cores and finds 0.0" in found.skipped and not found.ok


# ------------------------------------------------------------------------------------------- competitors do the same
@pytest.mark.parametrize("seed", range(3))
def test_the_tutorial_translator_decodes_our_greedy_tokens(seed: int) -> None:
    policy = attention_policy(seed=seed, **PLAIN)
    source = sources(policy, LENGTHS, seed)
    limits = torch.tensor([9, 4, 12, 6])
    tokens, ends = NaiveTranslator(policy).decode(source.fields["text"].values, only(source)[1], limits, greedy)
    ours = decode_batch(policy, source, limits, turn=0, samples=0, greedy=True)
    assert torch.equal(ours.sequences[:, 0], tokens) and torch.equal(ours.lengths[:, 0], ends)


@pytest.mark.parametrize("seed", range(3))
def test_the_plain_pointer_network_decodes_our_greedy_tokens(seed: int) -> None:
    policy = pointer_policy(seed=seed)
    source = sources(policy, LENGTHS, seed)
    limits = torch.tensor([9, 4, 12, 6])
    tokens, ends = NaivePointer(policy).decode(source.fields["points"].values, only(source)[1], limits, greedy)
    ours = decode_batch(policy, source, limits, turn=0, samples=0, greedy=True)
    assert torch.equal(ours.sequences[:, 0], tokens) and torch.equal(ours.lengths[:, 0], ends)


def test_what_the_plain_networks_do_not_do_is_refused() -> None:
    with pytest.raises(ValueError, match="no feeding"):
        NaiveTranslator(attention_policy(**PLAIN | {"feed_context": True}))
    with pytest.raises(ValueError, match="masked revisits"):
        NaivePointer(pointer_policy(mask_revisits=True))


@pytest.fixture
def ours() -> update.Ours:
    return update.Ours(8, "rl", vocabulary_size=20, batch=6)


def test_both_sides_of_an_update_start_from_the_same_greedy_tokens(ours: update.Ours) -> None:
    tutorial = update.Tutorial(ours)
    update.check_greedy(ours, tutorial)
    with torch.no_grad():
        tutorial.model.output.bias[5] += 100
    with pytest.raises(RuntimeError, match="greedy output"):
        update.check_greedy(ours, tutorial)


def test_both_sides_compute_the_same_rewards(ours: update.Ours) -> None:
    drawn = ours.engine.rollout(ours.ids, RolloutRequest(1, False, 0), averaged=False)
    _, _, references, reference_lengths = update.Tutorial(ours).batch()
    texts = update._texts(torch.from_numpy(drawn.sequences[:, 0]), torch.from_numpy(drawn.lengths[:, 0]))
    scores = update.Tutorial(ours)._score(texts, update._texts(references, reference_lengths))
    np.testing.assert_allclose(drawn.rewards[:, 0], scores.numpy(), rtol=1e-6)
    assert drawn.rewards.any()


@pytest.mark.parametrize("phase", ["mle", "rl"])
def test_both_sides_are_held_to_the_same_loss(phase: Literal["mle", "rl"]) -> None:
    ours = update.Ours(8, phase, vocabulary_size=20, batch=6)
    tutorial = update.checked_tutorial(ours)
    with torch.no_grad():
        tutorial.model.output.bias[5] += 1.0
    with pytest.raises(RuntimeError, match="the tutorial's loss is"):
        update.check_loss(ours, tutorial)


def test_every_sequence_of_the_task_ends_where_its_reference_does(ours: update.Ours) -> None:
    drawn = ours.engine.rollout(ours.ids, RolloutRequest(2, True, 0), averaged=False)
    lengths = ours.task.references(ours.ids)[1]
    assert (drawn.lengths == lengths[:, None]).all() and drawn.truncated.all()


def test_the_task_is_what_the_rows_need() -> None:
    task = IdTask(8000)
    ids = task.instances("train").ids(0, 2000)
    source, lengths = only(task.source(ids))
    references, reference_lengths = task.references(ids)
    assert 15.5 < lengths.mean() < 16.5 and lengths.min() >= 4 and lengths.max() <= task.choices.longest
    np.testing.assert_array_equal(lengths, reference_lengths)
    real = np.arange(source.shape[1]) < lengths[:, None]
    assert (source[real] > 0).all() and (source < 8000).all() and (source[real] != references[real]).any()
    alone = task.references(ids[7:8])[0][0]
    np.testing.assert_array_equal(alone, references[7, : len(alone)])  # whatever the batch


def test_biases_give_the_distribution_and_never_end() -> None:
    distribution = IdTask(50).token_distribution()
    logits = torch.from_numpy(zipf_biases(distribution))
    np.testing.assert_allclose(logits.softmax(0).numpy(), distribution, atol=1e-6)
    nll = negative_log_likelihood(logits[None], torch.tensor([0]))
    assert nll.item() > 1000
