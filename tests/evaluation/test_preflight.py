"""Is rl worth starting? Small policies of each kind, made-up figures, and what a preflight leaves alone."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlseq.config.load import parse_config
from rlseq.config.schema import Config
from rlseq.evaluation.loading import LoadedPolicy, load_policy
from rlseq.evaluation.plateau import MleTrend
from rlseq.evaluation.preflight import Cost, Lengths, Preflight, Tempered, preflight
from rlseq.evaluation.verdict import judge, recommendations, refused, verdict
from rlseq.training.preflight import SampleFigures
from rlseq.training.trust import Trust
from rlseq_envs.task import Ints
from tests.evaluation.conftest import HULL, TEXT, train
from tests.support import REVERSE

Rows = dict[str, Any]


def settings(loaded: LoadedPolicy, **rl: Any) -> Config:
    data = loaded.config.model_dump(mode="json")
    section = data["rl"] | {"updates": 100, "batch_size": 8, "baseline": "leave_one_out", "samples": 4}
    return parse_config(data | {"rl": section | rl})


def measured(loaded: LoadedPolicy, instances: int = 40, **rl: Any) -> Preflight:
    ids = loaded.task.instances("validation").ids()[:instances]
    return preflight(loaded, settings(loaded, **rl), ids)


def against(found: Preflight) -> list[str]:
    return [finding.key for finding in judge(found) if finding.verdict == "against"]


# ------------------------------------------------------------------------------------------- policies of each kind
def test_a_policy_half_way_is_sound(hull_run: Path) -> None:
    found = measured(load_policy(hull_run / "checkpoints" / "mle"))
    assert against(found) == []
    assert found.figures.best > found.figures.greedy and 0 < found.figures.entropy < math.log(5)


def test_an_untrained_policy_is_refused(tmp_path: Path) -> None:
    points = HULL["task"] | {"min_points": 9, "max_points": 10, "reward": {"valid": 1.0}}
    run = train(tmp_path / "run", HULL | {"task": points}, {"mle": 0}, 0.0)
    assert "untrained" in against(measured(load_policy(run.path)))


def test_a_saturated_policy_is_refused(tmp_path: Path) -> None:
    """With one letter, only the length is to be copied."""
    copying = TEXT | {"task": REVERSE | {"arguments": {"letters": 1, "longest": 3}}}
    run = train(tmp_path / "run", copying, {"mle": 60}, 0.02)
    assert against(measured(load_policy(run.path, trust=Trust(everything=True)))) == ["saturated"]


@pytest.mark.parametrize(("temperature", "key"), [(0.001, "sharp"), (30.0, "flat")])
def test_a_distribution_that_teaches_nothing_is_refused(text_run: Path, temperature: float, key: str) -> None:
    phase = "mle" if key == "sharp" else "rl"
    found = measured(load_policy(text_run / "checkpoints" / phase), temperature=temperature)
    assert key in against(found)
    (advice,) = (finding for finding in judge(found) if finding.key == "rl.temperature")
    assert 0.3 < recommendations(found)["rl.temperature"] < 2 and advice.verdict == "advice"


def test_a_policy_that_does_not_end_is_refused(text_run: Path) -> None:
    loaded = load_policy(text_run / "checkpoints" / "rl")
    head = loaded.policy.head
    assert head is not None
    with torch.no_grad():
        head[1][0] -= 30.0  # END's bias
    found = measured(loaded)
    assert "truncated" in against(found) and found.figures.greedy_truncated == 1.0


# ----------------------------------------------------------------------------------------- what is left as it was
def without_cost(found: Preflight) -> Rows:
    return {name: value for name, value in found.to_json().items() if name != "cost"}


def test_it_is_deterministic_changes_nothing_and_is_json(hull_run: Path) -> None:
    loaded = load_policy(hull_run / "checkpoints" / "mle")
    before = {name: value.clone() for name, value in loaded.policy.state_dict().items()}
    files = {path: path.stat().st_mtime_ns for path in hull_run.rglob("*")}
    first, second = measured(loaded), measured(loaded)
    assert without_cost(first) == without_cost(second)
    for name, value in loaded.policy.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not loaded.policy.training and {path: path.stat().st_mtime_ns for path in hull_run.rglob("*")} == files
    assert json.loads(json.dumps(first.to_json(), allow_nan=False)) == first.to_json()


def test_costs_are_of_the_configured_phase(hull_run: Path) -> None:
    found = measured(load_policy(hull_run / "checkpoints" / "mle"), updates=50)
    cost = found.cost
    assert found.projected_seconds == 50 * cost.update_seconds > 0
    assert cost.tokens_per_cpu_second > cost.samples_per_cpu_second > 0 and cost.peak_memory > 2**20


@pytest.mark.parametrize(
    "rl",
    [
        {"baseline": "greedy", "samples": 1},
        {"baseline": "critic", "samples": 1},
        {"objective": "mrt", "baseline": "none"},
        {"objective": "ppo"},
        {"objective": "mixer"},
        {"kl": 0.1, "cross_entropy": 0.1, "top_k": 4},
        {"sampling_precision": "bf16", "variance_every": 1},
    ],
)
def test_every_objective_is_measured(text_run: Path, rl: Rows) -> None:
    found = measured(load_policy(text_run / "checkpoints" / "rl"), 20, **rl)
    assert found.cost.update_seconds > 0 and found.figures.samples == 16


def test_the_references_are_measured_as_training_does(hull_run: Path) -> None:
    loaded = load_policy(hull_run / "checkpoints" / "mle")
    ids = loaded.task.instances("validation").ids()[:40]
    source, targets = (
        loaded.task.source(ids).map(torch.from_numpy),
        tuple(map(torch.from_numpy, loaded.task.references(ids))),
    )
    with torch.no_grad():
        log_probs = loaded.policy(source, *targets)
    total = sum(
        log_probs[row, place, targets[0][row, place]] for row in range(40) for place in range(int(targets[1][row]))
    )
    found = measured(loaded)
    assert found.validation_nll == pytest.approx(float(-total / targets[1].sum()), rel=1e-5)
    assert found.lengths == Lengths(float(np.percentile(targets[1], 99)), int(targets[1].max()), 5)


# --------------------------------------------------------------------------------------------- the course of mle
def recorded(run: Path, target: Path, rewards: list[float]) -> Path:
    """A copy of a run whose metrics hold these validations."""
    shutil.copytree(run, target, symlinks=True)
    lines = [json.dumps({"update": 10 * (n + 1), "phase": "mle", "eval/reward": r}) for n, r in enumerate(rewards)]
    (target / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return target / "checkpoints" / "mle"


def test_the_runs_metrics_tell_whether_mle_is_still_rising(hull_run: Path, tmp_path: Path) -> None:
    rising = measured(load_policy(recorded(hull_run, tmp_path / "rising", [0.4, 0.7, 0.9, 1.0])))
    level = measured(load_policy(recorded(hull_run, tmp_path / "level", [1.0, 1.1, 1.1, 1.1])))
    assert rising.trend is not None and rising.trend.fresh  # its training instances are endless
    assert [finding.key for finding in judge(rising) if finding.verdict == "warning"][-1:] == ["mle_rising"]
    assert level.trend is not None and not level.trend.rising
    assert measured(load_policy(hull_run / "checkpoints" / "mle")).trend is None
    assert measured(load_policy(recorded(hull_run, tmp_path / "rl", [0.4, 0.7, 1.0]).parent / "rl")).trend is None


def test_instances_that_were_learnt_by_heart_are_not_fresh(text_run: Path, tmp_path: Path) -> None:
    """The training sentences are the validation's, until their outputs are others than were learnt."""
    path = recorded(text_run, tmp_path / "text", [0.1, 0.2, 0.3])
    found = measured(load_policy(path))
    assert found.training_nll == pytest.approx(found.validation_nll, rel=0.1)
    assert found.trend is not None and found.trend.fresh
    loaded = load_policy(path)
    references = loaded.task.references

    def reversed_validation(ids: Ints) -> tuple[Ints, Ints]:
        tokens, lengths = references(ids)
        return (
            (tokens[:, ::-1].copy(), lengths)
            if ids[0] >= loaded.task.instances("validation").first
            else (tokens, lengths)
        )

    loaded.task.references = reversed_validation  # type: ignore[method-assign]
    found = measured(loaded)
    assert found.training_nll is not None and found.validation_nll > 1.5 * found.training_nll
    assert found.trend is not None and not found.trend.fresh


