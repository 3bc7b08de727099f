"""Ray clusters of several nodes on this machine's loopback, started by Ray's own command, ended by process ids."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType

ROOT = Path(__file__).parents[1]


class RayCluster:
    """A cluster that demands a token.

    Args:
        cpus: Of each node; the first is the head.
        dashboard: Whether jobs can be submitted to it.
        token: Whether a token is asked for.
    """

    def __init__(self, *cpus: int, dashboard: bool = False, token: bool = True) -> None:
        self.directory = Path(mkdtemp(prefix="c-", dir="/tmp"))  # sockets need a short path
        self.home = self.directory / "home"
        (self.home / ".ray").mkdir(parents=True)
        if token:
            (self.home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
            (self.home / ".ray" / "auth_token").chmod(0o600)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
        self.environment = kept | {
            "HOME": str(self.home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "envs"), *filter(None, sys.path)]),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        self._mode = {"RAY_AUTH_MODE": "token" if token else "disabled"}
        port, web, agent = _free_port(), _free_port(), _free_port()
        self.address, self.dashboard = f"127.0.0.1:{port}", f"http://127.0.0.1:{web}"
        head = ["--head", f"--port={port}", f"--include-dashboard={dashboard}", "--dashboard-host=127.0.0.1"]
        head += [f"--dashboard-port={web}", f"--dashboard-agent-listen-port={agent}", f"--temp-dir={self.directory}/r"]
        try:
            self._start([*head, f"--num-cpus={cpus[0]}"])
            for count in cpus[1:]:
                self.add_node(count)
        except BaseException:
            self._end()
            raise

    def add_node(self, cpus: int) -> None:
        """Have another node join."""
        agent = _free_port()
        self._start([f"--address={self.address}", f"--num-cpus={cpus}", f"--dashboard-agent-listen-port={agent}"])

    def _start(self, options: list[str]) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address=127.0.0.1", *options]
        subprocess.run(command, env=self.environment | self._mode, check=True, timeout=120, stdout=subprocess.DEVNULL)

    def pids(self, executable: str = "") -> list[int]:
        """Processes of the cluster with that name, or all."""
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with suppress(OSError):
                    command = (path / "cmdline").read_bytes().split(b"\0")
                    environment = (path / "environ").read_bytes()
                    named = not executable or command[0].decode().endswith(executable)
                    if named and f"HOME={self.home}".encode() in environment.split(b"\0"):
                        found.append(int(path.name))
        return found

    def kill(self, executable: str) -> None:
        """End processes with that name on the spot."""
        for pid in self.pids(executable):
            os.kill(pid, signal.SIGKILL)

    def run(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start ``rlseq`` beside the cluster; standard output and error are one stream."""
        return subprocess.Popen(
            [sys.executable, "-m", "rlseq", *arguments],
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        """End every process of the cluster, and what it left."""
        deadline = time.monotonic() + 30
        while (pids := [pid for pid in self.pids() if pid != os.getpid()]) and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        shutil.rmtree(self.directory, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
