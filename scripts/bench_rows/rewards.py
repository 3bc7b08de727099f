"""Rewards: ours on batches beside one call of the reference library an instance, equal results asserted first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import sacrebleu

from bench_rows.measure import Figures, SkipRow, at_least, import_peer, speedup
from rlseq_envs.rewards import bleu, bleu_numpy, hull
from rlseq_envs.rewards.bleu import SentenceBleu, sentence_bleu_ids
from rlseq_envs.rewards.jit import COMPILES
from rlseq_envs.task import Floats, Ints

BATCH, BATCHES = 128, 4  # several batches a turn: the caches are as warm as in one update of a training
VOCABULARY, LENGTHS = 8000, (13, 25)
POINTS = 50
GRID = 1 << 24


def _words(rng: np.random.Generator) -> list[str]:
    """Distinct words of small letters, which 13a leaves whole."""
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words["".join(map(chr, rng.integers(ord("a"), ord("z") + 1, rng.integers(2, 10))))] = None
    return list(words)


def _token(rng: np.random.Generator) -> int:
    return min(int(rng.zipf(1.25)), VOCABULARY) - 1


def _draft(rng: np.random.Generator, reference: list[int]) -> list[int]:
    """A hypothesis: most tokens kept, some replaced, doubled or left out, more of them in some rows than in others."""
    kept, draft = rng.beta(3, 2), []
    for token in reference:
        if rng.random() < kept:
            draft.append(token)
        else:
            draft.extend([[_token(rng)], [_token(rng)], [token, token], []][rng.integers(4)])
    return draft


Rows = list[list[int]]


def _corpus(mean_length: int) -> list[tuple[Rows, Rows]]:
    """Batches of hypotheses and references under Zipf's law."""
    rng = np.random.default_rng(mean_length)
    lengths = np.clip(rng.normal(mean_length, mean_length * 0.35, (BATCHES, BATCH)), 1, 60).astype(int)
    references = [[[_token(rng) for _ in range(length)] for length in batch] for batch in lengths]
    return [([_draft(rng, row) for row in batch], batch) for batch in references]


def _padded(rows: Rows) -> tuple[Ints, Ints]:
    lengths = np.array([len(row) for row in rows])
    padded = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(rows)
    return padded, lengths


Texts = list[list[str]]  # a batch: its hypotheses, its references


def _score_by_sacrebleu(batches: list[Texts], turn: int) -> list[Floats]:
    def score(hypothesis: str, reference: str) -> float:
        return float(sacrebleu.sentence_bleu(hypothesis, [reference]).score)

    return [np.array([*map(score, hypotheses, references)]) for hypotheses, references in batches]


def _score_ids(batches: list[tuple[Ints, Ints, Ints, Ints]], turn: int) -> list[Floats]:
    return [sentence_bleu_ids(*batch) for batch in batches]


def _score_texts(score: SentenceBleu, batches: list[Texts], turn: int) -> list[Floats]:
    return [score(hypotheses, [references]) for hypotheses, references in batches]


Scorer = Callable[[int], list[Floats]]


def _compared(ours: Scorer, other: Scorer, quick: bool) -> Figures:
    """Seconds of all batches, once the scores are found equal.

    Raises:
        RuntimeError: A score differs by more than 1e-9.
    """
    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours(0), other(0), strict=True))
    if difference > 1e-9:
        raise RuntimeError(f"the competitors' scores differ by up to {difference}")
    return speedup(ours, other, 4 if quick else 20)


def _slower(measured: list[Figures]) -> Figures:
    """The measurement with the smaller ratio, the others in its note."""
    worst = min(measured, key=lambda figures: figures.ratio)
    ratios = ", ".join(f"{figures.ratio:.0f} at {length}" for figures, length in zip(measured, LENGTHS, strict=True))
    return Figures(worst.ours, worst.other, worst.ratio, f"s per {BATCH * BATCHES} pairs; ratio {ratios} tokens")


