"""Configurations of earlier versions, as files and checkpoints hold them, in today's layout.

Until objectives and baselines became sections, ``rl`` had their names and, beside them, the sections of all of them:

    objective: ppo                     objective: {type: ppo, epochs: 2}
    ppo: {epochs: 2}               →   baseline: {type: critic, shaped: true}
    baseline: critic
    critic: {shaped: true}

Until networks had three slots, ``policy`` was one of two kinds, each with defaults of its own:

    type: pointer                      hidden_size: 128
    hidden_size: 128               →   encoder: {type: lstm, layers: 2, …}
    encoder_layers: 2                  decoder: {type: attention_lstm, match: additive, …}
                                       output: {type: pointer, mask_revisits: false}
"""

from __future__ import annotations

from typing import Any

# By section of today and type: old keys of rl, with their defaults, and the key that each is now; "": all keys of it.
_OLD_RL: dict[tuple[str, str], tuple[str, Any, str]] = {
    ("objective", "reinforce"): ("importance_cap", 2.0, "importance_cap"),
    ("objective", "mixer"): ("mixer", {"step": 2, "every": 500}, ""),
    ("objective", "mrt"): ("mrt", {"alpha": 5e-3, "reference": True}, ""),
    ("objective", "ppo"): (
        "ppo",
        {"epochs": 4, "minibatches": 1, "clip": 0.2, "clip_high": None, "ratio": "token"},
        "",
    ),
    ("baseline", "running_mean"): ("baseline_decay", 0.95, "decay"),
    ("baseline", "critic"): ("critic", {"hidden_size": 64, "weight": 0.5, "shaped": False, "gae_lambda": 1.0}, ""),
}
_USED_BY_DEFAULT = {"objective": "reinforce", "baseline": "greedy"}
_SWITCHES = {True: "batch", False: "none"}  # of normalize_advantage

# By old type of the policy: the type of today's output, and all its keys with their defaults.
_OLD_POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": (
        "vocabulary",
        {
            **{"hidden_size": 384, "embedding_size": 256, "dropout": 0.3, "word_dropout": 0.0, "encoder_layers": 1},
            **{"match": "bilinear", "feed_context": True, "first_state": "encoder", "forget_bias": 1.0},
            **{"tie_embeddings": True, "share_embeddings": False},
        },
    ),
    "pointer": (
        "pointer",
        {
            **{"hidden_size": 128, "dropout": 0.0, "encoder_layers": 1},
            **{"match": "additive", "feed_context": False, "first_state": "encoder", "forget_bias": 1.0},
            **{"mask_revisits": False},
        },
    ),
}
# By slot: its old keys, and the key that each is now.
_SLOTS = {
    "encoder": {"encoder_layers": "layers", "forget_bias": "forget_bias"},
    "decoder": {key: key for key in ("match", "feed_context", "first_state", "forget_bias")},
    "output": {key: key for key in ("tie_embeddings", "share_embeddings", "mask_revisits")},
}
_TYPES = {"encoder": "lstm", "decoder": "attention_lstm"}

# What is to be written instead of a key of an earlier version.
MOVED = {
    f"rl.{old}": f"rl.{section}={{type: {kind}, {f'{new}: ' if new else ''}…}}"
    for (section, kind), (old, _, new) in _OLD_RL.items()
} | {
    **{f"policy.type={kind}": f"policy.output={output}" for kind, (output, _) in _OLD_POLICIES.items()},
    **{f"policy.{old}": f"policy.{slot}.{new}=…" for slot, keys in _SLOTS.items() for old, new in keys.items()},
    "policy.forget_bias": "policy.encoder.forget_bias=… and policy.decoder.forget_bias=…",
}


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """The same configuration in today's layout.

    Old keys of what is not used are dropped if they have their defaults. If not, they stay and are refused as unknown.
    """
    upgrades = {"rl": _upgrade_rl, "policy": _upgrade_policy}
    sections = {name: data[name] for name in upgrades if isinstance(data.get(name), dict)}
    return data | {name: upgrades[name](section) for name, section in sections.items()}


def _upgrade_rl(rl: dict[str, Any]) -> dict[str, Any]:
    rl = dict(rl)
    if isinstance(switch := rl.get("normalize_advantage"), bool):
        rl["normalize_advantage"] = _SWITCHES[switch]
    for (section, kind), (old, default, new) in _OLD_RL.items():
        if old not in rl:
            continue
        keys, defaults = ({new: rl[old]}, {new: default}) if new else (rl[old], default)
        if not isinstance(keys, dict):
            continue
        if rl.get(section, _USED_BY_DEFAULT[section]) == kind:
            rl[section] = {"type": kind, **keys}
        elif not keys.items() <= defaults.items():
            continue
        del rl[old]
    return rl


def _upgrade_policy(policy: dict[str, Any]) -> dict[str, Any]:
    """With all defaults of its old type, which today's are not; keys that the type did not have stay."""
    kind = policy.get("type")
    if kind not in _OLD_POLICIES or not _SLOTS.keys().isdisjoint(policy):
        return policy
    output, defaults = _OLD_POLICIES[kind]
    keys, slots = defaults | policy, {}
    del keys["type"]
    for slot, names in _SLOTS.items():
        found = {new: keys[old] for old, new in names.items() if old in defaults}
        slots[slot] = {"type": _TYPES.get(slot, output), **found}
    moved = {old for names in _SLOTS.values() for old in names if old in defaults}
    return {key: value for key, value in keys.items() if key not in moved} | slots
