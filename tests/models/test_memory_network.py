"""Memory networks against a plain implementation of the paper's equations, one story at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.encoders.story import StoryEncoder, place_weights
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.source import Source
from rlseq_envs.task import Ints
from rlseq_envs.tasks.story import StoryTask
from tests.support import policy_config, random_stories, stepped_log_probs, story_policy

ANSWERS = torch.tensor([[3, 0, 0], [2, 5, 0], [0, 1, 1], [8, 8, 1]])


def plain(policy: EncoderDecoder, source: Source[Tensor], row: int, answers: list[int], **keys: Any) -> Tensor:
    """Logits of each word of one answer, by the equations of Sukhbaatar et al. 2015, sec. 2 and 4.1."""
    weights, d = policy.state_dict(), 8
    hops, tying = keys.get("hops", 3), keys.get("tying", "adjacent")
    own = [value for name, value in weights.items() if name.startswith("encoder.tables.")]
    embeddings = [*own, weights["embedding.table.weight"]]
    ages = [value for name, value in weights.items() if name.startswith("encoder.ages.")]

    def vector(words: list[int], embedding: Tensor) -> Tensor:
        total = torch.zeros(d)
        for j, word in enumerate(words, start=1):
            for k in range(1, d + 1):
                place = (1 - j / len(words)) - (k / d) * (1 - 2 * j / len(words))
                total[k - 1] += (place if keys.get("words", "position") == "position" else 1) * embedding[word, k - 1]
        return total

    story, question = source.fields["story"], source.fields["question"]
    assert story.lengths is not None
    sentences = [
        words[: int(length)].tolist()
        for words, length in zip(story.values[row], story.lengths[row], strict=True)
        if length
    ]

    def memories(number: int) -> Tensor:
        rows = [vector(words, embeddings[number]) for words in sentences]
        if ages:
            rows = [row + ages[number][len(rows) - 1 - i] for i, row in enumerate(rows)]
        return torch.stack(rows)

    asked, logits = vector(question.values[row].tolist(), embeddings[0]), []
    for step in range(len(answers)):
        if step:
            word = weights["output.embedding.table.weight"][answers[step - 1]] * d**0.5
            asked = asked + weights["decoder.answered.weight"] @ word + weights["decoder.answered.bias"]
        u = asked
        for hop in range(hops):
            a, c = {"adjacent": (hop, hop + 1), "layer_wise": (0, 1), "none": (2 * hop, 2 * hop + 1)}[tying]
            matches = memories(a) @ u
            p = matches.softmax(0) if keys.get("normalise", "softmax") == "softmax" else matches
            kept = weights["decoder.between.weight"] @ u if tying == "layer_wise" else u
            u = kept + p @ memories(c)
            rectified = round(keys.get("rectified", 0.0) * d)
            u[:rectified] = u[:rectified].clamp_min(0.0)
        logits.append(weights["output.weight"] @ u + weights["output.bias"])
    return torch.stack(logits).log_softmax(-1)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"hops": 1},
        {"tying": "layer_wise"},
        {"tying": "none", "hops": 2},
        {"words": "bag"},
        {"temporal": False},
        {"normalise": "none", "hops": 1},
        {"rectified": 0.5},
        {"rectified": 1.0, "tying": "layer_wise"},
        {"share_embeddings": True},
    ],
    ids=str,
)
def test_answers_are_those_of_the_equations(keys: dict[str, Any]) -> None:
    policy = story_policy(**keys)
    source = random_stories(torch.tensor([5, 1, 3, 4]), 9, torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = stepped_log_probs(policy, policy.encode(source), ANSWERS)
        for row, answer in enumerate(ANSWERS.tolist()):
            torch.testing.assert_close(found[row], plain(policy, source, row, answer, **keys), atol=2e-5, rtol=1e-5)


def test_the_output_may_be_what_the_last_hop_reads() -> None:
    policy = story_policy(share_embeddings=True)
    assert policy.output.head is not None
    assert policy.output.head[0] is policy.embedding.table.weight


def test_noise_ages_sentences_in_training_alone() -> None:
    policy = story_policy(noise=0.5)
    encoder = policy.encoder
    assert isinstance(encoder, StoryEncoder)
    there = torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
    assert encoder._ages(there).tolist() == [[3, 2, 1, 0], [1, 0, 0, 0]]
    policy.train()
    torch.manual_seed(0)
    drawn = torch.stack([encoder._ages(there) for _ in range(200)])
    gaps = drawn[:, 0, :-1] - drawn[:, 0, 1:]
    assert (drawn[:, 0, -1] == 0).all() and drawn.max() == encoder.oldest == 4
    assert set(gaps[:, -1].tolist()) == {1, 2} and 0.4 < (gaps[:, -1] == 2).float().mean() < 0.6


def test_a_longer_story_than_there_are_ages_has_them_equal() -> None:
    policy = story_policy()
    source = random_stories(torch.tensor([9]), 9, torch.Generator().manual_seed(0))
    assert isinstance(policy.encoder, StoryEncoder)
    assert policy.encoder._ages(torch.ones(1, 9, dtype=torch.bool)).tolist() == [[4, 4, 4, 4, 4, 3, 2, 1, 0]]
    assert torch.isfinite(policy(source, torch.tensor([[0]]), torch.tensor([1]))).all()


def test_weights_of_places_do_not_depend_on_padding() -> None:
    wide, narrow = (place_weights(torch.tensor([2, 0, 3]), longest) for longest in (7, 3))
    torch.testing.assert_close(wide[:, :, :3], narrow)
    assert not wide[:, :, 3:].any() and not wide[1].any() and not wide[0, :, 2].any()


def test_it_learns_where_people_are() -> None:
    task = StoryTask(questions=("person", "object"), sentences=(3, 6))
    sections = {"encoder": "story", "decoder": "memory_network", "output": {"type": "vocabulary"}}
    policy = build_policy(policy_config(sections, hidden_size=24, dropout=0.0), TaskSpaces.of(task))
    optimizer = torch.optim.Adam(policy.parameters(), 0.01)

    def read(ids: Ints) -> tuple[Source[Tensor], Tensor, Tensor]:
        answers, lengths = task.references(ids)
        return task.source(ids).map(torch.from_numpy), torch.from_numpy(answers), torch.from_numpy(lengths)

    for update in range(250):
        source, answers, lengths = read(np.arange(64 * update, 64 * (update + 1)))
        loss = -policy(source, answers, lengths).gather(-1, answers[:, :, None]).sum() / 64
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    ids = task.instances("validation").ids(0, 500)
    source, answers, lengths = read(ids)
    chosen = policy.eval()(source, answers, lengths).argmax(-1)
    right = (chosen[:, 0] == answers[:, 0]).numpy()
    asks_for_thing = source.fields["question"].lengths.numpy() == 4
    assert right[~asks_for_thing].mean() > 0.85 and right[asks_for_thing].mean() > 0.5, (right.mean(), loss)
