"""Every control makes a configuration that is accepted, whatever it controls, and takes the reward out of it."""

from __future__ import annotations

from typing import Any

import pytest

from rlseq.cli.train import ControlName
from rlseq.config.controls import CONTROLS, sees_others
from rlseq.config.errors import ConfigError
from rlseq.config.load import list_configs, load_config, parse_config
from rlseq.config.schema import Config
from tests.support import HULL, REVERSE, SMALL_ATTENTION, tiny_config

RL: dict[str, dict[str, Any]] = {
    "greedy": {},
    "leave_one_out, whitened": {"baseline": "leave_one_out", "samples": 4, "normalize_advantage": "batch"},
    "critic, shaped": {"baseline": {"type": "critic", "shaped": True, "gae_lambda": 0.9}},
    "mixer": {"objective": {"type": "mixer", "step": 3}, "baseline": "mean", "samples": 2},
    "mrt": {"objective": {"type": "mrt", "alpha": 1.0}, "baseline": "none", "samples": 3},
    "ppo": {"objective": {"type": "ppo", "epochs": 2}, "baseline": "leave_one_out", "samples": 2},
    "instances compared": {
        "normalize_advantage": "instance",
        "dynamic_sampling": 2,
        "starts": "task",
        "baseline": "mean",
        "samples": 2,
    },
}


def controlled(config: Config, name: str) -> Config:
    return parse_config(config.model_dump(mode="json"), overrides=CONTROLS[name].overrides(config))


def test_the_command_line_knows_every_control() -> None:
    assert list(ControlName) == list(CONTROLS)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("rl", RL.values(), ids=RL)
def test_every_objective_can_be_controlled(control: str, rl: dict[str, Any]) -> None:
    config = tiny_config(REVERSE, SMALL_ATTENTION, rl=rl)
    other = controlled(config, control)
    assert other != config
    assert other.mle == config.mle and other.task == config.task and other.policy == config.policy
    assert other.rl.optimizer == config.rl.optimizer
    if CONTROLS[control].phase == "mle":
        assert other.rl.updates == 0
    elif control != "same_instances":
        assert other.rl.reward_source != "task"


@pytest.mark.parametrize("control", [name for name in CONTROLS if name != "same_instances"])
@pytest.mark.parametrize("name", [config.name for config in list_configs() if "data/" not in config.text])
def test_every_shipped_experiment_can_be_controlled(name: str, control: str) -> None:
    controlled(load_config(name), control)


def test_instances_are_controlled_only_if_rl_sees_others() -> None:
    assert not sees_others(tiny_config())
    for keys in ({"rl_generated": True}, {"rl_file": "points.txt"}):
        assert sees_others(tiny_config({**HULL, **keys}))
    assert not sees_others(tiny_config({**HULL, "rl_generated": True}, rl={"instances": "train"}))


@pytest.mark.parametrize(
    ("rl", "remedy"),
    [
        ({"reward_source": "constant"}, "baseline to 'none'"),
        ({"reward_source": "constant", "baseline": "none", "normalize_advantage": "batch"}, "normalize_advantage"),
        (
            {"reward_source": "shuffled", "baseline": {"type": "critic", "shaped": True}},
            "baseline.shaped to false",
        ),
        ({"objective": "self_training", "baseline": "none"}, "reward_source to 'constant'"),
        ({"objective": "self_training", "reward_source": "constant", "baseline": "none", "samples": 2}, "samples to 1"),
        (
            {"objective": "mrt", "samples": 2, "baseline": "none", "reward_source": "constant"},
            "reward_source to 'task'",
        ),
    ],
)
def test_settings_under_which_nothing_would_move_are_refused(rl: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        tiny_config(rl=rl)
