"""Networks of the user's: a class named by its import path, in the place of one of ours."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from rlseq.config.parts import OwnPartConfig, PartConfig
from rlseq.config.section import PolicySection
from rlseq.models.policy import SequencePolicy, length_mask, shift_right
from rlseq_envs.source import Source
from rlseq_envs.user_code import search_working_directory

_TOLERANCE = 1e-4  # of a probability


def find_class(slot: str, config: OwnPartConfig, interface: type[nn.Module]) -> type[nn.Module]:
    """The class of the user's for a slot.

    Args:
        slot: Its key in the policy's section.
        config: What stands there.
        interface: What the class has to be a subclass of.

    Raises:
        ValueError: It cannot be imported, there is none of this name, or it is no subclass.
    """
    module, name = config.class_.split(":")
    search_working_directory()
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        remedy = "its module is needed in the working directory or on PYTHONPATH, also on the machines of workers"
        raise _error(slot, config, f"cannot be imported: {type(error).__name__}: {error}; {remedy}") from error
    if found is None:
        raise _error(slot, config, f"does not exist: module {module!r} has no {name!r}")
    if not (isinstance(found, type) and issubclass(found, interface)):
        raise _error(slot, config, f"is no subclass of {interface.__module__}.{interface.__name__}")
    return found


def make_part(slot: str, made_by: Any, config: PartConfig, sizes: Any) -> Any:
    """A part: a class of ours is called with its sizes and its section, one of the user's with sizes and arguments.

    Raises:
        ValueError: The user's class cannot be made with them.
    """
    if not isinstance(config, OwnPartConfig):
        return made_by(sizes, config)
    try:
        return made_by(sizes, **config.arguments)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise _error(slot, config, f"cannot be made with arguments {config.arguments}: {told}") from error


@torch.no_grad()
def try_out(
    policy: SequencePolicy, config: PolicySection, source: Source[Tensor], targets: Tensor, lengths: Tensor
) -> None:
    """Have a policy with parts of the user's read instances, at once and step by step.

    Args:
        policy: It is in evaluation mode afterwards.
        config: Its section.
        source: Some sources.
        targets: (batch_size, time) their references.
        lengths: (batch_size,).

    Raises:
        ValueError: A part raises, or a step gives another distribution than teacher forcing.
    """
    parts = ", ".join(f"policy.{slot}.class {section.class_}" for slot, section in config.own_parts.items())
    try:
        memory = policy.eval().encode(source)
        forced = policy.token_logits(memory, targets, lengths).softmax(-1)
        state, stepped = policy.initial_state(memory), []
        for time, tokens in enumerate(shift_right(targets).unbind(1)):
            logits, state, _ = policy.step(tokens, time, state, memory)
            stepped.append(logits.softmax(-1))
        difference = (torch.stack(stepped, 1)[length_mask(lengths, targets.shape[1])] - forced).abs().max()
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise ValueError(f"{parts}: failed on {source.size} training instances with {told}") from error
    if not difference < _TOLERANCE:
        raise ValueError(
            f"{parts}: a step does not give what teacher forcing gives, probabilities differ by {difference:.2g}: "
            "a step may depend on the tokens before it alone, and must not change what it is given"
        )


def _error(slot: str, config: OwnPartConfig, what: str) -> ValueError:
    return ValueError(f"policy.{slot}.class: {config.class_} {what}")
