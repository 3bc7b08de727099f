"""Configurations of earlier versions, as files and checkpoints hold them, in today's layout.

Until objectives and baselines became sections, ``rl`` had their names and, beside them, the sections of all of them:

    objective: ppo                     objective: {type: ppo, epochs: 2}
    ppo: {epochs: 2}               →   baseline: {type: critic, shaped: true}
    baseline: critic
    critic: {shaped: true}
"""

from __future__ import annotations

from typing import Any

# By section of today and type: old keys of rl, with their defaults, and the key that each is now; "": all keys of it.
_OLD: dict[tuple[str, str], tuple[str, Any, str]] = {
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

# What is to be written instead of a key of an earlier version.
MOVED = {
    f"rl.{old}": f"rl.{section}={{type: {kind}, {f'{new}: ' if new else ''}…}}"
    for (section, kind), (old, _, new) in _OLD.items()
}


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """The same configuration in today's layout.

    Old keys of what is not used are dropped if they have their defaults. If not, they stay and are refused as unknown.
    """
    if not isinstance(rl := data.get("rl"), dict):
        return data
    rl = dict(rl)
    if isinstance(switch := rl.get("normalize_advantage"), bool):
        rl["normalize_advantage"] = _SWITCHES[switch]
    for (section, kind), (old, default, new) in _OLD.items():
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
    return data | {"rl": rl}
