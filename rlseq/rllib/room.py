"""Waiting until a cluster has room for workers, and saying so: Ray would wait for ever, in silence."""

from __future__ import annotations

import logging
import time

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from rlseq.config.errors import UserError
from rlseq.config.schema import ComputeConfig

logger = logging.getLogger(__name__)

SAID_AFTER = 5.0  # seconds; a cluster that has room gives it in less than one
POLL_SECONDS = 0.5


def await_room(compute: ComputeConfig, *, runners: bool) -> None:
    """Wait until there is room for the learners, and for the runners if they are to be started, too.

    What is waited for counts as demand, so a cluster that can grow grows.

    Raises:
        UserError: There is none for ``compute.timeout`` seconds.
    """
    demands = [{"GPU": compute.learner_gpus} if compute.learner_gpus else {"CPU": 1.0}] * compute.learners
    if runners:
        runner = {"CPU": 1.0} | ({"GPU": compute.runner_gpus} if compute.runner_gpus else {})
        demands = demands + [runner] * compute.runners
    if not demands:
        return
    started, said = time.monotonic(), False
    reserved = placement_group(demands)
    try:
        while not ray.wait([reserved.ready()], timeout=POLL_SECONDS)[0]:
            waited = time.monotonic() - started
            if waited > compute.timeout:
                raise UserError(f"no room in {compute.timeout:g} seconds (compute.timeout): {_why(compute, demands)}")
            if waited > SAID_AFTER and not said:
                logger.warning("waiting for room: %s", _why(compute, demands))
                said = True
    finally:
        remove_placement_group(reserved)


def _why(compute: ComputeConfig, demands: list[dict[str, float]]) -> str:
    """What is asked for by which keys, and what there is."""
    total, free = ray.cluster_resources(), ray.available_resources()
    kinds = [kind for kind in ("CPU", "GPU") if any(kind in demand for demand in demands)]
    needed = " and ".join(f"{sum(demand.get(kind, 0.0) for demand in demands):g} {kind}s" for kind in kinds)
    there = " and ".join(f"{total.get(kind, 0.0):g} {kind}s, {free.get(kind, 0.0):g} of them free" for kind in kinds)
    return (
        f"compute.runners={compute.runners} and compute.learners={compute.learners} need {needed}, the cluster has "
        f"{there}; lower them or add machines"
    )
