"""Work that does not fit into memory ends with a command that helps."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rlseq.cli import app
from rlseq.config.load import read_config
from rlseq.data.tasks import make_vector_env
from rlseq.report.reporter import Reporter
from rlseq.training.engine import WorkersFailed
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from tests.support import HULL, SMALL_POINTER, tiny_config
from tests.training.scripted import Recorder

PHASE: dict[str, Any] = {"updates": 4, "batch_size": 4, "validate_every": 2, "accumulation": 2}
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation.")


def torch_says(work: Callable[[], Any]) -> Exception:
    """The error that work ends with."""
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("it went well")


NO_ROOM = torch_says(lambda: torch.empty(10**15))


def spoilt(engine: PlainEngine, part: str, after: int, error: Exception) -> None:
    """A part of the engine fails after so many calls."""
    real: Callable[..., Any] = getattr(engine, part)
    left = [after]

    def fails(*arguments: Any, **keys: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return real(*arguments, **keys)

    setattr(engine, part, fails)


@pytest.mark.parametrize(
    ("part", "after", "phase", "source", "error", "told"),
    [
        ("update", 1, "mle", "mle", GPU, "CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("update", 2, "rl", "rl", MemoryError(), "MemoryError"),
        ("update", 0, "mle", "mle", NO_ROOM, str(NO_ROOM).partition("\n")[0]),
        ("update", 1, "mle", "mle", RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "CUBLAS_STATUS_ALLOC_FAILED"),
        ("rollout", 6, "rl", "mle", GPU, "CUDA out of memory. Tried to allocate 2.00 GiB."),  # rl's first validation
    ],
)
def test_what_does_not_fit_into_memory_is_told_with_a_command_that_reads_it_in_parts(
    part: str, after: int, phase: str, source: str, error: Exception, told: str, tmp_path: Path
) -> None:
    config = tiny_config(HULL, SMALL_POINTER, mle=PHASE, rl=PHASE, evaluation={"max_instances": 4})
    env, run = make_vector_env(config.task), RunDirectory.create(config, path=tmp_path / "run")
    engine = PlainEngine(config, env.task, env.rollout)
    spoilt(engine, part, after, error)
    with pytest.raises(WorkersFailed) as caught:
        Trainer(config, env.task, engine, run, Reporter([Recorder()])).train()
    run.close()
    status = json.loads((run.path / "report" / "status.json").read_text())
    command = f"rlseq train --from {run.path}/checkpoints/{source} --phase {phase} {phase}.accumulation=4"
    assert status["go_on"] == f"{command} compute.shard_size={config.compute.shard_size // 2}"
    assert str(caught.value) == f"memory ran out: {told}. In smaller parts from the best checkpoint: {status['go_on']}"
    again = [*shlex.split(status["go_on"])[1:], "--run", str(tmp_path / "again")]
    done = CliRunner().invoke(app, again)
    assert done.exit_code == 0, done.output
    assert read_config(tmp_path / "again" / "config.yaml").phase(phase).accumulation == 4  # type: ignore[arg-type]


def test_before_anything_is_saved_the_keys_alone_are_named(tmp_path: Path) -> None:
    config = tiny_config(HULL, SMALL_POINTER, mle=PHASE, rl=PHASE)
    env, run = make_vector_env(config.task), RunDirectory.create(config, path=tmp_path / "run")
    engine = PlainEngine(config, env.task, env.rollout)
    spoilt(engine, "rollout", 0, GPU)
    with pytest.raises(WorkersFailed, match=r"Nothing was trained yet: begin anew with mle.accumulation=4 compute"):
        Trainer(config, env.task, engine, run, Reporter([Recorder()])).train()