# ---------------------------------------------------------------------------------------------------------------- rows
def _skip_without_numba() -> None:
    if not COMPILES:
        raise SkipRow("numba is not installed, or NUMBA_DISABLE_JIT is set")


def _ids_row(quick: bool) -> Figures:
    words, measured = _words(np.random.default_rng(0)), []
    for length in LENGTHS:
        corpus = _corpus(length)
        batches = [(*_padded(hypotheses), *_padded(references)) for hypotheses, references in corpus]
        texts = [[[" ".join(words[token] for token in row) for row in side] for side in batch] for batch in corpus]
        measured.append(_compared(partial(_score_ids, batches), partial(_score_by_sacrebleu, texts), quick))
    return _slower(measured)


@at_least(80)
def bleu_ids_vs_sacrebleu(quick: bool) -> Figures:
    """Sentence BLEU of padded ids, compiled: ``sacrebleu.sentence_bleu`` of the same words, joined, over ours."""
    _skip_without_numba()
    return _ids_row(quick)


@at_least(25)
def bleu_ids_numpy_vs_sacrebleu(quick: bool) -> Figures:
    """The same with numpy alone, as where numba is missing or switched off."""
    with patch.object(bleu, "_score_batch", bleu_numpy.score_batch):
        return _ids_row(quick)


def _punctuated(rng: np.random.Generator, words: list[str], row: list[int]) -> str:
    """A sentence whose marks stand at its words: 13a has to part them."""
    marks = rng.choice(["", "", "", "", "", "", ",", "-", ":", "'s"], len(row))
    return " ".join(f"{words[token]}{mark}" for token, mark in zip(row, marks, strict=True)) + "."


@at_least(10)
def bleu_strings_vs_sacrebleu(quick: bool) -> Figures:
    """Sentence BLEU of texts under 13a, the words known from earlier batches: ``sacrebleu.sentence_bleu`` over ours."""
    rng, score, measured = np.random.default_rng(0), SentenceBleu(), []
    words = _words(rng)
    for length in LENGTHS:
        texts = [[[_punctuated(rng, words, row) for row in side] for side in batch] for batch in _corpus(length)]
        ours, other = partial(_score_texts, score, texts), partial(_score_by_sacrebleu, texts)
        measured.append(_compared(ours, other, quick))
    return _slower(measured)


def _is_cycle_of(sequence: list[int], vertices: list[int]) -> bool:
    edges = [set(pairwise([*cycle, cycle[0]])) for cycle in (sequence, vertices)]
    return len(sequence) == len(vertices) and edges[0] == edges[1]


def _check_certificate(find_hull: Any, points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> None:
    """On hulls, of which every other one is spoilt by a swap.

    Raises:
        RuntimeError: scipy finds other sequences to be hulls.
    """
    sequences = sequences.copy()
    sequences[::2, :2] = sequences[::2, 1::-1]
    rows = [(row[: length - 1] - 1).tolist() for row, length in zip(sequences, lengths, strict=True)]
    expected = [_is_cycle_of(row, find_hull(p).vertices.tolist()) for row, p in zip(rows, points, strict=True)]
    if hull.valid(points, counts, sequences, lengths).tolist() != expected or not len(rows) > sum(expected) > 0:
        raise RuntimeError("the certificate and scipy disagree")


@at_least(80)
def hull_valid_vs_scipy(quick: bool) -> Figures:
    """Whether sequences are the hulls of 50 uniform points: a ``ConvexHull`` an instance over our certificate.

    All are: the certificate then looks at every point beside every edge.
    """
    _skip_without_numba()
    find_hull = import_peer("scipy.spatial").ConvexHull
    points, counts = np.random.default_rng(0).integers(0, GRID, (BATCH, POINTS, 2)) / GRID, np.full(BATCH, POINTS)
    arguments = points, counts, *hull.hulls(points, counts)
    _check_certificate(find_hull, *arguments)
    ours, other = lambda turn: hull.valid(*arguments), lambda turn: [find_hull(p) for p in points]
    return speedup(ours, other, 20 if quick else 200, f"s per {BATCH} sets")
