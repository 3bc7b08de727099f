"""Every test runs single-threaded and offline, whatever the machine; those that need Ray share one cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_DISABLE_DOCKER_CPU_WARNING", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A cluster on this machine and its loopback alone."""
    from rlseq.config.schema import ComputeConfig
    from rlseq.rllib import cluster

    started = cluster.start(ComputeConfig(runners=4, learners=4))
    yield
    if started:
        cluster.stop()
