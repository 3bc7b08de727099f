"""A memory network trained on stories: ours beside the paper's sums over padded sentences."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench_rows.measure import Figures, at_least, speedup
from rlseq.config.policy import PolicyConfig
from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.settings import StorySettings
from rlseq_envs.source import Source

VOCABULARY, SIZE, BATCH, SENTENCES, WORDS, TOKENS = 180, 50, 64, 50, 11, 2


def _policy() -> EncoderDecoder:
    """Three hops, adjacent embeddings tied."""
    section = {"hidden_size": SIZE, "dropout": 0.0, "encoder": "story", "decoder": "memory_network"}
    config = PolicyConfig.model_validate({**section, "output": {"type": "vocabulary", "share_embeddings": True}})
    return build_policy(config, TaskSpaces(*StorySettings().spaces(VOCABULARY))).eval()


def _batch() -> tuple[Source[Tensor], Tensor]:
    """Stories of 2 to 50 sentences, most of them short, as those of the bAbI tasks are; answers of one word."""
    generator = torch.Generator().manual_seed(0)
    counts = (2 + 48 * torch.rand(BATCH, generator=generator) ** 3).long()
    counts[0] = SENTENCES
    lengths = torch.randint(3, 8, (BATCH, SENTENCES), generator=generator)
    lengths[0, 0] = WORDS
    lengths = lengths * (torch.arange(SENTENCES) < counts[:, None])
    story = torch.randint(2, VOCABULARY, (BATCH, SENTENCES, WORDS), generator=generator)
    question = torch.randint(2, VOCABULARY, (BATCH, 6), generator=generator)
    answers = F.pad(torch.randint(2, VOCABULARY, (BATCH, 1), generator=generator), (0, 1))
    return Source.of(story=(story, lengths), question=(question, torch.full((BATCH,), 6))), answers


def _plain_loss(policy: EncoderDecoder, source: Source[Tensor], answers: Tensor) -> Tensor:
    """Every word of every padded sentence times the weight of its place, for each embedding; then the hops."""
    weights = dict(policy.named_parameters())
    tables = [weights[f"encoder.tables.{hop}.table.weight"] for hop in range(3)] + [weights["output.weight"]]
    story, question = source.fields["story"], source.fields["question"]
    assert story.lengths is not None and question.lengths is not None

    def summed(words: Tensor, lengths: Tensor, table: Tensor) -> Tensor:
        place = torch.arange(1, words.shape[-1] + 1)
        share = (place / lengths.clamp_min(1)[..., None])[..., None]
        feature = torch.arange(1, SIZE + 1) / SIZE
        counted = (place <= lengths[..., None])[..., None]
        return (table[words] * ((1 - share) - feature * (1 - 2 * share)) * counted).sum(-2)

    there = story.lengths > 0
    ages = (there.sum(1, keepdim=True) - there.cumsum(1)).clamp_min(0)
    memories = [summed(*story, table) + weights[f"encoder.ages.{i}"][ages] for i, table in enumerate(tables)]  # type: ignore[arg-type]
    asked = summed(question.values, question.lengths, tables[0])
    word = SIZE**0.5 * weights["output.weight"][answers[:, 0]]
    again = asked + F.linear(word, weights["decoder.answered.weight"], weights["decoder.answered.bias"])
    state = torch.stack([asked, again], 1)
    for hop in range(3):
        matches = (state @ memories[hop].mT).masked_fill(~there[:, None], -1e9)
        state = state + matches.softmax(-1) @ memories[hop + 1]
    logits = F.linear(state, weights["output.weight"], weights["output.bias"])
    return F.cross_entropy(logits.flatten(0, 1), answers.flatten())


@at_least(1.5)
def memory_network_vs_plain(quick: bool) -> Figures:
    """The gradient of a batch of 64 stories: sums over padded sentences, by the same weights, over ours."""
    policy, (source, answers) = _policy(), _batch()
    lengths = torch.full((BATCH,), TOKENS)

    def ours(turn: int) -> Tensor:
        loss = F.cross_entropy(policy.token_logits(policy.encode(source), answers, lengths), answers.flatten())
        loss.backward()
        return loss.detach()

    def other(turn: int) -> Tensor:
        loss = _plain_loss(policy, source, answers)
        loss.backward()
        return loss.detach()

    torch.testing.assert_close(ours(0), other(0))
    return speedup(ours, other, 4 if quick else 12)
