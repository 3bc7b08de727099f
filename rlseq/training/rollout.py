"""Rollouts: whole sequences decoded, scored by the environment, in shards of fixed size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlseq.config.rl import RLConfig
from rlseq.config.section import Precision
from rlseq.data.padding import concatenate_padded, concatenate_sources
from rlseq.decoding.encoding import encode_sources
from rlseq.decoding.likelihood import sequence_nats
from rlseq.decoding.sampling import Decoded, Drawing, decode
from rlseq.models.layers.linear import PackedLinear
from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy
from rlseq.objectives.distribution import POLICY, SamplingDistribution
from rlseq_envs.counters import counter_uniforms
from rlseq_envs.scoring import RolloutResult
from rlseq_envs.source import Source, source_sizes
from rlseq_envs.task import Bools, Floats, Ints, SequenceTask

Score = Callable[..., RolloutResult]  # SequenceVectorEnv.rollout: ids, sequences, with_potentials → rewards


@dataclass(frozen=True)
class RolloutRequest:
    """What is to be decoded of each instance, and what is wanted with it.

    Attributes:
        num_samples: Samples an instance.
        greedy: Decode the greedy sequence, too.
        update: Number of the update the samples are for.
        with_attention: Return the attention, too.
        precision: Of the matrix products of decoding; ``log_probs`` are those of the distribution that is drawn from.
        with_graph: Return the memory with its graph, for an update under the same weights.
        sampled_tokens: How many tokens at the reference's end are left to the policy; None: all there are.
        task_starts: The task gives the first token of each sample, and none of the greedy sequence.
        with_potentials: Score what there is after each token, too.
        score_greedy: Find the log-probabilities of the greedy sequences.
        score_references: Find those of the references, too.
    """

    num_samples: int
    greedy: bool
    update: int
    with_attention: bool = False
    precision: Precision = "fp32"
    with_graph: bool = False
    sampled_tokens: int | None = None
    task_starts: bool = False
    with_potentials: bool = False
    score_greedy: bool = True
    score_references: bool = False

    @classmethod
    def for_update(cls, config: RLConfig, update: int, phase_update: int, with_graph: bool) -> RolloutRequest:
        """Of what an update trains on; ``update`` numbers its samples, ``phase_update`` is its place in the phase."""
        return cls(
            config.drawn,
            config.decodes_greedy,
            update,
            precision=config.sampling_precision,
            with_graph=with_graph,
            score_greedy=False,
            sampled_tokens=config.objective.sampled_tokens(phase_update),
            task_starts=config.starts == "task",
            with_potentials=config.critic is not None and config.critic.shaped,
        )


@dataclass(frozen=True)
class Rollout:
    """Scored sequences, R of them an instance: the samples in order, then the greedy one where ``greedy``.

    Attributes:
        ids: (batch_size,) instances.
        source: What they were generated from, as ``SequenceTask.source`` gave it: the batch reads it no second time.
        sequences: (batch_size, R, time) tokens, END beyond a length.
        lengths: (batch_size, R).
        log_probs: (batch_size, R) of whole sequences, under the distribution they were drawn from; of a greedy one
            0 unless ``score_greedy``.
        rewards: (batch_size, R).
        components: Each named part of the reward, (batch_size, R).
        truncated: (batch_size, R) no END by the limit.
        greedy: The last of the R is the greedy sequence.
        attention: (batch_size, R, time, source_length) if it was asked for; None otherwise.
        memory: The encoded sources with their graph if it was asked for; it stays in its process.
        token_log_probs: (batch_size, R, time) ``log_probs`` token by token, 0 beyond a length.
        given: (batch_size, R) first tokens that were given and not chosen, of log-probability 0; None: none anywhere.
        potentials: (batch_size, R, time) what a sequence had come to after each token, 0 beyond a length; where it was
            asked for.
        reference_nats: (batch_size,) −log p of each instance's reference, if it was asked for.
    """

    ids: Ints
    source: Source[npt.NDArray[Any]]
    sequences: Ints
    lengths: Ints
    log_probs: Floats
    rewards: Floats
    components: dict[str, Floats]
    truncated: Bools
    greedy: bool
    attention: npt.NDArray[np.float32] | None = None
    memory: Memory | None = None
    token_log_probs: npt.NDArray[np.float32] | None = None
    given: Ints | None = None
    potentials: Floats | None = None
    reference_nats: Floats | None = None

    @property
    def num_samples(self) -> int:
        """K, the number of samples an instance."""
        return self.sequences.shape[1] - int(self.greedy)

    def select(self, rows: Ints) -> Rollout:
        """The rollout of some instances, (rows,), in the order given; without the memory."""
        columns: dict[str, Any] = {n: value[rows] for n, value in vars(self).items() if isinstance(value, np.ndarray)}
        components = {name: values[rows] for name, values in self.components.items()}
        return replace(self, **columns, source=self.source.select(rows), components=components, memory=None)

    @staticmethod
    def concatenate(parts: Sequence[Rollout]) -> Rollout:
        """Join shards in order."""
        attention = [p.attention for p in parts if p.attention is not None]
        memories = [p.memory for p in parts if p.memory is not None]
        log_probs = [p.token_log_probs for p in parts if p.token_log_probs is not None]
        given = [p.given for p in parts if p.given is not None]
        potentials = [p.potentials for p in parts if p.potentials is not None]
        nats = [p.reference_nats for p in parts if p.reference_nats is not None]
        return Rollout(
            np.concatenate([p.ids for p in parts]),
            concatenate_sources([p.source for p in parts]),
            concatenate_padded([p.sequences for p in parts]),
            np.concatenate([p.lengths for p in parts]),
            np.concatenate([p.log_probs for p in parts]),
            np.concatenate([p.rewards for p in parts]),
            {name: np.concatenate([p.components[name] for p in parts]) for name in parts[0].components},
            np.concatenate([p.truncated for p in parts]),
            parts[0].greedy,
            concatenate_padded(attention) if attention else None,
            Memory.concatenate(memories) if memories else None,
            concatenate_padded(log_probs) if log_probs else None,
            np.concatenate(given) if given else None,
            concatenate_padded(potentials) if potentials else None,
            np.concatenate(nats) if nats else None,
        )


def shards(ids: Ints, size: int) -> list[Ints]:
    """``ids`` cut into consecutive parts of ``size``, the last one smaller: the unit of work, whoever does it."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def encode(policy: SequencePolicy, source: Source[Tensor], size: int | None) -> Memory:
    """Sources encoded in shards of ``size``, to the last bit as the rollouts of these shards do; None: all at once."""
    if size is None:
        return policy.encode(source)
    starts = range(0, source.size, size)
    return Memory.concatenate([policy.encode(source.part(start, start + size)) for start in starts])


