"""One Ray cluster for all tests, on this machine and this machine's loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlseq.config.schema import ComputeConfig
from rlseq.rllib import cluster


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    started = cluster.start(ComputeConfig(runners=4, learners=4))
    yield
    if started:
        cluster.stop()
