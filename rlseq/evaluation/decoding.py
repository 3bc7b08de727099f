"""Decoding for evaluation: a split, or sources from elsewhere, in shards of fixed size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from rlseq.decoding.beam import beam_search
from rlseq.decoding.random import counter_uniforms
from rlseq.decoding.sampling import Decoded, decode
from rlseq.evaluation.loading import EvaluationError, LoadedPolicy
from rlseq.models.linear import Linear, PackedLinear
from rlseq_envs.task import Floats, Ints


@dataclass(frozen=True)
class DecodingOptions:
    """How a policy is turned into sequences.

    Attributes:
        method: The most likely token each time, the best of a beam, or a draw.
        beam_size: Hypotheses kept by the beam.
        length_penalty: The beam compares log-probabilities divided by length to this power; 0: as they are.
        temperature: Of samples.
        seed: Of samples.

    Raises:
        EvaluationError: A value cannot be used.
    """

    method: Literal["greedy", "beam", "sample"] = "greedy"
    beam_size: int = 5
    length_penalty: float = 1.0
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check all values."""
        problems = [
            *(
                []
                if self.method in ("greedy", "beam", "sample")
                else [f"method is {self.method!r}: greedy, beam or sample"]
            ),
            *([] if self.beam_size >= 1 else [f"beam_size is {self.beam_size}: give 1 or more"]),
            *([] if self.length_penalty >= 0 else [f"length_penalty is {self.length_penalty}: give 0 or more"]),
            *([] if self.temperature > 0 else [f"temperature is {self.temperature}: give a number above 0"]),
            *([] if self.seed >= 0 else [f"seed is {self.seed}: give 0 or more"]),
        ]
        if problems:
            raise EvaluationError("decoding: " + "; ".join(problems))

    def to_dict(self) -> dict[str, Any]:
        """The values that this method uses."""
        used = {"greedy": (), "beam": ("beam_size", "length_penalty"), "sample": ("temperature", "seed")}[self.method]
        return {name: value for name, value in asdict(self).items() if name in ("method", *used)}


@dataclass(frozen=True)
class Sequences:
    """Decoded sequences, R of them a source, best first where they are ranked.

    Attributes:
        tokens: (sources, R, time) END beyond a length.
        lengths: (sources, R); 0 where a beam found fewer than R.
        log_probs: (sources, R) of whole sequences, under the law they were decoded from.
    """

    tokens: Ints
    lengths: Ints
    log_probs: Floats


def decode_sources(
    loaded: LoadedPolicy,
    shards: Iterator[tuple[Ints, npt.NDArray[Any], Ints]],
    options: DecodingOptions,
    n_best: int = 1,
) -> Sequences:
    """Decode sources shard by shard.

    Args:
        loaded: The policy and its task.
        shards: Ids (they choose the random numbers of samples), sources and their lengths, as the task gives them.
        options: How.
        n_best: Sequences a source; greedy decoding has one.

    Raises:
        EvaluationError: More sequences are asked for than the method has.
    """
    most = {"greedy": 1, "beam": options.beam_size, "sample": n_best}[options.method]
    if not 1 <= n_best <= most:
        raise EvaluationError(f"n_best is {n_best}, but {options.method} decoding gives 1 … {most} sequences")
    linear = PackedLinear(loaded.config.evaluation.batch_size * most)
    parts = [_decode_shard(loaded, *shard, options, n_best, linear) for shard in shards]
    if not parts:
        return Sequences(np.zeros((0, n_best, 0), np.int64), np.zeros((0, n_best), np.int64), np.zeros((0, n_best)))
    time = max(part.sequences.shape[2] for part in parts)
    tokens = [np.pad(p.sequences.cpu().numpy(), ((0, 0), (0, 0), (0, time - p.sequences.shape[2]))) for p in parts]
    lengths = [part.lengths.cpu().numpy() for part in parts]
    log_probs = [part.log_probs.sum(-1).double().cpu().numpy() for part in parts]
    return Sequences(np.concatenate(tokens), np.concatenate(lengths), np.concatenate(log_probs))


@torch.no_grad()
def _decode_shard(
    loaded: LoadedPolicy,
    ids: Ints,
    source: npt.NDArray[Any],
    source_lengths: Ints,
    options: DecodingOptions,
    n_best: int,
    linear: Linear,
) -> Decoded:
    limits = loaded.task.length_limits(source_lengths)
    place = loaded.device
    memory = loaded.policy.encode(torch.from_numpy(source).to(place), torch.from_numpy(source_lengths).to(place))
    limit = torch.from_numpy(limits).to(place)
    if options.method == "beam":
        return beam_search(
            loaded.policy,
            memory,
            limit,
            size=options.beam_size,
            length_penalty=options.length_penalty,
            n_best=n_best,
            linear=linear,
        )
    if options.method == "greedy":
        return decode(loaded.policy, memory, limit, linear=linear)
    uniforms = torch.from_numpy(counter_uniforms(options.seed, 0, ids, n_best, int(limits.max(initial=0)))).to(place)
    return decode(
        loaded.policy, memory, limit, uniforms=uniforms, greedy=False, temperature=options.temperature, linear=linear
    )


def split_shards(loaded: LoadedPolicy, ids: Ints) -> Iterator[tuple[Ints, npt.NDArray[Any], Ints]]:
    """Instances of a split, as many at a time as the run's validation takes."""
    size = loaded.config.evaluation.batch_size
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        yield part, *loaded.task.source(part)


def line_shards(loaded: LoadedPolicy, lines: Sequence[str]) -> Iterator[tuple[Ints, npt.NDArray[Any], Ints]]:
    """Sources written as lines of text; all of them are read before the first is decoded."""
    source, lengths = loaded.task.parse_sources(lines)
    size = loaded.config.evaluation.batch_size
    for start in range(0, len(lengths), size):
        part = slice(start, start + size)
        longest = int(lengths[part].max(initial=0))
        yield np.arange(start, start + len(lengths[part])), source[part, :longest], lengths[part]


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
    loaded: LoadedPolicy, lines: Sequence[str], decoding: DecodingOptions, n_best: int = 1
) -> list[list[Output]]:
    """Decode sources given as lines of text: ``n_best`` outputs for each, best first where they are ranked.

    A beam over a short source may find fewer.

    Raises:
        ValueError: A line cannot be read as a source; the message names it.
        EvaluationError: More outputs are asked for than the method has.
    """
    found = decode_sources(loaded, line_shards(loaded, lines), decoding, n_best)
    count, each = found.lengths.shape
    texts = loaded.task.format_outputs(
        found.tokens.reshape(count * each, found.tokens.shape[2]), found.lengths.reshape(-1)
    )
    rows = zip(texts, found.log_probs.reshape(-1), found.lengths.reshape(-1), strict=True)
    outputs = [Output(text, float(score), int(tokens)) for text, score, tokens in rows]
    return [[out for out in outputs[start : start + each] if out.tokens] for start in range(0, count * each, each)]