# ------------------------------------------------------------------------------------------------ made-up figures
def made_up(loaded: LoadedPolicy, **changes: Any) -> Preflight:
    figures = SampleFigures(
        instances=300, samples=16, sampled=0.7, greedy=0.71, best=0.9, reference=1.0, worst=0.0, spread=0.15,
        alike=0.4, right=0.3, wrong=0.1, better=0.2, truncated=0.01, greedy_truncated=0.0, entropy=0.2, tokens=7.0,
    )  # fmt: skip
    tried = [Tempered(0.4, 0.72, 0.02, 0.9), Tempered(0.8, 0.71, 0.1, 0.6), Tempered(1.0, 0.7, 0.15, 0.5)]
    alike, best_of = {2: 0.8, 4: 0.54, 8: 0.45, 16: 0.4}, {2: 0.75, 4: 0.8, 8: 0.85, 16: 0.9}
    trend = MleTrend(6000, 0.73, 0.735, 0.01, True, True, False)
    config = settings(loaded, optimizer={"learning_rate": 2.5e-4, "schedule": {"decay": "linear"}})
    found = Preflight(
        "mine", "runs/mine", config, figures, alike, best_of, tried, Lengths(12.0, 14, 16), 0.3, 0.3,
        Cost(1000.0, 7000.0, 0.1, 0.1, 1 << 28), trend,
    )  # fmt: skip
    return replace(found, **changes)


