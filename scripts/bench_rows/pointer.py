"""Decoding pointers: ours beside the plain pointer network."""

from __future__ import annotations

import torch

from bench_rows.measure import Figures, at_least, speedup
from bench_rows.naive import NaivePointer, greedy, multinomial
from bench_rows.policies import decode_batch
from rlseq.config.load import load_config
from rlseq.config.schema import Config
from rlseq.data.tasks import make_task
from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.spaces import TaskSpaces

POINTS, SIZE, BATCH = 50, 256, 64


def _config() -> Config:
    sizes = [f"task.min_points={POINTS}", f"task.max_points={POINTS}", f"policy.hidden_size={SIZE}"]
    return load_config("hull", sizes)


@at_least(2.0)
def pointer_decode_vs_plain(quick: bool) -> Figures:
    """A sample and the greedy sequence of each of 64 sets of 50 points: the plain network over ours.

    Untrained networks seldom end of themselves; a row ends where its hull's reference does.
    """
    config = _config()
    task = make_task(config.task)
    policy = build_policy(config.policy, TaskSpaces.of(task), config.seed)
    assert isinstance(policy, EncoderDecoder)
    policy.eval()
    ids = task.instances("train").ids(0, BATCH)
    source, limits = task.source(ids).map(torch.from_numpy), torch.from_numpy(task.references(ids)[1])
    points, counts = source.fields["points"]
    assert counts is not None
    plain = NaivePointer(policy)

    def ours(turn: int) -> torch.Tensor:
        return decode_batch(policy, source, limits, turn=turn, samples=1, greedy=True).sequences

    def other(turn: int) -> torch.Tensor:
        plain.decode(points, counts, limits, multinomial)
        return plain.decode(points, counts, limits, greedy)[0]

    found, expected = ours(0)[:, -1], other(0)
    if not torch.equal(found[:, : expected.shape[1]], expected):
        raise RuntimeError("the plain pointer network's greedy output is another one")
    return speedup(ours, other, 10 if quick else 40)
