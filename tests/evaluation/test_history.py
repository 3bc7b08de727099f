"""What a run tells about its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlseq.evaluation.history import read_history


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """mle to update 20, its best at 10; rl to update 30, its best at 25."""
    run = tmp_path / "run"
    records: list[dict[str, Any]] = [
        {"update": update, "phase": phase, "eval/accuracy": value}
        for phase, points in (("mle", {0: None, 10: 50.0, 20: 40.0}), ("rl", {20: 50.0, 25: 60.0, 30: 55.0}))
        for update, value in points.items()
    ]
    for phase, update, best in (("mle", 10, True), ("mle", 20, False), ("rl", 25, True), ("rl", 30, False)):
        place = run / "checkpoints" / phase / str(update)
        place.mkdir(parents=True)
        seconds = {"mle": 4.0, "rl": 2.0 * (update - 20) if phase == "rl" else 0.0}
        trainer = {"cpu_seconds": seconds, "samples": 8 * update, "reward_calls": 9 * update, "peak_memory_mib": 100.5}
        (place / "meta.json").write_text(json.dumps({"phase": phase, "update": update, "trainer": trainer}))
        (place / "manifest.json").write_text("{}")
        if best:
            (place.parent / "best").symlink_to(str(update))
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return run


def read(checkpoint: Path) -> Any:
    return read_history(checkpoint, json.loads((checkpoint / "meta.json").read_text()), "accuracy")


def test_a_best_checkpoint_tells_how_it_was_selected_and_what_all_of_its_phase_cost(run: Path) -> None:
    mle, rl = read(run / "checkpoints" / "mle" / "10"), read(run / "checkpoints" / "rl" / "25")
    assert mle.selection == "best of 3 validations by accuracy on validation (update 10)"
    assert rl.selection == "best of 3 validations by accuracy on validation (update 25)"
    assert mle.cost["updates"] == 20 and mle.cost["cpu_seconds"] == 4.0
    assert rl.cost == {
        "updates": 30, "samples": 240, "cpu_seconds": 24.0, "reward_calls": 270, "peak_memory_mib": 100.5,
    }  # fmt: skip
    assert mle.curve == [{"update": 10, "value": 50.0}, {"update": 20, "value": 40.0}]
    assert [point["update"] for point in rl.curve] == [10, 20, 20, 25, 30]


def test_a_checkpoint_that_was_named_says_so(run: Path) -> None:
    assert read(run / "checkpoints" / "rl" / "30").selection == "given (update 30)"


def test_what_was_not_noted_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("copied")  # out of its run, so there is no directory of a run above it
    place.mkdir()
    (place / "meta.json").write_text(json.dumps({"phase": "rl", "update": 5}))
    found = read(place)
    assert found.cost == {
        "updates": 5, "samples": None, "cpu_seconds": None, "reward_calls": None, "peak_memory_mib": None,
    }  # fmt: skip
    assert found.selection == "given (update 5)" and found.curve == []
