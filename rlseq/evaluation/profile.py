"""What changed in a policy and its outputs, beside their worth.

Reinforcement can raise a metric by peaking the distribution alone (Choshen et al. 2020), by writing longer or by
writing the same again and again; these figures show it. Outputs are counted in words if they are text, else in tokens
without END. The figures of a policy's distributions are taken on the first 2,000 instances:

* entropy: of the next-token distribution, mean over the steps of the greedy path, nats;
* top1_mass: probability of the likeliest token, mean over the same steps;
* reference_rank: rank of the reference's token under teacher forcing, 1 being the likeliest, mean over tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import chain

from torch import Tensor

from rlseq.decoding.encoding import encode_sources
from rlseq.decoding.likelihood import forced_log_probs
from rlseq.evaluation.decoding import decode_sources, split_shards
from rlseq.evaluation.evaluate import Evaluation
from rlseq.evaluation.loading import LoadedPolicy
from rlseq.evaluation.options import DecodingOptions
from rlseq_envs.task import END, Ints, SequenceTask, TextPairs

Profile = dict[str, float | None]
INSTANCES = 2000  # that distributions are looked at for
OF_POLICIES = ("entropy", "top1_mass", "reference_rank")
Units = Sequence[Sequence[Hashable]]  # of each output, its words or tokens


# ------------------------------------------------------------------------------------------------------------- outputs
def output_profile(task: SequenceTask, evaluation: Evaluation, texts: TextPairs | None) -> Profile:
    """What outputs look like.

    Returns:
        length_ratio: Words or tokens of all outputs over those of the references.
        truncated: Fraction without END; None for texts of another system.
        distinct_1, distinct_2: Different 1-grams and 2-grams over all there are (Li et al. 2016); None if tokens name
            positions of the source, which differ from instance to instance.
        repetition: Fraction of 2-grams that the same output has had before.
    """
    outputs = evaluation.outputs
    made: Units
    wanted: Units
    if texts is not None:
        made = [text.split() for text in texts.hypotheses]
        wanted = [text.split() for text in texts.references[0]] if texts.references else []
    else:
        made = _tokens(outputs.sequences, outputs.lengths)
        wanted = _tokens(*task.references(outputs.ids))
    counted = sum(map(len, wanted))
    by_name = task.points_to is None
    return {
        "length_ratio": sum(map(len, made)) / counted if counted else None,
        "truncated": evaluation.metrics.get("truncated"),
        "distinct_1": _distinct(made, 1) if by_name else None,
        "distinct_2": _distinct(made, 2) if by_name else None,
        "repetition": _repetition(made, 2),
    }


def _tokens(sequences: Ints, lengths: Ints) -> list[list[int]]:
    rows = zip(sequences.tolist(), lengths.tolist(), strict=True)
    return [[token for token in row[:length] if token != END] for row, length in rows]


def _ngrams(units: Sequence[Hashable], order: int) -> list[tuple[Hashable, ...]]:
    return list(zip(*(units[start:] for start in range(order)), strict=False))


def _distinct(outputs: Units, order: int) -> float | None:
    ngrams = list(chain.from_iterable(_ngrams(units, order) for units in outputs))
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def _repetition(outputs: Units, order: int) -> float | None:
    ngrams = [_ngrams(units, order) for units in outputs]
    total = sum(map(len, ngrams))
    return sum(len(found) - len(set(found)) for found in ngrams) / total if total else None


# -------------------------------------------------------------------------------------------------------- distributions
def policy_profile(loaded: LoadedPolicy, evaluation: Evaluation) -> Profile:
    """Entropy, top-1 mass and the reference's rank on the first instances that were evaluated."""
    ids = evaluation.outputs.ids[:INSTANCES]
    usual = DecodingOptions().of(loaded.task)
    if evaluation.decoding == usual:
        sequences, lengths = evaluation.outputs.sequences[: len(ids)], evaluation.outputs.lengths[: len(ids)]
    else:
        found = decode_sources(loaded, split_shards(loaded, ids), usual)
        sequences, lengths = found.tokens[:, 0], found.lengths[:, 0]
    entropy, mass, steps, rank, tokens = 0.0, 0.0, 0, 0.0, 0
    for (log_probs, _), (log_references, of_reference) in _forced(loaded, ids, sequences, lengths):
        entropy -= float((log_probs.exp() * log_probs).sum())
        mass += float(log_probs.amax(-1).exp().sum())
        steps += len(log_probs)
        rank += float((log_references > of_reference[:, None]).sum()) + len(of_reference)
        tokens += len(of_reference)
    return dict(zip(OF_POLICIES, (entropy / steps, mass / steps, rank / tokens), strict=True))


def _forced(
    loaded: LoadedPolicy, ids: Ints, sequences: Ints, lengths: Ints
) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Shard by shard, of the outputs and of the references: log-probabilities (tokens, choices), and the tokens'."""
    start = 0
    for part, source in split_shards(loaded, ids):
        memory = encode_sources(loaded.policy, source, loaded.device).detach()
        rows = slice(start, start := start + len(part))
        longest = int(lengths[rows].max())
        pairs = (sequences[rows, :longest], lengths[rows]), loaded.task.references(part)
        made, wanted = (forced_log_probs(loaded.policy, memory, *pair) for pair in pairs)
        yield made, wanted