def rollout(
    policy: SequencePolicy,
    task: SequenceTask,
    score: Score,
    parts: Sequence[Ints],
    decoding: RolloutRequest,
    *,
    seed: int,
    distribution: SamplingDistribution = POLICY,
    device: torch.device | str = "cpu",
) -> list[Rollout]:
    """Decode and score instances, shard by shard; a shard is scored in the background while the next one is decoded.

    Tokens depend on (seed, update, instance id, sample index, position) and the shard they are in, on nothing else.

    Args:
        policy: Its mode is left as it was; dropout is off meanwhile.
        task: Gives sources and limits.
        score: The vector environment's ``rollout``; never called twice at once.
        parts: (shard_size,) instances of each shard.
        decoding: What to decode.
        seed: Of the run.
        distribution: Of the samples.
        device: Where the policy is.

    Returns:
        The rollout of each shard.
    """
    mode = policy.training
    policy.eval()
    samples, greedy = decoding.num_samples, decoding.greedy
    rows = max((len(part) for part in parts), default=0) * (samples + int(greedy))
    linear = PackedLinear(rows, torch.bfloat16 if decoding.precision == "bf16" else torch.float32)
    score = partial(score, with_potentials=True) if decoding.with_potentials else score
    scorer = ThreadPoolExecutor(1, "score")
    try:
        scored = []
        for part in parts:
            draw = partial(counter_uniforms, seed, decoding.update, part, samples) if samples else None
            source = task.source(part)
            limits = task.length_limits(source_sizes(source))
            memory = encode_sources(policy, source, device)
            prefixes = _prefixes(task, part, limits, decoding)
            drawing = Drawing(
                uniforms=None if draw is None else torch.from_numpy(draw(int(limits.max()))).to(device),
                greedy=greedy,
                distribution=distribution,
                prefixes=None if prefixes is None else torch.from_numpy(prefixes).to(device),
                score_greedy=decoding.score_greedy,
                with_attention=decoding.with_attention,
            )
            decoded = decode(policy, memory.detach(), torch.from_numpy(limits).to(device), drawing, linear)
            kept = memory if decoding.with_graph else None
            given = None if prefixes is None else (prefixes >= 0).sum(2)
            nats = None
            if decoding.score_references:
                nats = sequence_nats(policy, memory.detach(), *task.references(part))
            scored.append(scorer.submit(_score, score, part, source, decoded, greedy, kept, given, nats))
        return [future.result() for future in scored]
    finally:
        scorer.shutdown(wait=False, cancel_futures=True)  # nobody waits for a reward that hangs once work is given up
        policy.train(mode)


def _prefixes(task: SequenceTask, ids: Ints, limits: Ints, decoding: RolloutRequest) -> Ints | None:
    """What sequences begin with, (batch_size, R, limits.max()), −1 beyond: references without their ends, or starts."""
    if decoding.sampled_tokens is None and not decoding.task_starts:
        return None
    samples = decoding.num_samples
    prefixes = np.full((len(ids), samples + int(decoding.greedy), int(limits.max())), -1)
    if decoding.sampled_tokens is not None:
        references, lengths = task.references(ids)
        given = np.minimum(lengths - decoding.sampled_tokens, limits - 1).clip(0)
        width = min(prefixes.shape[2], references.shape[1])
        prefixes[:, :, :width] = np.where(np.arange(width) < given[:, None], references[:, :width], -1)[:, None]
    else:
        prefixes[:, :samples, 0] = np.where(limits[:, None] > 1, task.starts(ids, samples), -1)
    return prefixes


def _score(
    score: Score,
    ids: Ints,
    source: Source[npt.NDArray[Any]],
    decoded: Decoded,
    greedy: bool,
    memory: Memory | None,
    given: Ints | None,
    reference_nats: Floats | None,
) -> Rollout:
    sequences = decoded.sequences.cpu().numpy()
    batch, each, time = sequences.shape
    result = score(np.repeat(ids, each), sequences.reshape(batch * each, time))
    shape = (batch, each)
    return Rollout(
        ids,
        source,
        sequences,
        result.lengths.reshape(shape),
        decoded.log_probs.sum(-1).double().cpu().numpy(),
        result.rewards.reshape(shape),
        {name: values.reshape(shape) for name, values in result.components.items()},
        result.truncated.reshape(shape),
        greedy,
        None if decoded.attention is None else decoded.attention.cpu().numpy(),
        memory,
        decoded.log_probs.float().cpu().numpy(),
        given,
        None if result.potentials is None else result.potentials.reshape(sequences.shape),
        reference_nats,
    )
