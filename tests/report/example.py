"""A comparison as ``rlseq compare --json`` writes it: five arms, three seeds, examples of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlseq_envs.drawing import Polygon, drawing_to_json

METRICS = ("accuracy", "area", "reward")
LEVELS = {"mle": 70.1, "rl": 78.9, "equal_time": 72.4, "constant_reward": 69.6, "shuffled_reward": 66.2}
ROLES = {"mle": "mle", "rl": "reward"}
SEEDS = [0, 1, 2]
PROFILE = ("length_ratio", "truncated", "distinct_1", "repetition", "entropy", "top1_mass", "reference_rank")


def comparison(**changes: Any) -> dict[str, Any]:
    """The example, top-level keys replaced by ``changes``."""
    generator = np.random.default_rng(0)
    arms = [_arm(name, level, generator) for name, level in LEVELS.items()]
    ordered = sorted(arms, key=lambda arm: arm["name"] == "rl")  # rl is compared against the others, not they with it
    result = {
        "primary": "accuracy",
        "split": "test",
        "instances": 10_000,
        "decoding": {"method": "greedy"},
        "resamples": 1000,
        "less_is_better": [],
        "profile_unit": "tokens",
        "seed": 12345,
        "method": "Student's t with seeds and instances as crossed random effects.",
        "arms": arms,
        "attributable": [_attributable(metric, arms) for metric in METRICS],
        "differences": [
            _difference(metric, a, b) for metric in METRICS for i, a in enumerate(ordered) for b in ordered[i + 1 :]
        ],
        "trained_on": {"rl": ["valid"], "constant_reward": []},
        "held_out": ["area"],
        "buckets": [
            {
                "by": "points",
                "rows": [
                    {"bucket": str(n), "instances": 1600 + n, "values": {k: x - 4.0 * n for k, x in LEVELS.items()}}
                    for n in range(5, 11)
                ],
            },
        ],
        "curves": {"instances": 2000, "beam": _curve((1, 2, 4, 8), 0.012), "best_of_n": _curve((1, 2, 4, 8, 64), 0.03)},
        "training_curves": {k: [_training(x, seed, generator) for seed in SEEDS] for k, x in LEVELS.items()},
        "examples": [_hull(17, (0.0, 1.0)), _text(18), _attention(19)],
        "regressions": [_hull(23, (1.0, 0.0))],
    }  # fmt: skip
    return result | changes


def _arm(name: str, level: float, generator: np.random.Generator) -> dict[str, Any]:
    noise = generator.normal(0, 0.5, len(SEEDS))
    values = {"accuracy": level + noise, "area": 99 + level / 100 + noise / 100, "reward": (level + noise) / 100}
    return {
        "name": name,
        "seeds": SEEDS,
        "checkpoints": [f"runs/{name}-{seed}/checkpoints/rl/8000" for seed in SEEDS],
        "role": ROLES.get(name, "control"),
        "metrics": {metric: float(each.mean()) for metric, each in values.items()},
        "per_seed": {metric: each.tolist() for metric, each in values.items()},
        "iqm": {metric: float(np.median(each)) for metric, each in values.items()},
        "ci95": {metric: [float(each.mean() - each.std() * 2.5), float(each.mean() + each.std() * 2.5)]
                 for metric, each in values.items()},
        "seconds": None if name == "mle" else 200.0 + level,
        "signatures": {"task": "convex_hull|reward:1*valid|version:1"},
        "profile": {key: 0.5 + level / 1000 for key in PROFILE},
        "tried": 3 if name == "rl" else 1,
        "cost": {"updates": 8000, "samples": None if name == "mle" else 1_024_000, "cpu_seconds": 278.4,
                 "reward_calls": 1_024_000, "peak_memory_mib": 812.5},
        "selection": ["best of 12 validations by accuracy on validation (update 6000)"] * len(SEEDS),
    }  # fmt: skip


def _attributable(metric: str, arms: list[dict[str, Any]]) -> dict[str, Any]:
    found = {arm["name"]: arm["metrics"][metric] for arm in arms}
    delta = found["rl"] - found["equal_time"]
    return {"metric": metric, "arm": "rl", "best_control": "equal_time", "delta": delta,
            "ci95": [0.6 * delta, 1.4 * delta], "p_value": 0.0004}  # fmt: skip


def _difference(metric: str, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    per_seed = [y - x for x, y in zip(a["per_seed"][metric], b["per_seed"][metric], strict=True)]
    delta = sum(per_seed) / len(per_seed)
    spread = max(abs(value - delta) for value in per_seed) * 2
    return {
        "metric": metric, "a": a["name"], "b": b["name"], "delta": delta, "ci95": [delta - spread, delta + spread],
        "p_value": 0.0004 if abs(delta) > spread else 0.31, "p_holm": 0.0012, "p_randomization": 0.0003,
        "ci95_percentile": [delta - spread / 2, delta + spread / 2], "probability_of_improvement": 1.0,
        "wins": 1200, "ties": 8300, "losses": 500, "per_seed": per_seed,
    }  # fmt: skip


def _curve(sizes: tuple[int, ...], gain: float) -> list[dict[str, Any]]:
    return [
        {"size": size, "values": {name: {"mean": (y := level / 100 + gain * size), "ci95": [y - 0.01, y + 0.01]}
                                  for name, level in LEVELS.items()}}
        for size in sizes
    ]  # fmt: skip


def _training(level: float, seed: int, generator: np.random.Generator) -> list[dict[str, float]]:
    updates = np.arange(0, 8001, 500)
    values = level * (1 - 0.6 * np.exp(-updates / 1500)) + generator.normal(0, 0.4, len(updates)) + seed / 5
    return [{"update": int(update), "value": float(value)} for update, value in zip(updates, values, strict=True)]


def _hull(instance: int, rewards: tuple[float, float]) -> dict[str, Any]:
    points = np.array([[0.12, 0.2], [0.85, 0.1], [0.95, 0.7], [0.5, 0.95], [0.1, 0.8], [0.45, 0.5], [0.6, 0.35]])
    polygons = {"mle": (0, 1, 5, 3, 4), "rl": (0, 1, 2, 3, 4)}
    return {
        "id": instance,
        "source": " ".join(f"p{i + 1}({x:g},{y:g})" for i, (x, y) in enumerate(points)),
        "reference": "p1 p2 p3 p4 p5 END",
        "drawing": drawing_to_json(Polygon(points, polygons["rl"], polygons["rl"])),
        "outputs": [
            {"name": name, "output": " ".join(f"p{i + 1}" for i in polygon), "reward": reward,
             "drawing": drawing_to_json(Polygon(points, polygon, polygons["rl"]))}
            for (name, polygon), reward in zip(polygons.items(), rewards, strict=True)
        ],
    }  # fmt: skip


def _text(instance: int) -> dict[str, Any]:
    return {
        "id": instance,
        "source": "two young men & a dog are <near> the river .",
        "reference": "zwei junge Männer und ein Hund sind am Fluss .",
        "outputs": [
            {"name": "mle", "output": "zwei Männer und ein Hund Hund sind am Ufer .", "reward": 0.41},
            {"name": "rl", "output": "zwei junge Männer und ein Hund sind am Fluss .", "reward": 1.0},
        ],
    }


def _attention(instance: int) -> dict[str, Any]:
    inputs, outputs = ["the", "white", "dog", "runs", "."], ["der", "weiße", "Hund", "rennt", ".", "END"]
    weights = np.eye(6, 5) * 0.8 + 0.04
    return {
        "id": instance,
        "source": " ".join(inputs),
        "reference": "der weiße Hund rennt .",
        "outputs": [
            {"name": "rl", "output": " ".join(outputs[:-1]), "reward": 1.0, "attention": weights.tolist(),
             "input_labels": inputs, "output_labels": outputs},
            {"name": "mle", "output": "der Hund läuft .", "reward": 0.3},
        ],
    }  # fmt: skip
