"""Our policies in the state that a comparison needs: random weights, END as good as impossible."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench_rows.task import LONGEST
from rlseq.config.schema import Config
from rlseq.decoding.sampling import Decoded, Drawing, decode
from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.layers.linear import Linear, fast_matmul
from rlseq.models.outputs.vocabulary import VocabularyOutput
from rlseq.models.policy import SequencePolicy
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.counters import counter_uniforms
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space

NO_END = -1e4  # END's output bias: its probability is 0 in fp32


def zipf_biases(distribution: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Output biases under which an untrained policy emits tokens by about this distribution, and END never."""
    biases = np.full(len(distribution), NO_END, np.float32)
    biases[1:] = np.log(distribution[1:])
    return biases


def attention_policy(config: Config, vocabulary_size: int) -> EncoderDecoder:
    """An untrained policy in evaluation mode that never emits END."""
    spaces = TaskSpaces({"text": Space.of_tokens(vocabulary_size, LONGEST)}, Choices(LONGEST, vocabulary_size))
    policy = build_policy(config.policy, spaces, config.seed)
    assert isinstance(policy, EncoderDecoder)
    assert isinstance(policy.output, VocabularyOutput)
    with torch.no_grad():
        policy.output.bias[0] = NO_END
    return policy.eval()


@torch.no_grad()
def decode_batch(
    policy: SequencePolicy,
    source: Source[Tensor],
    limits: Tensor,
    *,
    turn: int,
    samples: int,
    greedy: bool,
    linear: Linear | None = None,
) -> Decoded:
    """Encode and decode a batch as a rollout does, the drawing of its random numbers included.

    ``linear`` is shared by calls under the same weights; by default the weights are packed for this call.
    """
    uniforms = None
    if samples:
        draws = counter_uniforms(0, turn, np.arange(source.size), samples, int(limits.max()))
        uniforms = torch.from_numpy(draws)
    with fast_matmul():
        memory = policy.encode(source)
    drawing = Drawing(uniforms=uniforms, greedy=greedy, score_greedy=False)
    return decode(policy, memory, limits, drawing, linear)
