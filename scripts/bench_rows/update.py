"""Whole updates: rl beside cross-entropy, and both beside the usual tutorial."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import sacrebleu
import torch
from torch import Tensor

from bench_rows.measure import Figures, Goal, at_least, cost, register, speedup
from bench_rows.naive import NaiveTranslator, categorical, cross_entropy, greedy, policy_gradient_loss
from bench_rows.policies import zipf_biases
from bench_rows.task import IdTask, id_config
from rlseq.config.phases import Phase
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.training.batch import Batch, mle_batch, rl_batch
from rlseq.training.engine import UpdateRequest
from rlseq.training.plain import PlainEngine
from rlseq.training.rollout import RolloutRequest
from rlseq.training.update import batch_loss
from rlseq_envs.env import SequenceVectorEnv

VOCABULARY, SIZE, BATCH = 8000, 512, 64
RATE = 1e-6  # both sides stay where they start, so that every turn does the same work
MOST_IDLE = 0.1  # share of sampled tokens without advantage, whose rows our update may skip


class Ours:
    """Our plain loop on ``IdTask``; its untrained policy emits tokens by Zipf's law, so that rewards differ.

    Every turn has the same batch: the fastest one is not the one with least to do.
    """

    def __init__(self, size: int, phase: Phase, vocabulary_size: int = VOCABULARY, batch: int = BATCH):
        self.task, self.phase = IdTask(vocabulary_size), phase
        self.ids = self.task.instances("train").ids(0, batch)
        config = id_config(vocabulary_size, size, batch, shard_size=batch)
        self.engine = PlainEngine(config, self.task, SequenceVectorEnv(self.task).rollout)
        policy = self.engine.trainee.policy
        assert isinstance(policy, EncoderDecoder)
        self.policy = policy
        weights = {name: value.detach().clone().numpy() for name, value in policy.state_dict().items()}
        self.engine.set_weights(weights | {"output.bias": zipf_biases(self.task.token_distribution())})
        self.engine.start_phase(phase)

    def update(self, turn: int) -> dict[str, float]:
        """One optimiser step; its statistics."""
        return self.engine.update([UpdateRequest(self.phase, turn, turn, self.ids, RATE)])[0]


class Tutorial:
    """The same model and task with padded batches, per-step decoding, sacrebleu on strings and torch's default Adam."""

    def __init__(self, ours: Ours) -> None:
        self.ours, self.task = ours, ours.task
        self.model = NaiveTranslator(ours.policy)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)
        self.metric = sacrebleu.BLEU(effective_order=True)

    def mle(self, turn: int) -> None:
        """One update by cross-entropy."""
        source, lengths, targets, target_lengths = self.batch()
        self._step(cross_entropy(self.model, source, lengths, targets, _real(targets, target_lengths)))

    def rl(self, turn: int) -> None:
        """One self-critical update (Rennie et al. 2017): sample, greedy baseline, rewards, scoring anew."""
        source, lengths, targets, target_lengths = self.batch()
        limits = torch.from_numpy(self.task.length_limits(lengths.numpy()))
        sampled, sampled_lengths = self.model.decode(source, lengths, limits, categorical)
        best, best_lengths = self.model.decode(source, lengths, limits, greedy)
        references = _texts(targets, target_lengths)
        reward = self._score(_texts(sampled, sampled_lengths), references)
        advantage = reward - self._score(_texts(best, best_lengths), references)
        real = _real(sampled, sampled_lengths)
        self._step(policy_gradient_loss(self.model, source, lengths, sampled, real, advantage))

    def batch(self) -> list[Tensor]:
        """Sources, their lengths, references, theirs: padded tensors."""
        ids = self.ours.ids
        return [torch.from_numpy(array) for array in (*self.task.sentences(ids), *self.task.references(ids))]

    def _score(self, texts: list[str], references: list[str]) -> Tensor:
        pairs = zip(texts, references, strict=True)
        return torch.tensor([self.metric.sentence_score(text, [reference]).score for text, reference in pairs])

    def _step(self, loss: Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _real(tokens: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(tokens.shape[1]) < lengths[:, None]


def _texts(tokens: Tensor, lengths: Tensor) -> list[str]:
    rows = zip(tokens.tolist(), lengths.tolist(), strict=True)
    return [" ".join(f"w{token}" for token in row[:length]) for row, length in rows]


def check_greedy(ours: Ours, tutorial: Tutorial) -> None:
    """Hold both sides to the same greedy tokens.

    Raises:
        RuntimeError: They differ.
    """
    ids = ours.ids
    found = ours.engine.rollout(ids, RolloutRequest(0, True, 0), averaged=False).sequences[:, -1]
    source, lengths = (torch.from_numpy(array) for array in ours.task.sentences(ids))
    limits = torch.from_numpy(ours.task.length_limits(lengths.numpy()))
    expected = tutorial.model.decode(source, lengths, limits, greedy)[0].numpy()
    if not np.array_equal(found, expected):
        raise RuntimeError("the tutorial's greedy output is another one")


def check_loss(ours: Ours, tutorial: Tutorial) -> None:
    """Hold both sides to the same loss: of the references, or of one draw of ours with its advantages.

    Raises:
        RuntimeError: They differ.
    """
    batch, expected = _mle_loss(ours, tutorial) if ours.phase == "mle" else _rl_loss(ours, tutorial)
    tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
    found, _ = batch_loss(ours.policy, None, tensors, ours.engine.config.phase(ours.phase))
    if not math.isclose(found.item(), expected, rel_tol=1e-4):
        raise RuntimeError(f"the tutorial's loss is {expected}, ours {found.item()}")


def _mle_loss(ours: Ours, tutorial: Tutorial) -> tuple[Batch, float]:
    source, lengths, targets, target_lengths = tutorial.batch()
    loss = cross_entropy(tutorial.model, source, lengths, targets, _real(targets, target_lengths))
    return mle_batch(ours.task, ours.ids, ours.engine.config.mle, 0), loss.item()


def _rl_loss(ours: Ours, tutorial: Tutorial) -> tuple[Batch, float]:
    drawn = ours.engine.rollout(ours.ids, RolloutRequest(1, True, 0), averaged=False)
    source, lengths, *_ = tutorial.batch()
    sampled, ends = torch.from_numpy(drawn.sequences[:, 0]), torch.from_numpy(drawn.lengths[:, 0])
    advantage = torch.from_numpy(drawn.rewards[:, 0] - drawn.rewards[:, 1]).float()
    loss = policy_gradient_loss(tutorial.model, source, lengths, sampled, _real(sampled, ends), advantage)
    return rl_batch(ours.task, drawn, ours.engine.config.rl)[0], loss.item()


def _note(ours: Ours) -> str:
    """How many sampled tokens have no advantage, from an update made for this.

    Raises:
        RuntimeError: So many that our update would have less to do than a real one.
    """
    idle = ours.update(0)["rollout/zero_advantage_frac"]
    if idle > MOST_IDLE:
        raise RuntimeError(f"{idle:.0%} of the sampled tokens have no advantage: nothing to compare")
    return f"{idle:.0%} of the sampled tokens without advantage"


# ------------------------------------------------------------------------------------------------------------- rows
def checked_tutorial(ours: Ours) -> Tutorial:
    """The other side, once it is known to do the same."""
    tutorial = Tutorial(ours)
    check_greedy(ours, tutorial)
    check_loss(ours, tutorial)
    return tutorial


def _rl_over_mle(size: int) -> Callable[[bool], Figures]:
    def measure(quick: bool) -> Figures:
        rl, mle = Ours(size, "rl"), Ours(size, "mle")
        return cost(rl.update, mle.update, 4 if quick else 24, _note(rl))

    return measure


register("rl_over_mle", _rl_over_mle(512), Goal(1.5, smaller_is_better=True))
register("rl_over_mle_256", _rl_over_mle(256), Goal(1.65, smaller_is_better=True))


@at_least(3.5, beside_default=True)
def rl_vs_naive_rl(quick: bool) -> Figures:
    """One self-critical update: the tutorial's over ours."""
    ours = Ours(SIZE, "rl")
    tutorial = checked_tutorial(ours)
    return speedup(ours.update, tutorial.rl, 3 if quick else 8, _note(ours))


@at_least(2.0, beside_default=True)
def mle_vs_naive_mle(quick: bool) -> Figures:
    """One update by cross-entropy: the tutorial's over ours."""
    ours = Ours(SIZE, "mle")
    tutorial = checked_tutorial(ours)
    return speedup(ours.update, tutorial.mle, 4 if quick else 12)
