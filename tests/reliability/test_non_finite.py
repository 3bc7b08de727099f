"""Numbers that are none: in rewards of the user's, and in losses, gradients, weights and logits of a training."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rlseq.cli import app
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.report.reporter import Reporter
from rlseq.training.checkpoint import load_checkpoint
from rlseq.training.engine import TrainingError
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from rlseq_envs.rewards.own import OwnReward, RewardError
from tests.support import HULL, SMALL_POINTER, tiny_config
from tests.training.scripted import Recorder

SUITE = "Non-finite"
HOLDS_WHEN = (
    "no weight that is not finite is saved, the training recovers or ends with one error, the command that it names "
    "works, and a reward of the user's that gives no finite numbers is one error that names it and says why"
)


# ------------------------------------------------------------------------------------------------------------ training
@dataclass(frozen=True)
class Fault:
    """What goes wrong in a phase.

    Attributes:
        phase: In which.
        keys: Of the phase's section.
        set_trap: Makes the engine go wrong.
        ends: Whether mle cannot go on.
    """

    phase: str
    keys: dict[str, Any]
    set_trap: Callable[[PlainEngine], None] = lambda engine: None
    ends: bool = False


def _at(engine: PlainEngine, phase: str, calls: range, part: str, change: Callable[[Any], Any]) -> None:
    """At some calls of a phase, what a part of the engine gives is changed."""
    owner: Any = engine if part in ("rollout", "score") else engine.trainee
    function, made = getattr(owner, part), 0

    def call(*args: Any, **keys: Any) -> Any:
        nonlocal made
        found = function(*args, **keys)
        if engine.trainee.section.__class__.__name__.lower().startswith(phase):
            made += 1
            return change(found) if made in calls else found
        return found

    setattr(owner, part, call)


def _gradient(phase: str, calls: range) -> Callable[[PlainEngine], None]:
    return lambda engine: _at(engine, phase, calls, "clip_gradients", lambda norm: norm * math.nan)


def _weight(phase: str, calls: range, value: float) -> Callable[[PlainEngine], None]:
    def spoil(engine: PlainEngine) -> None:
        def put(norm: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                next(iter(engine.trainee.policy.parameters())).view(-1)[0] = value
            return norm

        _at(engine, phase, calls, "clip_gradients", put)

    return spoil


def _reward(calls: range, value: float) -> Callable[[PlainEngine], None]:
    def spoil(result: Any) -> Any:
        return replace(result, rewards=np.full_like(result.rewards, value))

    return lambda engine: _at(engine, "rl", calls, "score", spoil)


def _logits(phase: str, calls: range) -> Callable[[PlainEngine], None]:
    def spoil(found: Any) -> Any:
        return replace(found, log_probs=found.log_probs * math.nan)

    return lambda engine: _at(engine, phase, calls, "rollout", spoil)


ONCE, ALWAYS = range(4, 5), range(4, 1000)
OVERSHOOTS: dict[str, dict[str, Any]] = {
    "learning rate of 1e38": {"optimizer": {"learning_rate": 1e38}},
    "weight decay of 1e30": {"optimizer": {"weight_decay": 1e30, "learning_rate": 1.0}},
}
FAULTS: dict[str, Fault] = {
    **{
        f"{name} in {phase}": Fault(phase, keys, ends=True)
        for name, keys in OVERSHOOTS.items()
        for phase in ("mle", "rl")
    },
    "one gradient of mle": Fault("mle", {}, _gradient("mle", ONCE)),
    "one gradient of rl": Fault("rl", {}, _gradient("rl", ONCE)),
    "all gradients of mle": Fault("mle", {}, _gradient("mle", ALWAYS), ends=True),
    "all gradients of rl": Fault("rl", {}, _gradient("rl", ALWAYS)),
    "one weight of NaN in mle": Fault("mle", {}, _weight("mle", ONCE, math.nan)),
    "one infinite weight in rl": Fault("rl", {}, _weight("rl", ONCE, math.inf)),
    "one reward of NaN": Fault("rl", {}, _reward(ONCE, math.nan)),
    "infinite rewards": Fault("rl", {}, _reward(ALWAYS, math.inf)),
    "logits of a validation of mle": Fault("mle", {}, _logits("mle", range(2, 3))),
    "logits of a validation of rl": Fault("rl", {}, _logits("rl", range(2, 3))),
}


def _settings(fault: Fault) -> Config:
    common = {"updates": 12, "batch_size": 4, "validate_every": 3}
    return tiny_config(
        HULL | {"validation_size": 8, "test_size": 8},
        SMALL_POINTER,
        log_every=1,
        mle=common | (fault.keys if fault.phase == "mle" else {}),
        rl=common | {"samples": 2} | (fault.keys if fault.phase == "rl" else {}),
        evaluation={"max_instances": 4, "samples_shown": 0},
        checkpoint={"every": 2, "keep": 100},
    )


@pytest.mark.cases(FAULTS, sample=4)
def test_weights_that_are_saved_are_finite_and_the_remedy_works(case: Fault, tmp_path: Path) -> None:
    settings = _settings(case)
    env, recorder = make_vector_env(settings.task), Recorder()
    run, engine = RunDirectory.create(settings, path=tmp_path / "run"), PlainEngine(settings, env.task, env.rollout)
    case.set_trap(engine)
    trainer = Trainer(settings, env.task, engine, run, Reporter([recorder]))
    if fails := case.ends and case.phase == "mle":
        with pytest.raises(TrainingError, match="not finite"):
            trainer.train()
    else:
        trainer.train()
    run.close()
    assert any("not finite" in warning and "back to the best" in warning for warning in recorder.warnings)
    saved = [path.parent for path in run.path.glob("checkpoints/*/*/manifest.json") if not path.parent.is_symlink()]
    assert len(saved) >= 1
    for directory in saved:
        assert all(np.isfinite(value).all() for value in load_checkpoint(directory).weights.values())
    status = json.loads((run.path / "report" / "status.json").read_text())
    assert status["state"] == ("failed" if fails else "finished")
    if fails:
        command = shlex.split(status["go_on"])
        done = CliRunner().invoke(app, [*command[1:], "--run", str(tmp_path / "again")])
        assert done.exit_code == 0, done.output


# ------------------------------------------------------------------------------------------- rewards of the user's
GIVEN: dict[str, tuple[str, str | None]] = {  # name → what the function gives, and what the error says; None: accepted
    "floats": ("np.linspace(0, 1, n)", None),
    "float16": ("np.linspace(0, 1, n).astype(np.float16)", None),
    "longdouble": ("np.linspace(0, 1, n).astype(np.longdouble)", None),
    "integers": ("np.arange(n)", None),
    "unsigned": ("np.arange(n, dtype=np.uint8)", None),
    "truth": ("np.arange(n) > 1", None),
    "a list": ("[0.5] * n", None),
    "a tuple": ("(0.5,) * n", None),
    "a Reward": ("Reward(np.zeros(n), {'part': np.ones(n)})", None),
    "denormals": ("np.full(n, 5e-324)", None),
    "NaN": ("np.full(n, np.nan)", "gave nan for sequence 0"),
    "one NaN": ("np.where(np.arange(n) == 2, np.nan, 1)", "gave nan for sequence 2"),
    "infinity": ("np.full(n, np.inf)", "gave inf for sequence 0"),
    "minus infinity": ("np.full(n, -np.inf)", "gave -inf for sequence 0"),
    "longdouble beyond 64 bits": ("np.full(n, np.longdouble('1e4000'))", "gave 1e+4000 for sequence 0"),
    "minus longdouble beyond": ("np.full(n, -np.longdouble('1e4000'))", "gave -1e+4000 for sequence 0"),
    "longdouble NaN": ("np.full(n, np.longdouble('nan'))", "gave nan for sequence 0"),
    "float16 infinity": ("np.full(n, np.inf, np.float16)", "gave inf for sequence 0"),
    "a list with NaN": ("[float('nan')] * n", "gave nan for sequence 0"),
    "integers beyond 64 bits": ("[10**400] * n", "of type object: give an array of numbers"),
    "a part of NaN": ("Reward(np.zeros(n), {'part': np.full(n, np.nan)})", "gave nan for sequence 0"),
    "a total of infinity": ("Reward(np.full(n, np.inf), {'part': np.ones(n)})", "gave inf for sequence 0"),
    "complex": ("np.zeros(n, complex)", "of type complex128: give an array of numbers"),
    "dates": ("np.zeros(n, 'datetime64[s]')", "give an array of numbers"),
    "objects": ("np.array([object()] * n)", "of type object: give an array of numbers"),
    "None": ("None", "gave NoneType"),
    "texts": ("['1'] * n", "give an array of numbers"),
    "one number": ("1.0", "gave an array of shape ()"),
    "too few": ("np.zeros(n - 1)", "gave an array of shape (3,) for 4 sequences"),
    "a matrix": ("np.zeros((n, 1))", "gave an array of shape (4, 1) for 4 sequences"),
    "nothing at all": ("[]", "gave an array of shape (0,) for 4 sequences"),
    "ragged": ("[[0] * i for i in range(n)]", "which is no array"),
    "a division by zero": ("[1 / 0]", "raised ZeroDivisionError: division by zero"),
    "an overflow": ("[math.exp(1000)]", "raised OverflowError"),
    "Ctrl-C": ("throw(KeyboardInterrupt())", "raised KeyboardInterrupt"),
    "an exit": ("sys.exit(3)", "raised SystemExit: 3"),
    "GeneratorExit": ("throw(GeneratorExit())", "raised GeneratorExit"),
    "an error of its own": ("throw(Mine('words\\nin lines'))", "raised Mine: words in lines"),
    "a hard exit": ("os._exit(4)", "ended its process (exit code 4)"),
    "a signal": ("os.kill(os.getpid(), 9)", "ended its process (signal SIGKILL)"),
}
HEAD = """
import math, os, sys
import numpy as np
from rlseq_envs.task import Reward

