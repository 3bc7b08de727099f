"""What a reward on text costs a row, ours on batches beside a call of its library a row; equal results come first.

A batch is one update of rl: 64 instances with 5 samples each, references of 13 words on average under Zipf's law. CPU
time of one thread, the fastest of N turns (of 3 for the library).

    python scripts/reward_cost.py [--turns N] [--only NAME]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER

from bench_rows.rewards import _draft, _punctuated, _token, _words
from rlseq_envs.rewards.text import TextRewards
from rlseq_envs.settings.text import TEXT_REWARDS, TextOptions

INSTANCES, SAMPLES, LENGTH = 64, 5, 13
Rows = tuple[list[str], list[str]]


def make_batch(seed: int) -> Rows:
    """Samples and the reference of each, as text."""
    rng = np.random.default_rng(seed)
    words, hypotheses, references = _words(np.random.default_rng(0)), [], []
    for length in np.clip(rng.normal(LENGTH, 0.35 * LENGTH, INSTANCES), 2, 60).astype(int):
        reference = [_token(rng) for _ in range(length)]
        references += [_punctuated(rng, words, reference)] * SAMPLES
        hypotheses += [_punctuated(rng, words, _draft(rng, reference)) for _ in range(SAMPLES)]
    return hypotheses, references


def libraries() -> dict[str, Callable[[str, str], float]]:
    """Each reward of one row by the library that it equals, on the words between white space."""
    bleu, chrf, ter = BLEU(effective_order=True, tokenize="none", force=True), CHRF(), TER()
    found: dict[str, Callable[[str, str], float]] = {
        "bleu": lambda text, other: bleu.sentence_score(text, [other]).score / 100,
        "chrf": lambda text, other: chrf.sentence_score(text, [other]).score / 100,
        "neg_ter": lambda text, other: -ter.sentence_score(text, [other]).score / 100,
    }
    try:
        import jiwer
        from nltk.translate.gleu_score import sentence_gleu
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:  # they come with the tests' requirements
        return found
    rouge = RougeScorer(["rougeL"], tokenizer=_Words())
    return found | {
        "gleu": lambda text, other: sentence_gleu([other.split()], text.split()),
        "rouge_l": lambda text, other: rouge.score(other, text)["rougeL"].fmeasure,
        "neg_wer": lambda text, other: -jiwer.wer(other, text),
        "neg_cer": lambda text, other: -jiwer.cer(other, text),
    }


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return text.split()


def seconds(work: Callable[[], Any]) -> float:
    """CPU time of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(name: str, library: Callable[[str, str], float] | None, turns: int) -> tuple[float, float | None]:
    """Microseconds a row, ours and the library's.

    Raises:
        RuntimeError: The values differ by more than 1e-9.
    """
    rewards = TextRewards(TextOptions(reward_tokenizer="none"))
    batches = [make_batch(seed) for seed in range(turns + 1)]

    def ours(batch: Rows) -> Any:
        return rewards([name], batch[0], [batch[1]])[name]

    def theirs(batch: Rows) -> list[float]:
        assert library is not None
        return [library(text, other) for text, other in zip(*batch, strict=True)]

    first = ours(batches[0])
    if library is not None and not np.allclose(first, theirs(batches[0]), rtol=0, atol=1e-9):
        raise RuntimeError(f"{name} and its library differ")
    scale = 1e6 / (INSTANCES * SAMPLES)
    mine = [scale * seconds(lambda batch=batch: ours(batch)) for batch in batches[1:]]  # type: ignore[misc]
    if library is None:
        return min(mine), None
    return min(mine), min(scale * seconds(lambda batch=batch: theirs(batch)) for batch in batches[1:4])  # type: ignore[misc]


def main() -> None:
    """Print a line a reward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", choices=TEXT_REWARDS)
    options = parser.parse_args()
    known = libraries()
    for name in [options.only] if options.only else TEXT_REWARDS:
        mine, theirs = measure(name, known.get(name), options.turns)
        beside = "" if theirs is None else f"{theirs:8.1f} µs by its library, {theirs / mine:5.1f} times as long"
        print(f"{name:15} {mine:7.2f} µs a row {beside}", flush=True)


if __name__ == "__main__":
    main()
