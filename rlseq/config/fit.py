"""Which networks go with which tasks: every reason why one does not, before any data is read."""

from __future__ import annotations

from collections.abc import Mapping

from rlseq.config.policy import PolicyConfig
from rlseq_envs.spaces import Choices, Space


def misfits(policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
    """What of a policy goes neither with its task nor with the rest of it.

    Args:
        policy: The section.
        sources: What the task's sources are made of; sizes may be unknown, 0.
        choices: What can be emitted.

    Returns:
        A line for each problem, with the key to be set and its value.
    """
    slots = (policy.encoder, policy.decoder, policy.output)
    wrong = [problem for slot in slots for problem in slot.misfits(policy, sources, choices)]
    if policy.word_dropout and choices.size is None and all(space.tokens is None for space in sources.values()):
        wrong.append(
            "policy.word_dropout leaves out words, but neither side of the task has any: set policy.word_dropout to 0"
        )
    return wrong
