"""The code that a configuration names: what is imported for it, and the cluster whose machines would run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from rlseq_envs.settings import IMPORT_PATH

SLOTS = ("encoder", "decoder", "output")
Use = Literal["decode", "score", "train"]
ADDRESS = "compute.address"
_NO_CLUSTER_NAMED = ("local", "auto")  # of compute.address: this machine, and the one that the user is on


class Named(NamedTuple):
    """Something that a configuration has executed.

    Attributes:
        key: Where it stands.
        path: ``package.module:name``; of ``compute.address`` the address.
        use: What it is needed for: to decode, to score what was decoded as well, to train alone.
    """

    key: str
    path: str
    use: Use

    @property
    def module(self) -> str | None:
        """What is imported; None of an address."""
        return None if self.key == ADDRESS else self.path.partition(":")[0]


def named_code(config: Mapping[str, Any]) -> list[Named]:
    """What a configuration names, in the order of its keys.

    Args:
        config: As a run or checkpoint holds it. Values of wrong types name nothing.
    """
    return list(dict.fromkeys(_named(config)))


def _named(config: Mapping[str, Any]) -> Iterator[Named]:
    task, policy, report = (_section(config, name) for name in ("task", "policy", "report"))
    if isinstance(task.get("id"), str) and ":" in task["id"]:
        yield Named("task.id", task["id"], "decode")
    yield from _within("task.arguments", task.get("arguments"), "decode")
    yield from (Named("task.reward", name, "score") for name in _section(task, "reward") if ":" in str(name))
    for slot in SLOTS:
        part = _section(policy, slot)
        if isinstance(part.get("class"), str):
            yield Named(f"policy.{slot}.class", part["class"], "decode")
        yield from _within(f"policy.{slot}.arguments", part.get("arguments"), "decode")
    loggers = report.get("loggers")
    for name in loggers if isinstance(loggers, list | tuple) else ():
        if ":" in str(name):
            yield Named("report.loggers", str(name), "train")
    address = _section(config, "compute").get("address")
    if isinstance(address, str) and address not in _NO_CLUSTER_NAMED:
        yield Named(ADDRESS, address, "train")  # a driver exchanges pickles with whoever answers there


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def _within(key: str, value: Any, use: Use) -> Iterator[Named]:
    """Import paths among arguments: a task may have them imported, as ours have their rewards."""
    if isinstance(value, str) and IMPORT_PATH.fullmatch(value):
        yield Named(key, value, use)
    elif isinstance(value, Mapping):
        for name, below in value.items():
            yield from _within(key, name, use)
            yield from _within(f"{key}.{name}", below, use)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _within(key, below, use)
