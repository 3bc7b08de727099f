"""Watching the head of a cluster: without it Ray ends this process after a minute, with whatever was not saved."""

from __future__ import annotations

import logging
import threading
import time

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from rlseq.training.engine import WorkersFailed

logger = logging.getLogger(__name__)

ASK_EVERY, ANSWER_SECONDS = 2.0, 8.0  # a head that is busy may take its time
SILENT_SECONDS = 15.0  # after which the head counts as lost; one that is restarted in less is not noticed


class HeadWatch:
    """Asks the head of the cluster that this process is connected to whether it is there, in a thread."""

    def __init__(self) -> None:
        self._address = str(ray.get_runtime_context().gcs_address)
        self._lost, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="head-watch", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Have the run end while what the driver holds can still be saved.

        Raises:
            WorkersFailed: The head is lost.
        """
        if self._lost.is_set():
            raise WorkersFailed(f"{self._what()}; once the cluster is back, or on another one, resume the run")

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _what(self) -> str:
        return f"the head of the Ray cluster at {self._address} has not answered for {SILENT_SECONDS:g} seconds"

    def _watch(self) -> None:
        with init_grpc_channel(self._address) as channel:
            head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
            heard = time.monotonic()
            while not self._ended.wait(ASK_EVERY):
                try:
                    head.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=ANSWER_SECONDS)
                    heard = time.monotonic()
                except grpc.RpcError:
                    if time.monotonic() - heard > SILENT_SECONDS:
                        logger.error("%s: the run is saved and ends", self._what())
                        self._lost.set()
                        return
