"""Every test runs single-threaded and offline, whatever the machine; those that need Ray share one cluster."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_DISABLE_DOCKER_CPU_WARNING", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")
# What trainings of tests name is not to be trusted afterwards.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="rlseq-tests-")

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
# What a shell, or nohup, has processes in the background ignore, their children would ignore, too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

WITH_RAY = ("tests/rllib/", "tests/faults/")
LONGEST = (*WITH_RAY, "tests/learning/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that side by side nothing long is left over for the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Callable[..., None]) -> Any:
    """Side by side, the tests of a file stay together, for they share fixtures; and all tests with Ray.

    Two clusters that start at once would both write the one token that Ray keeps for this user.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ray" if nodeid.startswith(WITH_RAY) else nodeid.partition("::")[0]

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A cluster on this machine and its loopback alone."""
    from rlseq.config.schema import ComputeConfig
    from rlseq.rllib import cluster

    started = cluster.start(ComputeConfig(runners=4, learners=4))
    yield
    if started:
        cluster.stop()


@pytest.fixture(scope="module", autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """Settings of the process that change results: tests that leave others behind would change those of later tests."""
    before = _settings()
    yield
    assert _settings() == before


def _settings() -> dict[str, Any]:
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "oneDNN": torch.backends.mkldnn.enabled,
        "products": (matmul.fp32_precision, torch.get_float32_matmul_precision()),
        "denormals": float(torch.tensor(1e-45) * 1.0) != 0.0,
        "numpy": np.geterr(),
    }
