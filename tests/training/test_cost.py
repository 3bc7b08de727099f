"""What updates use up is counted, saved, and carried into forks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlseq.config.rl import RLConfig
from rlseq.training.checkpoint import load_checkpoint
from rlseq.training.cost import Cost
from rlseq.training.run_directory import RunDirectory
from tests.support import tiny_config
from tests.training.test_resume import engine_of, trainer_in


@pytest.mark.parametrize(
    ("keys", "samples", "scored"),
    [
        ({"samples": 3, "baseline": "leave_one_out"}, 30, 30),
        ({"samples": 2, "baseline": "greedy"}, 20, 30),
        ({"objective": "self_training", "reward_source": "constant", "baseline": "none"}, 0, 10),
    ],
)
def test_an_update_of_ten_instances(keys: dict[str, Any], samples: int, scored: int) -> None:
    cost = Cost()
    cost.count_rollouts(RLConfig(updates=1, **keys), 10)
    assert (cost.samples, cost.reward_calls) == (samples, scored)


def test_older_checkpoints_tell_nothing_and_newer_ones_everything() -> None:
    assert Cost.from_dict({"phase": "rl"}) == Cost()
    cost = Cost({"mle": 1.5, "rl": 2.0}, 3, 4, 5.0)
    assert Cost.from_dict(cost.to_dict() | {"phase": "rl"}) == cost


def test_a_run_saves_what_it_used_up_and_a_fork_begins_with_it(tmp_path: Path) -> None:
    config = tiny_config(mle={"updates": 4}, rl={"updates": 2, "samples": 2, "baseline": "leave_one_out"})
    run = RunDirectory.create(config, path=tmp_path / "run")
    trainer_in(run, engine_of(config)).train()
    cost = Cost.from_dict(load_checkpoint(run.checkpoint("rl", "latest")).meta["trainer"])
    assert cost.cpu_seconds["mle"] > 0 and cost.cpu_seconds["rl"] > 0 and cost.peak_memory_mib > 10
    assert cost.samples == cost.reward_calls == 2 * 8 * 2
    start = load_checkpoint(run.checkpoint("mle", "latest"))
    other = RunDirectory.create(config, path=tmp_path / "other")
    trainer_in(other, engine_of(config)).fork(start, "rl")
    forked = Cost.from_dict(load_checkpoint(other.checkpoint("rl", "latest")).meta["trainer"])
    assert forked.cpu_seconds["mle"] == Cost.from_dict(start.meta["trainer"]).cpu_seconds["mle"]
    assert forked.samples == cost.samples
