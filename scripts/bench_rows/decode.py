"""RolloutRequest: ours beside public libraries, and beside what the core can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench_rows import machine, peers
from bench_rows.measure import Figures, SkipRow, at_least, interleaved, speedup
from bench_rows.policies import attention_policy, decode_batch
from bench_rows.task import id_config
from rlseq.models.encoder_decoder import READ_ONCE_BELOW
from rlseq.models.layers.linear import PackedLinear
from rlseq_envs.source import Source

VOCABULARY, SIZE, BATCH, TOKENS, SOURCE = 8000, 512, 64, 20, 20
MARKS = 4  # ids that mean something to a peer; sources hold none of them


def _sources() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(MARKS, VOCABULARY, (BATCH, SOURCE), generator=generator), torch.full((BATCH,), SOURCE)


def _ours(*, samples: int, greedy: bool) -> Callable[[int], Tensor]:
    """Decode the batch, with weights packed once, at the first call: they stay the same, as in a long translation."""
    policy = attention_policy(id_config(VOCABULARY, SIZE, BATCH), VOCABULARY)
    source, lengths = _sources()
    limits, linear = torch.full((BATCH,), TOKENS), PackedLinear(BATCH * (samples + int(greedy)))
    chosen: dict[str, Any] = {"samples": samples, "greedy": greedy, "linear": linear}

    def decode(turn: int) -> Tensor:
        return decode_batch(policy, Source.of(text=(source, lengths)), limits, turn=turn, **chosen).sequences

    return decode


def _against(peer: peers.Decode, quick: bool, *, samples: int, greedy: bool) -> Figures:
    """Seconds of a batch, encoder included, after a look at how many tokens each competitor decodes.

    Raises:
        SkipRow: The peer cannot do this here.
    """
    source, lengths = _sources()
    try:
        found = peer(source, lengths)
    except Exception as problem:
        raise SkipRow(f"the peer fails with these versions: {type(problem).__name__}: {problem}") from problem
    ours = _ours(samples=samples, greedy=greedy)
    shapes = [tuple(ours(0)[:, 0].shape), tuple(found.shape)]
    if shapes != [(BATCH, TOKENS)] * 2:
        raise RuntimeError(f"the competitors decode {shapes}, not {(BATCH, TOKENS)} each")
    return speedup(ours, lambda turn: peer(source, lengths), 4 if quick else 12)


@at_least(2.1, beside_default=True)
def greedy_vs_opennmt(quick: bool) -> Figures:
    """Greedy decoding: OpenNMT-py's attention LSTM over ours."""
    return _against(peers.opennmt(VOCABULARY, SIZE, TOKENS, sampling=False), quick, samples=0, greedy=True)


@at_least(3.0, beside_default=True)
def greedy_vs_joeynmt(quick: bool) -> Figures:
    """Greedy decoding: Joey NMT's attention LSTM over ours."""
    return _against(peers.joeynmt(VOCABULARY, SIZE, TOKENS), quick, samples=0, greedy=True)


@at_least(3.5, beside_default=True)
def sampling_vs_opennmt(quick: bool) -> Figures:
    """Sampling: OpenNMT-py's attention LSTM over ours."""
    return _against(peers.opennmt(VOCABULARY, SIZE, TOKENS, sampling=True), quick, samples=1, greedy=False)


@at_least(4.5, beside_default=True)
def sampling_vs_hf_generate(quick: bool) -> Figures:
    """Sampling: ``generate`` of transformers over ours."""
    return _against(peers.hugging_face(VOCABULARY, SIZE, TOKENS), quick, samples=1, greedy=False)


# ---------------------------------------------------------------------------------------------- what the core can do
def decode_flops(size: int, vocabulary_size: int, source: int, tokens: int, inputs: float) -> float:
    """Floating-point operations of the matrix products that decode one sequence; two a multiply–add.

    Args:
        size: Of embeddings and states.
        vocabulary_size: Choices.
        source: Length of the source.
        tokens: That are emitted.
        inputs: How many products of embedding and gates it takes: equal tokens of a step share theirs.
    """
    encoder = source * 2 * (size + size // 2) * 4 * (size // 2)  # both directions' gates, from input and state
    keys, bridge = source * size * size, size * 2 * size
    gates, combine = size * 4 * size, 2 * size * size  # by the embedding or by the state, that is
    attention, output = 2 * source * size, size * vocabulary_size  # scores and context
    return 2 * (encoder + keys + bridge + inputs * gates + tokens * (gates + attention + combine + output))


def different_inputs(sequences: Tensor) -> int:
    """How many tokens' products the steps need that emit ``sequences`` (batch_size, time), END read first."""
    counts = [len(tokens.unique()) for tokens in sequences[:, :-1].unbind(1)]
    return 1 + sum(count if count <= READ_ONCE_BELOW * len(sequences) else len(sequences) for count in counts)


@at_least(0.70)
def decode_fraction_of_gemm_peak(quick: bool) -> Figures:
    """Our greedy decoding's flop/s over those of the fastest large fp32 product measured in the same turns."""
    competitors, ours = machine.products(), _ours(samples=0, greedy=True)
    inputs = different_inputs(ours(0)[:, 0]) / BATCH
    for competitor in competitors.values():
        competitor(0)
    seconds, *best = interleaved([ours, *competitors.values()], 4 if quick else 12)
    reached = BATCH * decode_flops(SIZE, VOCABULARY, SOURCE, TOKENS, inputs) / seconds * 1e-9
    peaks = {name: machine.rate(taken) for name, taken in zip(competitors, best, strict=True)}
    fastest = max(peaks, key=lambda name: peaks[name])
    return Figures(reached, peaks[fastest], reached / peaks[fastest], str(machine.Machine(peaks)))
