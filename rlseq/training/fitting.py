"""Whether arrays of a checkpoint are those of a policy: names, shapes and types, before any of them is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from rlseq.models.policy import SequencePolicy, is_for_training
from rlseq.training.checkpoint import Checkpoint, CheckpointError, Tensors

_OF_OPTIMIZER = ("exp_avg", "exp_avg_sq")
_SHOWN = 10


def check_fit(checkpoint: Checkpoint, policy: SequencePolicy) -> None:
    """Refuse weights, and a state if it was read, that are not of this policy.

    Raises:
        CheckpointError: Something is missing, too much, or of another shape or type; a line for each array.
    """
    expected = dict(policy.state_dict())
    wrong = list(_differences(checkpoint.weights, expected))
    for prefix in ("policy/", "average/", "reference/"):
        of_prefix = {n: a for n, a in (checkpoint.state or {}).items() if n.startswith(prefix)}
        if of_prefix or (prefix == "policy/" and checkpoint.state is not None):
            wrong += _differences(of_prefix, {f"{prefix}{name}": tensor for name, tensor in expected.items()})
    wrong += _wrong_moments(checkpoint.state or {}, policy)
    if wrong := list(dict.fromkeys(wrong)):
        more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        lines = [f"checkpoint {checkpoint.directory} does not fit the policy of its configuration:"]
        remedy = "use the code and configuration that wrote it, copy it again from where it came, or use another one"
        raise CheckpointError("\n".join([*lines, *(f"  {line}" for line in wrong[:_SHOWN] + more), remedy]))


def _wrong_moments(state: Tensors, policy: SequencePolicy) -> list[str]:
    """What is wrong with what the optimiser goes on from; an array that belongs to nothing is, too."""
    wrong = []
    parameters = {f"optimizer/{name}": tensor for name, tensor in policy.named_parameters()}
    for name, array in state.items():
        owner, _, key = name.rpartition("/")
        if name.startswith("optimizer/") and is_for_training(owner.removeprefix("optimizer/")):
            continue
        if name.startswith("optimizer/") and (owner not in parameters or key not in (*_OF_OPTIMIZER, "step")):
            wrong.append(f"{name}: the policy has no such parameter")
        elif name.startswith("optimizer/"):
            shape = tuple(parameters[owner].shape) if key in _OF_OPTIMIZER else ()
            if array.shape != shape or array.dtype.kind != "f":
                wrong.append(f"{name}: {array.dtype}{list(array.shape)}, the policy needs float{list(shape)}")
        elif not name.startswith(("policy/", "average/", "reference/")):
            wrong.append(f"{name}: belongs to nothing")
    parts = {*_OF_OPTIMIZER, "step"}
    for owner in parameters:
        found = {part for part in parts if f"{owner}/{part}" in state}
        wrong += [f"{owner}/{part}: missing" for part in sorted(parts - found) if found]
    return wrong


def _differences(found: Tensors, expected: Mapping[str, torch.Tensor]) -> Iterator[str]:
    for name in dict.fromkeys([*expected, *found]):
        if (name not in found or name not in expected) and is_for_training(name.split("/")[-1]):
            continue
        if name not in found:
            yield f"{name}: missing"
        elif name not in expected:
            yield f"{name}: the policy has no such array"
        else:
            theirs, ours = found[name], expected[name]
            dtype = str(ours.dtype).removeprefix("torch.")
            if theirs.shape != tuple(ours.shape) or str(theirs.dtype) != dtype:
                yield f"{name}: {theirs.dtype}{list(theirs.shape)}, the policy needs {dtype}{list(ours.shape)}"
