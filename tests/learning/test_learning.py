"""It learns: cross-entropy solves small tasks from scratch, and REINFORCE improves on a half-trained policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.report.files import MetricsFile
from rlseq.report.reporter import Reporter
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from tests.captioned import write_captioned
from tests.support import HULL, POINTER, REVERSE, policy_section, tiny_config
from tests.training.scripted import Recorder

ATTENTION = policy_section({}, embedding_size=16, hidden_size=32, dropout=0.0)
WITHOUT_FEEDING = policy_section(ATTENTION, feed_context=False)
POINTING = policy_section(POINTER, hidden_size=32, dropout=0.0)


def trained(config: Config, path: Path) -> tuple[Recorder, list[float]]:
    """Train both phases with the plain loop; what was reported, and the sampled rewards of the rl phase."""
    env, recorder = make_vector_env(config.task), Recorder()
    run = RunDirectory.create(config, path=path / "run")
    engine = PlainEngine(config, env.task, env.rollout)
    Trainer(config, env.task, engine, run, Reporter([MetricsFile(), recorder])).train()
    rewards = [r["rollout/reward_mean"] for r in run.read_metrics() if "rollout/reward_mean" in r]
    run.close()
    return recorder, rewards


def config(task: dict[str, Any], policy: dict[str, Any], mle: dict[str, Any], rl: dict[str, Any]) -> Config:
    common = {"batch_size": 32}
    return tiny_config(task, policy, mle=common | mle, rl=common | rl, evaluation={"samples_shown": 0}, log_every=20)


def steps(rate: float, decay: str = "constant") -> dict[str, Any]:
    return {"learning_rate": rate, "schedule": {"decay": decay}}


@pytest.mark.parametrize("backwards", [True, False], ids=["reverse", "copy"])
@pytest.mark.parametrize("keys", [{"match": "bilinear"}, {"match": "additive", "feed_context": False}], ids=str)
def test_cross_entropy_solves_a_task_of_tokens(tmp_path: Path, backwards: bool, keys: dict[str, Any]) -> None:
    task = REVERSE | {"arguments": {"backwards": backwards}}
    mle = {"updates": 300, "validate_every": 100, "optimizer": steps(1e-2, "linear")}
    recorder, _ = trained(config(task, policy_section(ATTENTION, **keys), mle, {"updates": 0}), tmp_path)
    assert recorder.scores("mle")[0] < 5 and recorder.scores("mle")[-1] > 95


@pytest.mark.parametrize(
    ("policy", "keys"),
    [
        (ATTENTION, {"scheduled_sampling": {"schedule": "inverse_sigmoid", "constant": 50.0}}),
        (ATTENTION, {"scheduled_sampling": {"schedule": "linear", "slope": 0.004, "own": "greedy", "per": "sequence"}}),
        (
            policy_section(ATTENTION, feed_context=False),
            {"scheduled_sampling": {"schedule": "exponential", "constant": 0.995}},
        ),
        (ATTENTION, {"feed": "distribution"}),
        (ATTENTION, {"attention_regularization": 0.1}),
    ],
    ids=["sampled", "greedy-sequences", "without-feeding", "distribution", "regularised"],
)
def test_every_way_of_cross_entropy_solves_a_task_of_tokens(
    tmp_path: Path, policy: dict[str, Any], keys: dict[str, Any]
) -> None:
    mle = {"updates": 400, "validate_every": 400, "optimizer": steps(1e-2, "linear")} | keys
    recorder, _ = trained(config(REVERSE, policy, mle, {"updates": 0}), tmp_path)
    assert recorder.scores("mle")[0] < 5 and recorder.scores("mle")[-1] > 95


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        ("convolutional", {"type": "attention_lstm", "match": "additive"}),
        ("features", "attention_lstm"),
        ("features", "lstm"),
        ("features", {"type": "lstm", "reads": "every_step"}),
        ("features", "multimodal"),
        ("features", "top_down"),
    ],
    ids=str,
)
def test_every_captioner_tells_the_colours_of_pictures(tmp_path: Path, encoder: str, decoder: Any) -> None:
    keys = write_captioned(tmp_path, copies=12, pictures=True)
    if encoder == "convolutional":
        keys |= {"feature_file": None, "picture_directory": str(tmp_path), "picture_size": 12}
    policy = {"encoder": encoder, "decoder": decoder, "hidden_size": 16, "dropout": 0.0}
    mle = {"updates": 100, "batch_size": 8, "validate_every": 100, "optimizer": steps(1e-2, "linear")}
    recorder, _ = trained(config({"type": "caption"} | keys, policy, mle, {"updates": 0}), tmp_path)
    bleu = recorder.scores("mle", "BLEU")
    assert bleu[0] < 20 and bleu[-1] == pytest.approx(100)


def test_a_pointer_network_learns_hulls_of_five_points_from_some_points_of_its_own(tmp_path: Path) -> None:
    mle = {"updates": 600, "validate_every": 600, "optimizer": steps(5e-3)}
    mle["scheduled_sampling"] = {"schedule": "linear", "constant": 0.8}
    recorder, _ = trained(config(HULL | {"validation_size": 400}, POINTING, mle, {"updates": 0}), tmp_path)
    assert recorder.scores("mle")[0] < 5 and recorder.scores("mle")[-1] > 10


@pytest.mark.parametrize(
    ("baseline", "samples", "rate", "margin"),
    [("greedy", 1, 1e-3, 10), ("running_mean", 4, 2e-3, 10), ("leave_one_out", 4, 3e-3, 20), ("mean", 4, 3e-3, 20)],
)
def test_reinforce_improves_a_half_trained_policy_of_tokens(
    tmp_path: Path, baseline: str, samples: int, rate: float, margin: float
) -> None:
    mle = {"updates": 25, "validate_every": 25, "optimizer": steps(1e-2)}
    rl = {"updates": 240, "validate_every": 40, "optimizer": steps(rate), "baseline": baseline, "samples": samples}
    recorder, rewards = trained(config(REVERSE, ATTENTION, mle, rl), tmp_path)
    accuracy = recorder.scores("rl")
    assert 30 < accuracy[0] == max(recorder.scores("mle")) < 80
    assert accuracy[-1] > accuracy[0] + margin and np.mean(rewards[-3:]) > rewards[0] + margin / 100


@pytest.mark.parametrize(
    ("keys", "rate", "margin"),
    [
        ({"objective": {"type": "mrt", "alpha": 1.0}, "baseline": "none", "samples": 4}, 3e-3, 20),
        ({"objective": {"type": "ppo", "epochs": 3}, "baseline": "leave_one_out", "samples": 4}, 1e-3, 20),
        ({"objective": {"type": "mixer", "every": 20}, "baseline": "leave_one_out", "samples": 4}, 3e-3, 20),
        ({"baseline": "critic", "samples": 4}, 3e-3, 20),
        ({"baseline": {"type": "critic", "shaped": True, "gae_lambda": 0.95}, "samples": 4}, 3e-3, 20),
        ({"objective": {"type": "ppo", "epochs": 2, "ratio": "sequence", "clip": 0.05}, "samples": 4}, 1e-3, 10),
    ],
    ids=["mrt", "ppo", "mixer", "critic", "actor_critic", "gspo"],
)
def test_other_objectives_improve_a_half_trained_policy_of_tokens(
    tmp_path: Path, keys: dict[str, Any], rate: float, margin: float
) -> None:
    mle = {"updates": 25, "validate_every": 25, "optimizer": steps(1e-2)}
    rl = {"updates": 120, "validate_every": 40, "optimizer": steps(rate)} | keys
    recorder, rewards = trained(config(REVERSE, ATTENTION, mle, rl), tmp_path)
    accuracy = recorder.scores("rl")
    assert 30 < accuracy[0] == max(recorder.scores("mle")) < 80
    assert accuracy[-1] > accuracy[0] + margin and np.mean(rewards[-2:]) > rewards[0] + margin / 200


def test_both_phases_learn_hulls_of_five_points(tmp_path: Path) -> None:
    mle = {"updates": 600, "validate_every": 200, "optimizer": steps(5e-3)}
    rl = {
        "updates": 300,
        "validate_every": 60,
        "optimizer": steps(3e-3, "linear"),
        "baseline": "leave_one_out",
        "samples": 8,
        "collapse_tolerance": 10.0,
    }
    recorder, rewards = trained(config(HULL | {"validation_size": 400}, POINTING, mle, rl), tmp_path)
    accuracy = recorder.scores("rl")
    assert recorder.scores("mle")[0] < 5 and accuracy[0] == max(recorder.scores("mle")) > 20
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.05  # the sampled reward, which is what is optimised
    assert max(accuracy) > accuracy[0] + 2
    best = [event for event in recorder.validations if event.phase == "rl" and event.best][-1]
    assert best.metrics["accuracy"] >= accuracy[0] and best.metrics["reward"] >= accuracy[0] / 100
