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
from rlseq.config.policy import PolicyConfig
from rlseq.config.upgrade import upgrade

REST = {"name": "old", "task": {"type": "convex_hull"}, "policy": {"output": "pointer"}, "mle": {"updates": 2}}
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


# --------------------------------------------------------------------------------------------------------- networks
TASKS: dict[str, dict[str, Any]] = {"attention": {"type": "translation"}, "pointer": {"type": "convex_hull"}}
# What the two types of a policy meant if a key was left out.
NETWORKS: dict[str, dict[str, Any]] = {
    "attention": {
        **{"hidden_size": 384, "embedding_size": 256, "dropout": 0.3, "word_dropout": 0.0},
        "type": "parts",
        "encoder": {"type": "lstm", "layers": 1, "forget_bias": 1.0},
        "decoder": {
            **{"type": "attention_lstm", "match": "bilinear", "normalise": "softmax", "feed_context": True},
            **{"first_state": "encoder", "forget_bias": 1.0},
        },
        "output": {"type": "vocabulary", "tie_embeddings": True, "share_embeddings": False},
    },
    "pointer": {
        **{"hidden_size": 128, "embedding_size": None, "dropout": 0.0, "word_dropout": 0.0},
        "type": "parts",
        "encoder": {"type": "lstm", "layers": 1, "forget_bias": 1.0},
        "decoder": {
            **{"type": "attention_lstm", "match": "additive", "normalise": "softmax", "feed_context": False},
            **{"first_state": "encoder", "forget_bias": 1.0},
        },
        "output": {"type": "pointer", "mask_revisits": False},
    },
}
# Keys as they were, another value, and where it is now.
KEYS: list[tuple[str, str, Any, list[str]]] = [
    *((kind, "hidden_size", 6, ["hidden_size"]) for kind in NETWORKS),
    *((kind, "dropout", 0.5, ["dropout"]) for kind in NETWORKS),
    *((kind, "encoder_layers", 2, ["encoder.layers"]) for kind in NETWORKS),
    *((kind, "match", "dot", ["decoder.match"]) for kind in NETWORKS),
    *((kind, "first_state", "learned", ["decoder.first_state"]) for kind in NETWORKS),
    *((kind, "forget_bias", 0.5, ["encoder.forget_bias", "decoder.forget_bias"]) for kind in NETWORKS),
    ("attention", "feed_context", False, ["decoder.feed_context"]),
    ("pointer", "feed_context", True, ["decoder.feed_context"]),
    ("attention", "embedding_size", 8, ["embedding_size"]),
    ("attention", "word_dropout", 0.1, ["word_dropout"]),
    ("attention", "tie_embeddings", False, ["output.tie_embeddings"]),
    ("attention", "share_embeddings", True, ["output.share_embeddings"]),
    ("pointer", "mask_revisits", True, ["output.mask_revisits"]),
]


def old(kind: str, **keys: Any) -> dict[str, Any]:
    return REST | {"rl": {"updates": 1}, "task": TASKS[kind], "policy": {"type": kind, **keys}}


def flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_old_network_is_the_same_with_all_that_it_left_out(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(old(kind)))
    config = load_config(str(path))
    assert config.policy.model_dump(mode="json") == NETWORKS[kind]
    assert read_config(path) == parse_config(old(kind)) == config
    dumped = config.model_dump(mode="json")
    assert upgrade(dumped) == dumped


@pytest.mark.parametrize(("kind", "key", "value", "places"), KEYS)
def test_an_old_key_of_a_network_is_where_it_is_now(kind: str, key: str, value: Any, places: list[str]) -> None:
    found = flat(parse_config(old(kind, **{key: value})).policy.model_dump(mode="json"))
    usual = flat(NETWORKS[kind])
    assert {place: found[place] for place in found if found[place] != usual[place]} == dict.fromkeys(places, value)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "policy.type=pointer",
            "policy.type=pointer: moved; write policy.output=pointer",
        ),
        ("policy.encoder_layers=2", "policy.encoder_layers: moved; write policy.encoder.layers=…"),
        ("policy.match=dot", "policy.match: moved; write policy.decoder.match=…"),
        ("policy.mask_revisits=true", "policy.mask_revisits: moved; write policy.output.mask_revisits=…"),
        (
            "policy.forget_bias=0",
            "policy.forget_bias: moved; write policy.encoder.forget_bias=… and policy.decoder.forget_bias=…",
        ),
    ],
)
@pytest.mark.parametrize("written", ["old", "new"])
def test_an_old_key_of_a_network_on_the_command_line_is_refused_with_the_new_one(
    written: str, override: str, problem: str
) -> None:
    data = old("pointer") if written == "old" else REST | {"rl": {"updates": 1}}
    with pytest.raises(ConfigError) as caught:
        parse_config(data, overrides=[override])
    assert caught.value.problems == [problem]


def test_new_keys_on_the_command_line_change_an_old_network() -> None:
    given = ["policy.decoder.match=dot", "policy.output.mask_revisits=true", "policy.hidden_size=8"]
    policy = parse_config(old("pointer", encoder_layers=2), overrides=given).policy
    expected = flat(NETWORKS["pointer"]) | {"hidden_size": 8, "encoder.layers": 2}
    assert flat(policy.model_dump()) == expected | {"decoder.match": "dot", "output.mask_revisits": True}


def test_what_an_old_network_did_not_have_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(old("pointer", tie_embeddings=True, hiden_size=3))
    assert caught.value.problems == [
        "policy.tie_embeddings: moved; write policy.output.tie_embeddings=…",
        "policy.hiden_size: unknown key; did you mean 'hidden_size'?",
    ]


def test_todays_network_is_left_alone() -> None:
    policy = {"output": {"type": "pointer"}, "hidden_size": 8}
    assert upgrade({"policy": policy}) == {"policy": policy}
    assert PolicyConfig.model_validate(policy).output.type == "pointer"
