"""What searching and sampling more brings a policy: beams by size, and the best of n samples, by the reward.

If reinforcement only sharpened what sampling already had, its lead over cross-entropy is gone in the best of many
samples; a beam often takes it, too. The expected reward of the best of n comes from all samples of an instance, not
from the first n: the i-th smallest of m is the largest of n drawn without replacement with probability
C(i - 1, n - 1) / C(m, n). This is unbiased and never falls with n (Chen et al. 2021, section 2.1, for rewards of 0 and
1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rlseq.evaluation.decoding import decode_sources, split_shards
from rlseq.evaluation.loading import LoadedPolicy
from rlseq.evaluation.options import DecodingOptions
from rlseq.evaluation.seeds import aggregate, of_means
from rlseq_envs.task import Floats, Ints

BEAMS = (1, 2, 4, 8, 16)
SAMPLES = (1, 2, 4, 8, 16, 32, 64)
INSTANCES = 1000  # that are searched and sampled for
Curves = dict[str, dict[int, Floats]]  # "beam" and "best_of_n": size to rewards (instances,)


def measure_curves(loaded: LoadedPolicy, ids: Ints, options: DecodingOptions) -> Curves:
    """Rewards of the first instances under every size.

    Args:
        loaded: The policy and its task.
        ids: Of the split; the first ``INSTANCES`` are decoded.
        options: Lengths, ranking, temperature and support are taken from here.
    """
    ids = ids[:INSTANCES]
    beams = {}
    for size in BEAMS:
        search = replace(options, method="beam", beam_size=size, groups=1)
        found = decode_sources(loaded, split_shards(loaded, ids), search)
        beams[size] = loaded.task.reward(found.tokens[:, 0], found.lengths[:, 0], ids).total
    most = SAMPLES[-1]
    shards = split_shards(loaded, ids, max(1, loaded.config.evaluation.batch_size // most))
    drawn = decode_sources(loaded, shards, replace(options, method="sample"), most)
    sequences, lengths = drawn.tokens.reshape(len(ids) * most, -1), drawn.lengths.reshape(-1)
    rewards = loaded.task.reward(sequences, lengths, ids.repeat(most)).total.reshape(len(ids), most)
    return {"beam": beams, "best_of_n": {n: best_of(rewards, n) for n in SAMPLES}}


def best_of(rewards: Floats, n: int) -> Floats:
    """Expected largest of ``n`` of the rewards (instances, samples) of each instance, (instances,); see above."""
    samples = rewards.shape[1]
    weights = [math.comb(i, n - 1) / math.comb(samples, n) for i in range(samples)]
    return np.sort(rewards, axis=1) @ np.array(weights)


def curve_rows(arms: Mapping[str, Sequence[Curves]]) -> dict[str, Any]:
    """JSON-ready: of each size the mean reward of each arm, with its interval over seeds and instances.

    Args:
        arms: The curves of each seed, by arm.
    """
    first = next(iter(arms.values()))[0]
    rows: dict[str, Any] = {"instances": len(first["beam"][BEAMS[0]])}
    for kind, sizes in first.items():
        rows[kind] = []
        for size in sizes:
            found = {
                name: aggregate(of_means(np.stack([c[kind][size] for c in seeds]))) for name, seeds in arms.items()
            }
            values = {name: {"mean": a.mean, "ci95": list(a.ci95)} for name, a in found.items()}
            rows[kind].append({"size": size, "values": values})
    return rows
