"""Which processes belong to a run, and on which addresses they accept connections; read from /proc."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OPEN = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}  # the state of a socket that anyone may write to


def family(root: int) -> set[int]:
    """A process and all that descend from it."""
    parents = dict(_parents())
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> dict[str, str]:
    """``address:port`` on which any of the processes accepts connections or datagrams, with the process's name."""
    tables = (_table(Path("/proc/net", kind), state) for kind, state in OPEN.items())
    sockets = {inode: address for table in tables for inode, address in table}
    found = {}
    for pid in pids:
        with suppress(OSError):  # it ended meanwhile
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    link = os.readlink(descriptor)
                    if link.startswith("socket:") and (address := sockets.get(link[8:-1])):
                        found[address] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found


def is_loopback(address: str) -> bool:
    """Whether ``address:port`` can be reached from this machine alone."""
    host = ipaddress.ip_address(address.rpartition(":")[0])
    return bool(host.is_loopback or (getattr(host, "ipv4_mapped", None) or host).is_loopback)


def _parents() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                yield int(path.name), int((path / "stat").read_text().rpartition(")")[2].split()[1])


def _table(path: Path, state: str) -> Iterator[tuple[str, str]]:
    """Inode and address of each socket in that state."""
    for line in path.read_text().splitlines()[1:]:
        columns = line.split()
        if columns[3] == state:
            host, port = columns[1].split(":")
            words = [bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8)]
            yield columns[9], f"{ipaddress.ip_address(b''.join(words))}:{int(port, 16)}"
