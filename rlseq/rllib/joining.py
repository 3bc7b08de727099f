"""Joining a running Ray cluster: what is wrong is found out before Ray's own client starts.

That client tries for up to a quarter of an hour, cannot be interrupted meanwhile, and does not name the token.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import ray
from ray._private import services
from ray._private.grpc_utils import init_grpc_channel
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from ray.exceptions import AuthenticationError

from rlseq.config.errors import UserError

ANSWER_SECONDS = 5.0  # a head that is there answers in milliseconds
AUTH_MODE = "RAY_AUTH_MODE"
SUBMIT = "have the cluster start the training: rlseq submit"


@dataclass(frozen=True)
class Place:
    """Where a cluster is to be joined.

    Attributes:
        address: As it was given: HOST:PORT, or auto.
        given_by: The key or variable that gave it.
    """

    address: str
    given_by: str

    def wrong(self, what: str) -> UserError:
        """An error about it."""
        return UserError(f"{self.given_by}={self.address}: {what}")


def join(place: Place) -> None:
    """Connect this process to a cluster.

    Raises:
        UserError: There is none, it wants another token, has another version, or this machine is not part of it.
    """
    address = _located(place)
    use_tokens(wants_token(place, lambda header: _head_refuses(place, address, header)))
    if not services.find_node_ids():
        raise place.wrong(
            f"this machine is not part of the cluster: run `ray start --address={address}` on it, or {SUBMIT}"
        )
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise place.wrong(" ".join(str(error).split())) from error


def _located(place: Place) -> str:
    """HOST:PORT."""
    if "://" in place.address:
        raise place.wrong(f"give HOST:PORT, as `ray start` prints it (HOST:6379), or {SUBMIT}")
    try:
        return str(services.canonicalize_bootstrap_address(place.address))
    except ConnectionError as error:
        raise place.wrong(
            "no Ray cluster runs on this machine: start one with `ray start --head`, or give its HOST:PORT"
        ) from error
    except (ValueError, OSError) as error:
        raise place.wrong(f"there is no such host or port ({error}); give HOST:PORT, such as 10.0.0.1:6379") from error


def wants_token(place: Place, refuses: Callable[[dict[str, str]], bool]) -> bool:
    """Whether the cluster demands a token, which this user then has.

    Args:
        place: Where it is.
        refuses: Whether it refuses a request with these headers.

    Raises:
        UserError: The token is missing or wrong.
    """
    use_tokens(False)  # Ray's channels would add one by themselves
    if not refuses({}):
        return False
    header = _token_header(place)
    if not header:
        raise place.wrong(
            "the cluster demands a token and there is none here: copy ~/.ray/auth_token from its head, "
            "or set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        )
    if refuses(header):
        raise place.wrong(
            f"the cluster refuses the token in {_token_source()}: it is another cluster's; copy the token from its head"
        )
    return True


def _head_refuses(place: Place, address: str, header: dict[str, str]) -> bool:
    """Ask the cluster's head whether it is there.

    Raises:
        UserError: Nothing answers, or Ray has another version there.
    """
    try:
        with init_grpc_channel(address) as channel:
            head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
            request = gcs_service_pb2.CheckAliveRequest()
            reply = head.CheckAlive(request, timeout=ANSWER_SECONDS, metadata=list(header.items()))
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return True
        raise place.wrong(
            f"no Ray cluster answers at {address} ({error.code().name.lower()}); is its head running, and is this "
            "the port that `ray start --head` printed (6379)?"
        ) from error
    if reply.ray_version != ray.__version__:
        raise place.wrong(f"the cluster runs Ray {reply.ray_version} and this is {ray.__version__}: install the same")
    return False


def _token_header(place: Place) -> dict[str, str]:
    """This user's token as Ray sends it; empty if there is none."""
    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    try:
        return dict(loader.get_token_for_http_header(ignore_auth_mode=True))
    except AuthenticationError as error:
        raise place.wrong(f"the token cannot be read ({' '.join(str(error).split())})") from error


def _token_source() -> str:
    for variable in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        if os.environ.get(variable):
            return variable
    return "~/.ray/auth_token"


def use_tokens(wanted: bool) -> None:
    """Have Ray send this user's token with every request, or none.

    That a token lies there says nothing of the cluster, and workers fall silent if the two disagree.
    """
    os.environ[AUTH_MODE] = "token" if wanted else "disabled"
    Config.initialize("")  # Ray caches it
