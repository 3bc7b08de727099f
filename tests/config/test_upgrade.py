"""Configurations of earlier versions mean what they meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rlseq.config.baselines import (
    BaselineConfig,
    CriticConfig,
    GreedyConfig,
    LeaveOneOutConfig,
    NoBaselineConfig,
    RunningMeanConfig,
)
from rlseq.config.errors import ConfigError
from rlseq.config.load import load_config, parse_config, read_config
from rlseq.config.objectives import (
    MixerConfig,
    MRTConfig,
    ObjectiveConfig,
    PPOConfig,
    ReinforceConfig,
    SelfTrainingConfig,
)
from rlseq.config.upgrade import upgrade

REST = {"name": "old", "task": {"type": "convex_hull"}, "policy": {"type": "pointer"}, "mle": {"updates": 2}}
# What a run directory's config.yaml had of these keys: every section, whatever was used.
DUMPED: dict[str, Any] = {
    "updates": 1,
    "objective": "reinforce",
    "mixer": {"step": 2, "every": 500},
    "mrt": {"alpha": 0.005, "reference": True},
    "ppo": {"epochs": 4, "minibatches": 1, "clip": 0.2, "clip_high": None, "ratio": "token"},
    "baseline": "greedy",
    "critic": {"hidden_size": 64, "weight": 0.5, "shaped": False, "gae_lambda": 1.0},
    "baseline_decay": 0.95,
    "importance_cap": 2.0,
    "samples": 2,
    "normalize_advantage": "none",
}
OLD: dict[str, tuple[dict[str, Any], ObjectiveConfig, BaselineConfig]] = {
    "reinforce": ({}, ReinforceConfig(), GreedyConfig()),
    "reinforce, weighted": ({"importance_cap": 3.0}, ReinforceConfig(importance_cap=3.0), GreedyConfig()),
    "loo": ({"baseline": "leave_one_out", "normalize_advantage": True}, ReinforceConfig(), LeaveOneOutConfig()),
    "running_mean": (
        {"baseline": "running_mean", "baseline_decay": 0.5, "normalize_advantage": False},
        ReinforceConfig(),
        RunningMeanConfig(decay=0.5),
    ),
    "critic": (
        {"baseline": "critic", "critic": {"hidden_size": 8, "weight": 0.1, "shaped": True, "gae_lambda": 0.9}},
        ReinforceConfig(),
        CriticConfig(hidden_size=8, weight=0.1, shaped=True, gae_lambda=0.9),
    ),
    "mixer": ({"objective": "mixer", "mixer": {"step": 3, "every": 7}}, MixerConfig(step=3, every=7), GreedyConfig()),
    "mrt": (
        {"objective": "mrt", "baseline": "none", "mrt": {"alpha": 0.5, "reference": False}},
        MRTConfig(alpha=0.5, reference=False),
        NoBaselineConfig(),
    ),
    "ppo": (
        {
            "objective": "ppo",
            "ppo": {"epochs": 2, "minibatches": 3, "clip": 0.1, "clip_high": 0.3, "ratio": "sequence"},
        },
        PPOConfig(epochs=2, minibatches=3, clip=0.1, clip_high=0.3, ratio="sequence"),
        GreedyConfig(),
    ),
    "ppo and critic, in part": (
        {"objective": "ppo", "ppo": {"clip": 0.1}, "baseline": "critic", "critic": {"shaped": True}},
        PPOConfig(clip=0.1),
        CriticConfig(shaped=True),
    ),
    "self_training": (
        {"objective": "self_training", "baseline": "none", "samples": 1, "reward_source": "constant"},
        SelfTrainingConfig(),
        NoBaselineConfig(),
    ),
}


@pytest.mark.parametrize("written", ["dumped", "by hand"])
@pytest.mark.parametrize("name", OLD)
def test_an_old_configuration_is_read_from_files_and_checkpoints(tmp_path: Path, name: str, written: str) -> None:
    keys, objective, baseline = OLD[name]
    rl = (DUMPED if written == "dumped" else {"updates": 1, "samples": 2}) | keys
    path, data = tmp_path / "config.yaml", REST | {"rl": rl}
    path.write_text(yaml.safe_dump(data))
    config = load_config(str(path))
    assert (config.rl.objective, config.rl.baseline) == (objective, baseline)
    assert config.rl.normalize_advantage == ("batch" if name == "loo" else "none")
    assert read_config(path) == parse_config(data) == config
    dumped = config.model_dump(mode="json")
    assert upgrade(dumped) == dumped


def test_new_keys_on_the_command_line_change_an_old_configuration() -> None:
    old = REST | {"rl": DUMPED | OLD["ppo"][0]}
    assert parse_config(old, overrides=["rl.objective.epochs=9"]).rl.objective.passes == (9, 3)
    assert parse_config(old, overrides=["rl.objective=reinforce"]).rl.objective == ReinforceConfig()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"ppo": {"epochs": 2}}, "rl.ppo: moved; write rl.objective={type: ppo, …}"),
        ({"critic": {"shaped": True}}, "rl.critic: moved; write rl.baseline={type: critic, …}"),
        ({"baseline_decay": 0.5}, "rl.baseline_decay: moved; write rl.baseline={type: running_mean, decay: …}"),
        (
            {"importance_cap": 3.0, "objective": "ppo"},
            "rl.importance_cap: moved; write rl.objective={type: reinforce, importance_cap: …}",
        ),
    ],
)
def test_what_an_old_configuration_says_of_something_unused_is_refused(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(REST | {"rl": {"updates": 1} | keys})
    assert caught.value.problems == [problem]


def test_an_old_key_on_the_command_line_is_refused_with_the_new_one() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(REST | {"rl": {"updates": 1}}, overrides=["rl.objective=ppo", "rl.ppo.epochs=3"])
    assert caught.value.problems == ["rl.ppo: moved; write rl.objective={type: ppo, …}"]
