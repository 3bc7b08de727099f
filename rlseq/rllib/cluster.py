"""Ray, started for one machine or connected to a running cluster."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Any

import ray
from ray import cloudpickle
from ray._private import node, ray_constants

from rlseq.config.errors import UserError
from rlseq.config.schema import ComputeConfig
from rlseq.rllib.joining import AUTH_MODE, Place, join, use_tokens

LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
ADDRESS, JOB_CONFIG = "RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"
LONGEST_PLACE = 23  # bytes: 107 are what a socket's path may have, and Ray makes directories in this one
COMPLAINT = re.compile(r"\[[-\d :,]+ [WEF] ")  # a line of Ray's daemons above the level of information
LONGEST_COMPLAINT = 200  # lines of a process
LOCAL = "local"  # the address that means this machine, whatever the environment says


def needs_cluster(compute: ComputeConfig) -> bool:
    """Whether anything runs outside the driver."""
    return bool(compute.runners or compute.learners or compute.address not in (None, LOCAL))


def place_of(compute: ComputeConfig) -> Place | None:
    """The running cluster that is meant: that of ``compute.address``, else of RAY_ADDRESS; None is this machine.

    Ray sets RAY_ADDRESS for what runs inside a job of a cluster.
    """
    if compute.address == LOCAL:
        return None
    if compute.address and compute.address != "auto":
        return Place(compute.address, "compute.address")
    if found := os.environ.get(ADDRESS):
        return None if found == LOCAL else Place(found, ADDRESS)
    return Place("auto", "compute.address") if compute.address else None


def start(compute: ComputeConfig, log: Path | None = None) -> bool:
    """Join the running cluster that is meant, or start Ray on this machine, unless this process is connected already.

    The process's signal handlers stay as they were: Ray would put its own in place of them.

    Args:
        compute: Where the work is done.
        log: Where to keep what a cluster that is started here complains of.

    Returns:
        Whether a connection was made here, which ``stop`` is to end.

    Raises:
        UserError: The cluster cannot be joined.
    """
    if ray.is_initialized():
        return False
    try:
        with _signal_handlers_kept():
            _UNTIL_STOP.enter_context(_changed(os.environ, {AUTH_MODE: "disabled"}))
            if place := place_of(compute):
                join(place)
            else:
                _start_local(max(os.cpu_count() or 1, compute.runners + compute.learners + 1), log)
    except BaseException:
        stop()
        raise
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
    _UNTIL_STOP.close()


# What ends with a connection: what was changed in this process for it, and a directory.
_UNTIL_STOP = ExitStack()


class _Node(node.Node):
    """Ray's daemons without those that a run does not need: the dashboard, and what adds machines and reads logs."""

    def start_api_server(self, **settings: Any) -> None:
        """No dashboard."""

    def start_monitor(self) -> None:
        """No machines are added."""

    def start_log_monitor(self) -> None:
        """The driver reads no logs of workers."""


def _start_local(cpus: int, log: Path | None) -> None:
    """A cluster that listens on loopback only, whose token and directory only its owner can read.

    CPUs are counted, not measured: there are as many as there are workers, so that none waits for ever.
    """
    _make_token(token_path())
    _UNTIL_STOP.enter_context(_changed(os.environ, {LOOPBACK_ONLY: "0"}, without=JOB_CONFIG))
    _UNTIL_STOP.enter_context(_changed(vars(ray_constants), {"ENABLE_RAY_CLUSTER": False}))
    _UNTIL_STOP.enter_context(_changed(vars(node), {"Node": _Node}))
    directory = _UNTIL_STOP.enter_context(temporary_directory())
    if log is not None:
        _UNTIL_STOP.callback(_keep_complaints, directory / "r" / "session_latest" / "logs", log)
    use_tokens(True)
    mask = os.umask(0o077)  # the session's logs are nobody else's business
    try:
        ray.init(
            address=LOCAL,
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(directory / "r"),  # which Ray opens to everyone
        )
    finally:
        os.umask(mask)


def _keep_complaints(logs: Path, kept: Path) -> None:
    """Keep what is lost with the directory: warnings of Ray's daemons, and what workers wrote on standard error."""
    told = []
    for path in sorted(logs.glob("*.*")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        wanted = lines if path.suffix == ".err" else [line for line in lines if COMPLAINT.match(line)]
        told += [f"== {path.name}", *wanted[-LONGEST_COMPLAINT:]] if wanted else []
    if told:
        with suppress(OSError), kept.open("a", encoding="utf-8") as file:
            print(*told, sep="\n", file=file)


def token_path() -> Path:
    """Where Ray keeps the token of this user's clusters."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def _make_token(path: Path) -> None:
    """A token that only its owner can read; several processes that start at once agree on one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with NamedTemporaryFile("w", dir=path.parent) as file:  # mode 0600
            file.write(secrets.token_hex(32))
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    path.chmod(0o600)


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory for one cluster, removed with it; of killed processes, whose directories nobody holds, too.

    Ray's default directory keeps every session for good. Sockets lie in it, so its path has to be short.

    Raises:
        UserError: RAY_TMPDIR cannot be used.
    """
    place = Path(os.environ.get("RAY_TMPDIR") or "/tmp")
    if not (place.is_dir() and os.access(place, os.W_OK)) or len(os.fsencode(place.absolute())) > LONGEST_PLACE:
        raise UserError(f"RAY_TMPDIR={place}: give a writable directory with a path of at most {LONGEST_PLACE} bytes")
    for left in place.glob("rlseq-*/held"):
        with suppress(OSError), left.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    made = Path(mkdtemp(prefix=".rlseq-", dir=place))
    directory = place / made.name[1:]
    try:
        with (made / "held").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            made.rename(directory)  # found by others only once it is held
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _changed(values: MutableMapping[str, Any], new: dict[str, Any], without: str = "") -> Iterator[None]:
    """Change some values for a while, and leave one out."""
    before = {name: values[name] for name in (*new, without) if name in values}
    values.update(new)
    values.pop(without, None)
    try:
        yield
    finally:
        for name in new:
            values.pop(name, None)
        values.update(before)


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
