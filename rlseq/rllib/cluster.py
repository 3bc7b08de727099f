"""Ray, started for one machine or connected to a running cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray._private import ray_constants
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

from rlseq.config.schema import ComputeConfig

LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def needs_cluster(compute: ComputeConfig) -> bool:
    """Whether anything runs outside the driver."""
    return bool(compute.runners or compute.learners or compute.address)


def start(compute: ComputeConfig) -> bool:
    """Connect to ``compute.address``, or start Ray on this machine, unless this process is connected already.

    The process's signal handlers stay as they were: Ray would put its own in place of them.

    Returns:
        Whether a connection was made here, which ``stop`` is to end.
    """
    if ray.is_initialized():
        return False
    with _signal_handlers_kept():
        if compute.address:
            _connect(compute.address)
        else:
            _start_local(max(os.cpu_count() or 1, compute.runners + compute.learners + 1))
    return True


def publish(data: Any) -> bytes:
    """Put data where every worker finds them, for as long as this process lives.

    Returns:
        The reference, pickled: that keeps the object alive, and Ray need not warn that a runner which is given a bare
        reference could not start again without it.
    """
    reference: bytes = cloudpickle.dumps(ray.put(data))
    return reference


def published(reference: bytes) -> Any:
    """What was published; processes of one machine share its arrays, which are read-only."""
    return ray.get(cloudpickle.loads(reference))


def stop() -> None:
    """End the connection, and the cluster if it was started here."""
    with _signal_handlers_kept():
        ray.shutdown()


def _connect(address: str) -> None:
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # a token alone is not sent
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)


def _start_local(cpus: int) -> None:
    """A cluster that listens on loopback only, whose token only its owner can read.

    CPUs are counted, not measured: there are as many as there are workers, so that none waits for ever.
    """
    token = token_path()
    token.parent.mkdir(parents=True, exist_ok=True)
    if token.exists():
        token.chmod(0o600)
    os.environ[LOOPBACK_ONLY] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    mask = os.umask(0o077)  # the token file and the session's logs are nobody else's business
    try:
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    finally:
        os.umask(mask)
    if token.exists():
        token.chmod(0o600)


def token_path() -> Path:
    """Where Ray keeps the token of this user's clusters."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Put SIGTERM's and SIGINT's handlers back; only the main thread has a say in them."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    kept = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in kept.items():
                if handler is not None:
                    signal.signal(number, handler)
