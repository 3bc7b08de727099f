"""Which policies can do which tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rlseq.config.policy import AttentionPolicyConfig, PolicyConfig
from rlseq_envs.spaces import Choices, Space

# What each type of policy reads, and what it emits.
_DOES = {"attention": ("tokens", "tokens of a vocabulary"), "pointer": ("vectors", "positions of them")}


def misfits(policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
    """Why a policy cannot do a task: a line for each reason, with the key and the remedy.

    Args:
        policy: Its section.
        sources: The fields of the task's sources; a size that is not known yet may be 0.
        choices: What can be emitted; likewise.
    """
    return [*_of_the_task(policy, sources, choices), *_of_sizes(policy)]


def _of_the_task(policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> Iterator[str]:
    kind = f"policy.type {policy.type!r}"
    if len(sources) != 1:
        yield f"{kind} reads one field of a source, and the task has {len(sources)}: take another task"
        return
    ((name, space),) = sources.items()
    tokens = space.tokens is not None
    if len(space.axes) != (1 if tokens else 2):
        yield f"{kind} reads a sequence, and {name!r} has axes {space.axes}: take a task of tokens or vectors"
        return
    points = choices.points_to == name
    asked = ("tokens" if tokens else "vectors", "positions of them" if points else "tokens of a vocabulary")
    if asked != _DOES[policy.type]:
        others = [f"set it to {other!r}" for other, does in _DOES.items() if does == asked]
        reads, emits = _DOES[policy.type]
        yield (
            f"{kind} goes from {reads} to {emits}, and the task from {asked[0]} to {asked[1]}: "
            f"{others[0] if others else 'no type does that, take another task'}"
        )
    elif isinstance(policy, AttentionPolicyConfig) and policy.share_embeddings and choices.same_as != name:
        yield (
            "policy.share_embeddings needs one vocabulary for both sides, and the task has two: set it to false, "
            "or task.shared_vocabulary to true"
        )


def _of_sizes(policy: PolicyConfig) -> Iterator[str]:
    size = policy.hidden_size
    if size % 2:
        yield f"policy.hidden_size {size} is odd, and each encoder direction has half of it: set it to {size + 1}"
