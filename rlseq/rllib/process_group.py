"""The learners' process group, whose sockets listen on the address that Ray knows their machine by, and on no other.

torch's store would listen on every interface, and anyone who reaches it can read and write it: it asks for no token.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import suppress
from datetime import timedelta
from typing import Any

import ray
import torch.distributed as dist
from ray.train.torch.config import TorchConfig, _TorchBackend

GET_ADDRESS = 0x8915  # ioctl SIOCGIFADDR

TCPStore: Any = dist.TCPStore  # type: ignore[attr-defined]
_STORES: list[Any] = []  # of the first learner's process, for as long as it lives


class LearnerBackend(_TorchBackend):
    """Ray's, with a store that listens on one address; each learner sees its own GPU alone."""

    share_cuda_visible_devices = False

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Have the first learner serve a store, and all join it."""
        world = len(worker_group)
        address, port = worker_group.execute_single(0, _serve, world)
        kind = "nccl" if worker_group.get_resources_per_worker().get("GPU", 0) else "gloo"
        seconds = backend_config.timeout_s
        joined = [
            worker_group.execute_single_async(rank, _join, kind, address, port, rank, world, seconds)
            for rank in range(world)
        ]
        ray.get(joined)


class LearnerBackendConfig(TorchConfig):
    """Has learners use ``LearnerBackend``."""

    @property
    def backend_cls(self) -> type[LearnerBackend]:
        """See ``TorchConfig``."""
        return LearnerBackend


def _serve(world: int) -> tuple[str, int]:
    """Address and port of a store that this process serves."""
    address = ray.util.get_node_ip_address()
    listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    port = listener.getsockname()[1]
    _STORES[:] = [
        TCPStore(address, port, world, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    ]
    return address, port


def _join(kind: str, address: str, port: int, rank: int, world: int, seconds: int) -> None:
    if interface := _interface_of(ray.util.get_node_ip_address()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    store = _STORES[0] if rank == 0 else TCPStore(address, port, world, is_master=False)
    timeout = timedelta(seconds=seconds)
    dist.init_process_group(kind, store=store, rank=rank, world_size=world, timeout=timeout)


def _interface_of(address: str) -> str | None:
    """The network interface that has an IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                answer = fcntl.ioctl(asking, GET_ADDRESS, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None
