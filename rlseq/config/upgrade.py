"""Configurations of earlier versions, as files and checkpoints hold them, in today's layout.

Until objectives and baselines became sections, ``rl`` had their names and, beside them, the sections of all of them:

    objective: ppo                     objective: {type: ppo, epochs: 2}
    ppo: {epochs: 2}               →   baseline: {type: critic, shaped: true}
    baseline: critic
    critic: {shaped: true}
"""

from __future__ import annotations

from typing import Any

# The old sections and their defaults: one that nothing used had to have these.
_OBJECTIVES: dict[str, dict[str, Any]] = {
    "mixer": {"step": 2, "every": 500},
    "mrt": {"alpha": 5e-3, "reference": True},
    "ppo": {"epochs": 4, "minibatches": 1, "clip": 0.2, "clip_high": None, "ratio": "token"},
}
_CRITIC: dict[str, Any] = {"hidden_size": 64, "weight": 0.5, "shaped": False, "gae_lambda": 1.0}
_DECAY = 0.95  # of baseline running_mean
_SWITCHES = {True: "batch", False: "none"}  # of normalize_advantage

# What is to be written instead of a key of an earlier version.
MOVED = {
    **{f"rl.{name}": f"rl.objective={{type: {name}, …}}" for name in _OBJECTIVES},
    "rl.critic": "rl.baseline={type: critic, …}",
    "rl.baseline_decay": "rl.baseline={type: running_mean, decay: …}",
}


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """The same configuration in today's layout.

    An old section that nothing used is dropped if it has its defaults. If not, it stays and is refused as unknown.
    """
    if not isinstance(rl := data.get("rl"), dict):
        return data
    rl = dict(rl)
    if isinstance(switch := rl.get("normalize_advantage"), bool):
        rl["normalize_advantage"] = _SWITCHES[switch]
    for name, defaults in _OBJECTIVES.items():
        _move(rl, name, "objective", defaults)
    if rl.get("baseline") == "running_mean" and "baseline_decay" in rl:
        rl["baseline"] = {"type": "running_mean", "decay": rl.pop("baseline_decay")}
    elif rl.get("baseline_decay") == _DECAY:
        del rl["baseline_decay"]
    _move(rl, "critic", "baseline", _CRITIC)
    return data | {"rl": rl}


def _move(rl: dict[str, Any], name: str, key: str, defaults: dict[str, Any]) -> None:
    """Move the old section ``name`` into the one of ``key``, in place, if ``key`` names it; drop it if it is unused."""
    section = rl.get(name)
    if not isinstance(section, dict):
        return
    if rl.get(key) == name:
        rl[key] = {"type": name, **rl.pop(name)}
    elif section.items() <= defaults.items():
        del rl[name]
