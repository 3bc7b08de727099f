"""Spaces × encoders × decoders × outputs: each combination runs, or is refused with keys that make it run."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
import yaml

from rlseq.config.explain import every_path
from rlseq.config.policy import PolicyConfig
from rlseq.data.tasks import make_task
from rlseq.models.build import NETWORKS, build_policy
from rlseq.models.policy import length_mask
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.settings import TaskSettings
from rlseq_envs.spaces import Choices, Space
from tests.models.toys import (
    DECODERS,
    ENCODERS,
    SIZE,
    VOCABULARY,
    WORDS,
    GridEncoder,
    HalvingEncoder,
    NamingEncoder,
    NoSourceEncoder,
    StoryEncoder,
    ToyEncoder,
    own,
)
from tests.support import shaken, sources, stepped_log_probs, targets

TEXT, VECTORS = {"text": Space.of_tokens(WORDS, 9)}, {"points": Space.of_vectors(2, 9)}
SPACES = {
    "text": TaskSpaces(TEXT, Choices(9, VOCABULARY)),
    "text of one vocabulary": TaskSpaces(TEXT, Choices(9, WORDS, same_as="text")),
    "text that is pointed at": TaskSpaces(TEXT, Choices(10, points_to="text")),
    "points": TaskSpaces(VECTORS, Choices(10, points_to="points")),
    "points with labels": TaskSpaces(VECTORS, Choices(10, VOCABULARY)),
    "picture": TaskSpaces(GridEncoder.sources, Choices(9, VOCABULARY)),
    "regions of a picture": TaskSpaces({"regions": Space((2, 3, 5))}, Choices(9, VOCABULARY)),
    "a vector of a picture": TaskSpaces({"pooled": Space((4,))}, Choices(9, VOCABULARY)),
    "regions and a vector": TaskSpaces({"regions": Space((2, 3, 5)), "pooled": Space((4,))}, Choices(9, VOCABULARY)),
    "story": TaskSpaces(StoryEncoder.sources, Choices(9, VOCABULARY)),
    "nothing": TaskSpaces(NoSourceEncoder.sources, Choices(9, VOCABULARY)),
    "nothing, to be drawn": TaskSpaces(NoSourceEncoder.sources, Choices(9, VOCABULARY, ends=False, columns=3)),
    "text, to be drawn": TaskSpaces(TEXT, Choices(9, VOCABULARY, ends=False, columns=3)),
}
# Every type there is, with its defaults; keys that demand something; classes of the user's.
SECTIONS: dict[str, list[dict[str, Any]]] = {
    slot: [{"type": kind} for kind in networks] for slot, networks in NETWORKS.items()
}
SECTIONS["encoder"] += [own(encoder) for encoder in ENCODERS if encoder is not NamingEncoder]
SECTIONS["decoder"] += [
    {"type": "attention_lstm", "normalise": "none"},
    {"type": "attention_lstm", "normalise": "none", "feed_context": False},
    {"type": "lstm", "reads": "every_step"},
    *map(own, DECODERS),
]
SECTIONS["output"] += [{"type": "vocabulary", "share_embeddings": True}]
WORD_DROPOUT = (0.0, 0.1)
OTHER_VALUES: dict[str, Any] = {
    "dropout": 0.1,
    "word_dropout": 0.1,
    "encoder.attention_dropout": 0.1,
    "encoder.window": 2,
    "encoder.scale_by_log_length": True,
    "encoder.noise": 0.1,
    "decoder.attention_dropout": 0.1,
    "decoder.window": 2,
    "decoder.normalise": "none",
    "decoder.rectified": 0.5,
    "output.mask_revisits": True,
}  # of free keys, none a default
REMEDY = re.compile(r"set (policy\.[\w.]+) to (\w+)")


def reads(encoder: type[ToyEncoder], spaces: TaskSpaces) -> bool:
    """What the user has to know: whether the encoder is for these sources, and has a position for each of theirs."""
    if encoder.sources != TEXT:
        return encoder.sources == spaces.sources
    sequence = [space.is_sequence for space in spaces.sources.values()] == [True]
    return sequence and (encoder is not HalvingEncoder or spaces.choices.points_to is None)


def combinations(spaces: TaskSpaces) -> Iterator[dict[str, Any]]:
    for encoder, decoder, output, word_dropout in itertools.product(*SECTIONS.values(), WORD_DROPOUT):
        if all(reads(toy, spaces) for toy in ENCODERS if own(toy) == encoder):
            parts = {"encoder": encoder, "decoder": decoder, "output": output}
            yield parts | {"hidden_size": SIZE, "dropout": 0.0, "word_dropout": word_dropout}


def problems(section: dict[str, Any], spaces: TaskSpaces) -> list[str]:
    return PolicyConfig.model_validate(section).misfits(spaces.sources, spaces.choices)


def remedied(section: dict[str, Any], spaces: TaskSpaces) -> dict[str, Any]:
    """The section with the first remedy of each problem, again until there is none."""
    for _ in range(3):
        for problem in problems(section, spaces):
            remedy = REMEDY.search(problem)
            assert remedy and remedy[1] in every_path(), problem
            _, *slots, key = remedy[1].split(".")
            value: Any = yaml.safe_load(remedy[2])
            if value == "own":
                value = own(next(toy for toy in ENCODERS if reads(toy, spaces)))
                section = section | {slots[0]: value}
            elif key == "type":
                section = section | {slots[0]: {"type": value}}
            else:
                section = section | ({slots[0]: section[slots[0]] | {key: value}} if slots else {key: value})
    assert problems(section, spaces) == []
    return section


def steps_as_it_is_taught(section: dict[str, Any], spaces: TaskSpaces) -> None:
    policy = shaken(build_policy(PolicyConfig.model_validate(section), spaces))
    source, lengths = sources(policy, [5, 3, 1, 4]), torch.tensor([4, 3, 1, 5])
    rows = targets(policy, source, lengths.tolist())
    with torch.no_grad():
        forced = policy(source, rows, lengths).exp()
        stepped = stepped_log_probs(policy, policy.encode(source), rows).exp()
    real = length_mask(lengths, rows.shape[1])
    torch.testing.assert_close(stepped[real], forced[real], atol=1e-5, rtol=0)
    torch.testing.assert_close(forced[real].sum(-1), torch.ones(int(lengths.sum())))


@pytest.mark.parametrize("name", SPACES)
def test_a_combination_runs_or_says_what_to_set(name: str) -> None:
    spaces, ran = SPACES[name], 0
    for section in combinations(spaces):
        if wrong := problems(section, spaces):
            with pytest.raises(ValueError) as caught:
                build_policy(PolicyConfig.model_validate(section), spaces)
            assert str(caught.value).splitlines() == wrong
            steps_as_it_is_taught(remedied(section, spaces), spaces)
        else:
            steps_as_it_is_taught(section, spaces)
            ran += 1
    assert ran


def test_there_are_many_of_either_kind() -> None:
    found = Counter(bool(problems(section, spaces)) for spaces in SPACES.values() for section in combinations(spaces))
    assert found[False] > 100 and found[True] > 100, found


def test_no_weight_depends_on_a_free_key() -> None:
    tried = set()
    for spaces in SPACES.values():
        for section in combinations(spaces):
            config = PolicyConfig.model_validate(section)
            if config.own_parts or problems(section, spaces):
                continue
            weights = shapes(config, spaces)
            for path in config.free_keys:
                *slots, key = path.split(".")
                changed = (section[slots[0]] if slots else {}) | {key: OTHER_VALUES[path]}
                other = section | ({slots[0]: changed} if slots else changed)
                if not problems(other, spaces):
                    assert shapes(PolicyConfig.model_validate(other), spaces) == weights, path
                    tried.add(path)
    assert tried == OTHER_VALUES.keys()


def shapes(config: PolicyConfig, spaces: TaskSpaces) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: weight.shape for name, weight in build_policy(config, spaces).state_dict().items()}


def test_every_problem_is_told_at_once() -> None:
    decoder = {"type": "attention_lstm", "normalise": "none", "feed_context": False}
    section = {"hidden_size": 7, "word_dropout": 0.1, "decoder": decoder, "output": {"type": "pointer"}}
    wrong = problems(section, SPACES["points"])
    assert [remedy[1] for problem in wrong if (remedy := REMEDY.search(problem))] == [
        "policy.hidden_size",
        "policy.decoder.feed_context",
        "policy.word_dropout",
    ]
    assert remedied(section, SPACES["points"])["hidden_size"] == 8


def test_unnormalised_attention_reads_the_sum_of_scores_times_values() -> None:
    """With masked revisits and shared sources, too: what must not be read has weight 0."""
    keys = {"hidden_size": SIZE, "dropout": 0.0, "output": {"type": "pointer", "mask_revisits": True}}
    section = keys | {"decoder": {"type": "attention_lstm", "normalise": "none"}}
    policy = shaken(build_policy(PolicyConfig.model_validate(section), SPACES["points"]))
    memory = policy.encode(sources(policy, [5, 3]))
    state = policy.initial_state(memory)
    tokens = torch.tensor([2, 1])
    _, state, attention = policy.step(tokens, 0, state, memory)
    bank = memory.banks["source"]
    hidden = state.decoder.hidden
    scores = (hidden[:, None] * bank.keys[0]).sum(-1)
    readable = bank.mask.clone()
    readable[torch.arange(2), tokens] = False
    expected = torch.where(readable, scores, 0.0)
    torch.testing.assert_close(attention, expected)
    assert not torch.allclose(attention.sum(1), torch.ones(2))
    torch.testing.assert_close(state.fed, (expected[:, :, None] * bank.values).sum(1))


@pytest.mark.parametrize("settings", [kind for kind in get_args(TaskSettings) if kind.type != "custom"])
def test_an_outline_is_what_the_task_turns_out_to_be(settings: Any) -> None:
    made = settings()
    outline = made.outline()
    assert outline is not None
    task = make_task(made)
    found, told = dict(TaskSpaces(*outline).facts()), dict(TaskSpaces.of(task).facts())
    assert found.keys() == told.keys()
    unknown = {"choices.size"} | {key for key in told if key.endswith(".tokens")}  # sizes of a vocabulary
    assert {key for key in found if found[key] != told[key]} <= unknown
