"""Decoding for evaluation: a split, or sources from elsewhere, in shards of fixed size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rlseq.data.padding import concatenate_padded
from rlseq.decoding.beam import beam_search
from rlseq.decoding.encoding import encode_sources
from rlseq.decoding.exhaustive import SearchTooLarge, exhaustive_search
from rlseq.decoding.ranking import Ranking
from rlseq.decoding.sampling import Decoded, Drawing, decode
from rlseq.decoding.search import Beam, Search
from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.loading import LoadedPolicy
from rlseq.evaluation.options import DecodingOptions
from rlseq.models.layers.linear import Linear, PackedLinear
from rlseq.objectives.distribution import SamplingDistribution
from rlseq_envs.counters import counter_uniforms
from rlseq_envs.source import Source, source_sizes
from rlseq_envs.task import Floats, Ints

Sources = Source[npt.NDArray[Any]]  # as ``SequenceTask.source`` gives them
Shards = Iterator[tuple[Ints, Sources]]  # ids and sources, a few at a time


@dataclass(frozen=True)
class Sequences:
    """Decoded sequences, R of them a source, best first if they are ranked.

    Attributes:
        tokens: (sources, R, time) END beyond a length.
        lengths: (sources, R); 0 if a search found fewer than R.
        log_probs: (sources, R) of whole sequences, as of ``Decoded``.
    """

    tokens: Ints
    lengths: Ints
    log_probs: Floats


def decode_sources(
    loaded: LoadedPolicy,
    shards: Shards,
    options: DecodingOptions,
    n_best: int = 1,
) -> Sequences:
    """Decode sources shard by shard.

    Args:
        loaded: The policy and its task.
        shards: Ids (they choose the random numbers of samples) and sources, as the task gives them.
        options: How.
        n_best: Sequences a source; greedy decoding has one.

    Raises:
        EvaluationError: More sequences are asked for than the method has, or there are too many to search them all.
    """
    options = options.of(loaded.task)
    most = options.most(n_best)
    if not 1 <= n_best <= most:
        raise EvaluationError(f"n_best is {n_best}, but {options.method} decoding gives 1 … {most} sequences")
    linear = PackedLinear(loaded.config.evaluation.batch_size * most)
    parts = [_decode_shard(loaded, *shard, options, n_best, linear) for shard in shards]
    if not parts:
        return Sequences(np.zeros((0, n_best, 0), np.int64), np.zeros((0, n_best), np.int64), np.zeros((0, n_best)))
    tokens = [part.sequences.cpu().numpy() for part in parts]
    lengths = [part.lengths.cpu().numpy() for part in parts]
    log_probs = [part.log_probs.sum(-1).double().cpu().numpy() for part in parts]
    return Sequences(concatenate_padded(tokens), np.concatenate(lengths), np.concatenate(log_probs))


@torch.no_grad()
def _decode_shard(
    loaded: LoadedPolicy,
    ids: Ints,
    source: Sources,
    options: DecodingOptions,
    n_best: int,
    linear: Linear,
) -> Decoded:
    limits = loaded.task.length_limits(source_sizes(source))
    limits = limits if options.max_length is None else np.minimum(limits, options.max_length)
    place = loaded.device
    memory = encode_sources(loaded.policy, source, place).detach()
    limit = torch.from_numpy(limits).to(place)
    if options.method == "beam":
        return beam_search(loaded.policy, memory, limit, _beam(options, n_best), linear)
    if options.method == "exhaustive":
        try:
            return exhaustive_search(loaded.policy, memory, limit, _search(options, n_best), linear)
        except SearchTooLarge as error:
            raise EvaluationError(str(error)) from error
    longest, draws = int(limits.max(initial=0)), options.method == "sample"
    uniforms = torch.from_numpy(counter_uniforms(options.seed, 0, ids, n_best, longest)).to(place) if draws else None
    distribution = SamplingDistribution(options.temperature, options.top_k, options.top_p)
    drawing = Drawing(uniforms=uniforms, greedy=not draws, distribution=distribution, min_length=options.min_length)
    return decode(loaded.policy, memory, limit, drawing, linear)


def _search(options: DecodingOptions, n_best: int) -> Search:
    return Search(ranking=_ranking(options), min_length=options.min_length, n_best=n_best)


def _beam(options: DecodingOptions, n_best: int) -> Beam:
    return Beam(
        ranking=_ranking(options),
        min_length=options.min_length,
        n_best=n_best,
        size=options.beam_size,
        groups=options.groups,
        diversity=options.diversity if options.groups > 1 else 0.0,
    )


def _ranking(options: DecodingOptions) -> Ranking:
    return Ranking(options.length_penalty, options.length_norm, options.coverage_penalty)


def split_shards(loaded: LoadedPolicy, ids: Ints, size: int | None = None) -> Shards:
    """Instances of a split, ``size`` at a time; default: as many as the run's validation takes."""
    size = size or loaded.config.evaluation.batch_size
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        yield part, loaded.task.source(part)


def _source_shards(loaded: LoadedPolicy, sources: Sources) -> Shards:
    size = loaded.config.evaluation.batch_size
    for start in range(0, sources.size, size):
        part = sources.part(start, start + size)
        yield np.arange(start, start + part.size), part


# --------------------------------------------------------------------------------------------------------- outputs
@dataclass(frozen=True)
class Output:
    """One output as text.

    Attributes:
        text: As the task writes it.
        score: The sequence's log-probability.
        tokens: How many tokens it has, END included.
    """

    text: str
    score: float
    tokens: int


def generate_outputs(
    loaded: LoadedPolicy, sources: Sources, decoding: DecodingOptions, n_best: int = 1
) -> list[list[Output]]:
    """Decode sources that are no instances of the task: ``n_best`` outputs for each, best first if they are ranked.

    A beam over a short source may find fewer.

    Args:
        loaded: The policy and its task.
        sources: As ``task.parse_sources`` read them from lines of text.
        decoding: How to decode.
        n_best: Outputs of each source.

    Raises:
        EvaluationError: More outputs are asked for than the method has.
    """
    found = decode_sources(loaded, _source_shards(loaded, sources), decoding, n_best)
    count, each = found.lengths.shape
    texts = loaded.task.format_outputs(
        found.tokens.reshape(count * each, found.tokens.shape[2]), found.lengths.reshape(-1)
    )
    rows = zip(texts, found.log_probs.reshape(-1), found.lengths.reshape(-1), strict=True)
    outputs = [Output(text, float(score), int(tokens)) for text, score, tokens in rows]
    return [[out for out in outputs[start : start + each] if out.tokens] for start in range(0, count * each, each)]
