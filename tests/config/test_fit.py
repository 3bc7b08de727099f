"""Every kind of policy with every kind of task: it is built and decodes, or is refused with a remedy that works."""

from __future__ import annotations

import itertools
import re
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter

from rlseq.config.fit import misfits
from rlseq.config.policy import PolicyConfig
from rlseq.data.tasks import make_task
from rlseq.models.build import build_policy
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.settings import TaskSettings
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space

SOURCES: dict[str, dict[str, Space]] = {
    "nothing": {},
    "tokens": {"text": Space.of_tokens(9, 5)},
    "vectors": {"points": Space.of_vectors(2, 5)},
    "picture": {"picture": Space((4, 6, 1), dtype="uint8")},
    "story": {"story": Space((None, None), (4, 3), 9, "int64")},
    "two": {"story": Space((None, None), (4, 3), 9, "int64"), "question": Space.of_tokens(9, 2)},
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "attention": [{}, {"share_embeddings": True}],
    "pointer": [{}, {"mask_revisits": True}],
}
POLICIES = [
    {"type": kind, "hidden_size": size} | keys for kind, each in OPTIONS.items() for keys in each for size in (8, 7)
]
RAN, REFUSED = 5, 139  # combinations of these policies with these tasks


def tasks() -> list[TaskSpaces]:
    """Every source with a vocabulary, with the vocabulary of its own field, and with positions of each field."""
    found = []
    for sources in SOURCES.values():
        found.append(TaskSpaces(sources, Choices(6, 9)))
        for field in sources:
            found.append(TaskSpaces(sources, Choices(6, points_to=field)))
            found.append(TaskSpaces(sources, Choices(6, 9, same_as=field)))
    return found


def policy_of(keys: dict[str, Any]) -> PolicyConfig:
    made: PolicyConfig = TypeAdapter(PolicyConfig).validate_python(keys)
    return made


def remedied(keys: dict[str, Any], told: str) -> dict[str, Any] | None:
    """The keys changed as the line says; None if no key is named as the remedy."""
    found = re.search(r"^policy\.(\w+).* set it to ('?)(\w+)\2", told)
    if found is None:
        return None
    key, value = found[1], found[3]
    assert key in keys
    kept = {name: keys[name] for name in ("type", "hidden_size")} if key == "type" else keys
    return kept | {key: {"false": False}.get(value, int(value) if value.isdigit() else value)}


def decode(keys: dict[str, Any], spaces: TaskSpaces) -> None:
    policy = build_policy(policy_of(keys), spaces).eval()
    ((name, space),) = spaces.sources.items()
    values = torch.zeros(2, 3, dtype=torch.int64) if space.tokens else torch.rand(2, 3, 2)
    memory = policy.encode(Source.of(**{name: (values, torch.tensor([3, 2]))}))
    logits, _, _ = policy.step(torch.zeros(2, dtype=torch.int64), 0, policy.initial_state(memory), memory)
    assert logits.shape == (2, spaces.choices.size or 4)


def test_a_policy_does_a_task_or_says_with_key_and_remedy_why_not() -> None:
    ran = refused = 0
    for keys, spaces in itertools.product(POLICIES, tasks()):
        told = misfits(policy_of(keys), spaces.sources, spaces.choices)
        if not told:
            decode(keys, spaces)
            ran += 1
            continue
        refused += 1
        with pytest.raises(ValueError) as refusal:
            build_policy(policy_of(keys), spaces)
        assert str(refusal.value) == "\n".join(told)
        for line in told:
            assert re.match(rf"policy\.({'|'.join(keys)}) ", line) and re.search(r": .*(set it to|take a)", line)
            changed = remedied(keys, line)
            if changed is not None:
                assert line not in misfits(policy_of(changed), spaces.sources, spaces.choices)
    assert (ran, refused) == (RAN, REFUSED)


@pytest.mark.parametrize("settings", [kind for kind in get_args(TaskSettings) if kind.type != "custom"])
def test_an_outline_is_what_the_task_turns_out_to_be(settings: Any) -> None:
    made = settings()
    outline = made.outline()
    assert outline is not None
    task = make_task(made)
    found, told = dict(TaskSpaces(*outline).facts()), dict(TaskSpaces.of(task).facts())
    assert found.keys() == told.keys()
    assert {key for key in found if found[key] != told[key]} <= {"choices.size", "sources.text.tokens"}