@pytest.fixture(scope="module")
def text(text_run: Path) -> LoadedPolicy:
    return load_policy(text_run)


def test_good_settings_are_left_alone(text: LoadedPolicy) -> None:
    found = made_up(text)
    assert judge(found) == []
    assert recommendations(found) == {
        "rl.temperature": 1.0, "rl.samples": 4, "rl.optimizer.learning_rate": 2.5e-4, "task.max_length": 15,
    }  # fmt: skip


Change = Callable[[Preflight], Preflight]


def with_rl(**rl: Any) -> Change:
    def change(found: Preflight) -> Preflight:
        data = found.config.model_dump(mode="json")
        return replace(found, config=parse_config(data | {"rl": data["rl"] | rl}))

    return change


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        (with_rl(temperature=0.4), "rl.temperature", 1.0),
        (with_rl(samples=16), "rl.samples", 4),
        (with_rl(samples=2), "rl.samples", 4),
        (with_rl(optimizer={"learning_rate": 1e-5}), "rl.optimizer.learning_rate", 2.5e-4),
        (with_rl(updates=5000), "rl.optimizer.learning_rate", 1e-3),
        (lambda found: replace(found, lengths=Lengths(16.0, 16, 16)), "task.max_length", 32),
        (lambda found: replace(found, lengths=Lengths(12.0, 14, 80)), "task.max_length", 15),
    ],
)
def test_other_settings_are_advised_with_the_reason(text: LoadedPolicy, change: Change, key: str, value: float) -> None:
    found = change(made_up(text))
    (advice,) = judge(found)
    assert advice.key == key and advice.verdict == "advice" and advice.text.startswith(f"{key}={value:g}: ")
    assert recommendations(found)[key] == value and verdict(found)["verdict"] == "sound"


def test_a_lower_temperature_is_taken_only_if_instances_still_differ(text: LoadedPolicy) -> None:
    figures = replace(made_up(text).figures, greedy=0.8)
    rows = {0.4: (0.79, 0.9), 0.6: (0.75, 0.6), 1.0: (0.6, 0.5)}  # sampled reward, alike
    tried = [Tempered(temperature, *(sampled, 0.1, alike)) for temperature, (sampled, alike) in rows.items()]
    assert recommendations(made_up(text, figures=figures, temperatures=tried))["rl.temperature"] == 0.6
    tried[0] = replace(tried[0], alike=0.7)
    assert recommendations(made_up(text, figures=figures, temperatures=tried))["rl.temperature"] == 0.4


def test_a_rising_mle_is_a_warning_that_names_longer_training(text: LoadedPolicy) -> None:
    rising = MleTrend(6000, 0.73, 0.763, 0.0135, True, True, True)
    (warning,) = judge(made_up(text, trend=rising))
    assert (warning.key, warning.verdict) == ("mle_rising", "warning")
    assert "its learning rate had run out" in warning.text and "mle.updates=12000" in warning.text
    assert not refused([warning]) and verdict(made_up(text, trend=rising))["verdict"] == "sound"


def test_every_figure_is_shown_with_what_it_is_judged_by(text: LoadedPolicy) -> None:
    found = made_up(text, figures=replace(made_up(text).figures, truncated=0.5))
    result = verdict(found)
    assert result["verdict"] == "not advisable" and [f["key"] for f in result["findings"]] == ["truncated"]
    assert result["measures"]["truncated samples"] == {"value": 0.5, "judged_by": "below 0.33"}
    assert all(math.isfinite(measure["value"]) for measure in result["measures"].values())
