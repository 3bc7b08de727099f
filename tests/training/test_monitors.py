"""The monitors on streams of statistics: silent on noise and learning, loud once about what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from rlseq.config.errors import UserError
from rlseq.config.explain import every_path
from rlseq.config.mle import MLEConfig
from rlseq.config.monitors import MonitorName
from rlseq.config.rl import RLConfig
from rlseq.training.monitors.monitor import WINDOW, Monitor
from rlseq.training.monitors.registry import MONITORS, Alarm, Monitors
from rlseq.training.monitors.rewards import FALL, REWARDS, CollapseMonitor, standard_error
from tests.support import tiny_config

Stats = dict[str, float]
ONSET = 60
HEALTHY: dict[str, tuple[float, float]] = {  # mean and standard deviation over updates, as of a run on text
    "rollout/reward_mean": (0.5, 0.02),
    "rollout/reward_std": (0.3, 0.02),
    "rollout/length_mean": (12.0, 0.6),
    "rollout/truncated_frac": (0.01, 0.005),
    "rollout/distinct_frac": (0.9, 0.02),
    "rollout/repetition": (0.05, 0.01),
    "rollout/baseline_mean": (0.5, 0.02),
    "rollout/advantage_mean": (0.0, 0.02),
    "rollout/advantage_std": (0.25, 0.01),
    "rollout/zero_advantage_frac": (0.4, 0.04),
    "train/entropy": (0.6, 0.03),
}
# What goes wrong at ONSET, all at once, and the monitor that is there for it.
FAULTS: list[tuple[str, Stats]] = [
    ("collapse", {"rollout/reward_mean": 0.2}),
    ("length", {"rollout/length_mean": 5.0}),
    ("length", {"rollout/length_mean": 25.0}),
    ("entropy", {"train/entropy": 0.02}),
    ("entropy", {"train/entropy": 0.002, "rollout/reward_mean": 0.6}),
    ("entropy", {"train/entropy": 3.0}),
    ("diversity", {"rollout/distinct_frac": 0.1}),
    ("repetition", {"rollout/repetition": 0.6}),
    ("truncation", {"rollout/truncated_frac": 0.3}),
    ("baseline", {"rollout/advantage_mean": 0.4}),
    ("baseline", {"rollout/advantage_mean": -0.4}),
    ("zero_advantage", {"rollout/zero_advantage_frac": 0.995}),
]


def rl(**keys: Any) -> RLConfig:
    return RLConfig.model_validate({"updates": 1} | keys)


def stream(updates: int, *changes: tuple[int, Stats], seed: int = 0) -> list[Stats]:
    """Healthy statistics with noise, the means moved by each change from its update on."""
    draw, means, out = np.random.default_rng(seed), {tag: mean for tag, (mean, _) in HEALTHY.items()}, []
    for update in range(updates):
        for start, change in changes:
            means |= change if update == start else {}
        noisy = {tag: mean + HEALTHY[tag][1] * noise_scale(tag, mean) * draw.normal() for tag, mean in means.items()}
        out.append({tag: min(value, 1.0) if tag.endswith("_frac") else value for tag, value in noisy.items()})
    return out


def noise_scale(tag: str, mean: float) -> float:
    """Small values have little noise."""
    usual = HEALTHY[tag][0]
    return min(1.0, mean / usual) if usual else 1.0


def alarms(monitors: Monitors, stats: Sequence[Stats]) -> list[tuple[int, str]]:
    """When which alarm fires."""
    return [(update, alarm.monitor) for update, each in enumerate(stats) for alarm in monitors.update(each)]


def texts(validations: Sequence[tuple[Stats, int]], section: RLConfig | None = None) -> list[list[Alarm]]:
    monitors = Monitors(section or rl())
    monitors.update(stream(1)[0])
    return [monitors.validation(metrics, instances) for metrics, instances in validations]


# ------------------------------------------------------------------------------------------------- every monitor
@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=lambda each: each if isinstance(each, str) else "")
@pytest.mark.parametrize("seed", range(3))
def test_a_fault_is_reported_once_within_fifty_updates(name: str, fault: Stats, seed: int) -> None:
    found = alarms(Monitors(rl()), stream(ONSET + 200, (ONSET, fault), seed=seed))
    assert [monitor for _, monitor in found] == [name] and ONSET <= found[0][0] < ONSET + 50


def test_every_monitor_of_updates_has_a_fault_here() -> None:
    assert {name for name, _ in FAULTS} | {"hacking"} == {each.name for each in MONITORS}


@pytest.mark.parametrize("seed", range(20))
def test_noise_raises_nothing(seed: int) -> None:
    assert alarms(Monitors(rl()), stream(1000, seed=seed)) == []


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=lambda each: each if isinstance(each, str) else "")
def test_an_alarm_fires_again_after_it_recovered(name: str, fault: Stats) -> None:
    whole = {tag: HEALTHY[tag][0] for tag in fault}
    monitors = Monitors(rl())
    found = alarms(monitors, stream(400, (ONSET, fault), (160, whole), (260, fault)))
    assert [monitor for _, monitor in found] == [name, name] and 260 <= found[1][0] < 310
    assert monitors.flags()[f"monitor/{name}"] == 1.0 and sum(monitors.flags().values()) == 1.0


@pytest.mark.parametrize("cut", [0, 3, WINDOW, 17, ONSET + 5, ONSET + 30, 170])
@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=lambda each: each if isinstance(each, str) else "")
def test_monitors_saved_anywhere_go_on_as_if_they_had_not_been(name: str, fault: Stats, cut: int) -> None:
    stats = stream(300, (ONSET, fault), (160, {tag: HEALTHY[tag][0] for tag in fault}))
    whole, section = Monitors(rl()), rl()
    expected = alarms(whole, stats)
    first = Monitors(section)
    before = alarms(first, stats[:cut])
    again = Monitors.from_dict(section, json.loads(json.dumps(first.to_dict(), sort_keys=True)))
    assert again.to_dict() == first.to_dict()
    assert before + [(cut + update, monitor) for update, monitor in alarms(again, stats[cut:])] == expected
    assert again.to_dict() == whole.to_dict() and again.flags() == whole.flags()


def keys_of(text: str) -> set[str]:
    return set(re.findall(r"\b(?:rl|task)\.\w+(?:\.\w+)*", text))


def test_messages_name_keys_that_exist_and_give_numbers() -> None:
    said = [(name, alarm.text) for name, fault in FAULTS for alarm in said_of(fault) if alarm.monitor == name]
    said += [("hacking", alarm.text) for found in texts(HACKED) for alarm in found]
    assert {name for name, _ in said} == {each.name for each in MONITORS}
    for name, text in said:
        keys = keys_of(text)
        assert keys and re.search(r"\d", text), name
        assert keys <= set(every_path()), name


def said_of(fault: Stats) -> list[Alarm]:
    monitors = Monitors(rl())
    return [alarm for each in stream(ONSET + 50, (ONSET, fault)) for alarm in monitors.update(each)]


# -------------------------------------------------------------------------------------- configuration, documentation
def test_the_page_has_a_row_for_each_monitor_with_what_it_reads() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitors.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, flags=re.MULTILINE))
    assert list(rows) == [each.name for each in MONITORS]
    reads = {each.name: set(each.tags) for each in MONITORS}
    # Hacking is about validations, and entropy asks whether the reward rose.
    told = {name: set(re.findall(r"`(\w+/\w+)`", row)) for name, row in rows.items()}
    assert told | {"hacking": reads["hacking"]} == reads | {"entropy": {"train/entropy"}}


def test_the_page_s_example_is_a_monitor() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitors.md").read_text(encoding="utf-8")
    scope: dict[str, Any] = {"Monitor": Monitor}
    exec(page.split("```python\n")[1].split("```")[0], scope)
    monitor = scope["GradientMonitor"]()
    found = [monitor.update({"train/grad_norm": norm}) for norm in [1.0] * 30 + [20.0] * 30]
    (text,) = filter(None, found)
    assert "1 at the start" in text and found.index(text) < 40


def test_the_configuration_knows_the_monitors_there_are() -> None:
    assert [each.name for each in MONITORS] == list(get_args(MonitorName))
    assert {f"monitor/{name}" for name in get_args(MonitorName)} == Monitors(rl()).flags().keys()


@pytest.mark.parametrize("name", get_args(MonitorName))
def test_a_monitor_that_is_off_says_nothing_and_one_that_stops_stops(name: str) -> None:
    fault = next((fault for monitor, fault in FAULTS if monitor == name), {})
    silent = Monitors(rl(monitors={"off": (name,)}))
    assert alarms(silent, stream(ONSET + 50, (ONSET, fault))) == [] and f"monitor/{name}" not in silent.flags()
    if fault:
        for stop in ((name,), ()):
            monitors = Monitors(rl(monitors={"stop": stop}))
            alarms(monitors, stream(ONSET, (ONSET, fault)))
            assert monitors.stopping == []
            alarms(monitors, stream(ONSET + 50, (0, fault))[:50])
            assert monitors.stopping == list(stop)


def test_names_are_checked() -> None:
    with pytest.raises(UserError, match=r"rl\.monitors\.stop"):
        tiny_config(rl={"monitors": {"stop": ["lenght"]}})
    with pytest.raises(UserError, match="both in stop and in off"):
        tiny_config(rl={"monitors": {"stop": ["length"], "off": ["length"]}})


def test_cross_entropy_is_not_watched() -> None:
    monitors = Monitors(MLEConfig(updates=1))
    assert alarms(monitors, stream(ONSET + 50, (ONSET, FAULTS[0][1]))) == [] and monitors.flags() == {}
    assert monitors.validation({"reward": 1.0, "accuracy": 0.0}, 100) == []


@pytest.mark.parametrize("baseline", ["none", "mean", "leave_one_out", "critic"])
def test_baselines_that_cannot_die_are_not_watched(baseline: str) -> None:
    assert "monitor/baseline" not in Monitors(rl(baseline=baseline, samples=2)).flags()


def test_statistics_that_a_phase_has_not_are_not_missed() -> None:
    assert alarms(Monitors(rl()), [{"rollout/reward_mean": 0.5}] * 50) == []


# --------------------------------------------------------------------------------------------------- healthy runs
def test_learning_raises_nothing() -> None:
    """Entropy falls to a fifteenth, rewards and zero advantages rise, lengths drift: a phase that goes well."""
    fractions = np.linspace(0.0, 1.0, 2000)
    path = [
        each
        | {
            "train/entropy": 0.6 * 15.0**-fraction,
            "rollout/reward_mean": each["rollout/reward_mean"] + 0.3 * fraction,
            "rollout/baseline_mean": each["rollout/baseline_mean"] + 0.3 * fraction,
            "rollout/zero_advantage_frac": 0.4 + 0.5 * fraction,
            "rollout/length_mean": each["rollout/length_mean"] * (1.0 - 0.2 * fraction),
        }
        for each, fraction in zip(stream(2000), fractions, strict=True)
    ]
    assert alarms(Monitors(rl()), path) == []


def test_the_fall_at_the_start_of_rl_raises_nothing() -> None:
    """Hulls at a large learning rate (docs/recipes.md): 77 % falls to 67 %, the sampled reward follows, both return."""
    monitors, found = Monitors(rl(baseline="leave_one_out", samples=8)), []
    updates, accuracy = [0, 200, 600, 1200, 2000], [77.0, 67.1, 72.1, 78.3, 82.4]
    sampled = np.interp(range(2000), [0, 50, 200, 600, 1200, 2000], [0.62, 0.61, 0.59, 0.645, 0.694, 0.733])
    for update, (each, reward) in enumerate(zip(stream(2000), sampled, strict=True)):
        if update % 100 == 0:
            value = float(np.interp(update, updates, accuracy))
            found += monitors.validation({"accuracy": value, "area": 99.0, "reward": value / 100}, 4000)
        found += monitors.update(each | {"rollout/reward_mean": float(reward)})
    assert found == []


@pytest.mark.parametrize("seed", range(3))
def test_lengths_that_differ_from_batch_to_batch_raise_nothing(seed: int) -> None:
    """Batches of ``batch_type: token`` hold instances of like length: one has 5 tokens a sample, the next has 30."""
    lengths = np.random.default_rng(seed).uniform(5.0, 30.0, 500)
    path = [each | {"rollout/length_mean": float(length)} for each, length in zip(stream(500), lengths, strict=True)]
    assert alarms(Monitors(rl()), path) == []


# ------------------------------------------------------------------------------------------------------- collapse
def first_suspicion(rewards: list[float]) -> int | None:
    monitor = CollapseMonitor()
    for update, reward in enumerate(rewards):
        if monitor.update({"rollout/reward_mean": reward}):
            assert monitor.suspicious
            return update
    return None


def test_a_fall_is_noticed_within_one_window() -> None:
    # By hand: the window's mean passes 0.7 × 0.5 with the 8th low reward of 20 (0.5 − 8 × 0.02 = 0.34).
    assert first_suspicion([0.5] * 60 + [0.1] * REWARDS) == 67


def test_noise_and_growth_are_not_suspicious() -> None:
    generator = np.random.default_rng(0)
    assert first_suspicion((0.3 + 0.05 * generator.standard_normal(2000)).tolist()) is None
    assert first_suspicion(np.linspace(0.0, 1.0, 300).tolist()) is None
    assert first_suspicion([1.0] * 5 + [0.0] * (REWARDS - 6)) is None  # no full window to compare with


def test_a_rare_reward_that_stays_away_is_not_suspicious() -> None:
    """Two lucky updates in a window of nothing say little about the distribution they were drawn from."""
    lucky = [0.0] * 30 + [0.004, 0.0, 0.0, 0.004] + [0.0] * 100
    assert first_suspicion(lucky) is None


def test_a_slow_slide_is_noticed_too() -> None:
    when = first_suspicion(np.linspace(0.5, 0.2, 300).tolist())
    assert when is not None and np.linspace(0.5, 0.2, 300)[when] > 0.5 * FALL * 0.9


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_rewards_that_are_never_positive_raise_no_alarm(level: float) -> None:
    assert first_suspicion([level] * 100) is None


def test_a_validation_comes_early_as_long_as_the_reward_is_low() -> None:
    monitors = Monitors(rl())
    early = []
    for each in stream(120, (60, {"rollout/reward_mean": 0.2}), (90, {"rollout/reward_mean": 0.5})):
        monitors.update(each)
        early.append(monitors.validates_early)
    assert not any(early[:60]) and early[75] and all(early[75:90]) and not any(early[108:])
    assert not Monitors(rl(monitors={"off": ("collapse",)})).validates_early


# -------------------------------------------------------------------------------------------------------- hacking
HACKED = [({"accuracy": 76.0 - 12 * k, "edge_f1": 0.92 - 0.01 * k, "reward": 0.8 + 0.05 * k}, 1000) for k in range(5)]


def test_a_metric_that_falls_while_the_reward_rises_is_hacking() -> None:
    found = texts(HACKED)
    assert [len(each) for each in found] == [0, 0, 1, 0, 0]  # at the second validation in a row, once
    assert "accuracy 76 → 52" in found[2][0].text and "from 0.8 to 0.9" in found[2][0].text
    assert "edge_f1" not in found[2][0].text


def test_less_is_better_of_some_metrics() -> None:
    better = [({"TER": 50.0 - 6.0 * k, "reward": 0.3 + 0.1 * k}, 1000) for k in range(4)]
    worse = [({"TER": 50.0 + 6.0 * k, "reward": 0.3 + 0.1 * k}, 1000) for k in range(4)]
    assert not any(texts(better)) and [len(each) for each in texts(worse)] == [0, 0, 1, 0]


def test_what_falls_late_is_compared_with_its_best() -> None:
    """Over-optimisation (Gao et al. 2023): the metric first rises with the reward, and falls while the reward rises."""
    metric = [60.0, 70.0, 75.0, 72.0, 64.0, 60.0]
    found = texts([({"chrF": value, "reward": 0.3 + 0.1 * k}, 1000) for k, value in enumerate(metric)])
    assert [len(each) for each in found] == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "metrics",
    [
        lambda k: {"accuracy": 76.0 - 12 * k, "reward": 0.8 - 0.01 * k},  # both fall
        lambda k: {"accuracy": 76.0 - 12 * (k == 2), "reward": 0.8 + 0.05 * k},  # once
        lambda k: {"accuracy": 76.0 - 0.8 * k, "reward": 0.8 + 0.05 * k},  # by less than 5 %
        lambda k: {"accuracy": [2.0, 1.0][k % 2], "reward": 0.8 + 0.05 * k},  # 10 of 1000 less is noise
        lambda k: {"accuracy": 76.0 - 12 * k, "reward": 0.8 + 0.005 * k},  # by less than a tenth of the spread
        lambda k: {"area": np.nan, "reward": 0.8 + 0.05 * k},
        lambda k: {"truncated": 0.1 * k, "length": 9.0 - k, "reward": 0.8 + 0.05 * k},
    ],
)
def test_other_moves_of_a_metric_are_not_hacking(metrics: Callable[[int], Stats]) -> None:
    assert not any(texts([(metrics(k), 1000) for k in range(6)]))


def test_hacking_recovers_and_is_saved() -> None:
    validations = [*HACKED, ({"accuracy": 77.0, "edge_f1": 0.93, "reward": 1.1}, 1000), *HACKED[2:]]
    for cut in range(len(validations)):
        monitors, found = Monitors(rl()), []
        monitors.update(stream(1)[0])
        for index, (metrics, instances) in enumerate(validations):
            if index == cut:
                monitors = Monitors.from_dict(rl(), json.loads(json.dumps(monitors.to_dict())))
            found += [index] * len(monitors.validation(metrics, instances))
        assert found == [2]  # the reward has not risen above that of the new best
    assert standard_error(50.0, 100) == pytest.approx(5.0) and standard_error(0.5, 100) == pytest.approx(0.05)


# ------------------------------------------------------------------------------------------------ a dead baseline
def test_a_baseline_that_stands_still_while_rewards_move_is_dead() -> None:
    """A greedy output that is worth nothing in every batch, while samples are worth more and more."""
    rising = np.linspace(0.02, 0.6, 100)
    still = [
        each | {"rollout/baseline_mean": 0.0, "rollout/advantage_mean": float(reward), "rollout/advantage_std": 0.8}
        for each, reward in zip(stream(100), rising, strict=True)
    ]
    assert [monitor for _, monitor in alarms(Monitors(rl()), still)] == ["baseline"]


def test_a_baseline_at_the_highest_reward_is_not_dead() -> None:
    """The greedy outputs are all right and the samples follow them."""
    rising = np.linspace(-0.3, -0.02, 100)
    solved = [
        each | {"rollout/baseline_mean": 1.0, "rollout/advantage_mean": float(mean), "rollout/advantage_std": 0.4}
        for each, mean in zip(stream(100), rising, strict=True)
    ]
    assert alarms(Monitors(rl()), solved) == []