class Mine(BaseException):
    pass

def throw(error):
    raise error
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A module with a function for each of ``GIVEN``, in order."""
    directory = tmp_path_factory.mktemp("rewards")
    texts = (
        f"\ndef given{number}(points, ids):\n    n = len(ids)\n    return {expression}\n"
        for number, (expression, _) in enumerate(GIVEN.values())
    )
    (directory / "given_rewards.py").write_text(HEAD + "".join(texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        yield "given_rewards"


@pytest.mark.cases({name: (number, says) for number, (name, (_, says)) in enumerate(GIVEN.items())}, sample=8)
def test_a_reward_is_finite_numbers_or_one_error(
    case: tuple[int, str | None], module: str, capfd: pytest.CaptureFixture[str]
) -> None:
    number, says = case
    reward = OwnReward(f"{module}:given{number}", timeout=60)
    ids = np.arange(4)
    if says is None:
        found = reward(np.zeros((4, 2)), ids)
        assert all(values.dtype == np.float64 and np.isfinite(values).all() for values in found.values())
        return
    with pytest.raises(RewardError) as error:
        reward(np.zeros((4, 2)), ids)
    text = str(error.value)
    assert text.startswith(f"task.reward: {module}:given{number} ") and says in text and "\n" not in text
    assert "Traceback" not in capfd.readouterr().err
