"""The memory that training on a large corpus takes.

A corpus is generated and `rlseq train` is run on it as a command of its own, for a few updates of both phases with
batches by tokens. Everything that it loads, makes and compares until it ends counts. Printed are the peaks of the
resident memory until the data were prepared and until the end.

    python scripts/memory.py [--pairs N] [--json FILE] [a.b=c …]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

GOAL = 2048.0  # MiB
WORDS = 30_000
PEAK = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
UNIT = 1 << 20 if sys.platform == "darwin" else 1 << 10  # of MiB
TRAIN = f"""
import json, resource, sys
from pathlib import Path
from rlseq.api import training
from rlseq.cli import main

peaks, file, prepare = {{}}, Path(sys.argv.pop(1)), training.prepare_task

def prepare_and_note(*arguments):
    task = prepare(*arguments)
    peaks["prepared"] = {PEAK} / {UNIT}
    return task

training.prepare_task = prepare_and_note
try:
    main()
finally:
    peaks["trained"] = {PEAK} / {UNIT}
    file.write_text(json.dumps(peaks))
"""
SETTINGS = [
    *("task.corpus=files", "task.vocabulary_size=8000", "mle.batch_type=token", "mle.batch_size=4000", "mle.updates=6"),
    *("rl.batch_type=token", "rl.batch_size=1000", "rl.updates=3", "evaluation.samples_shown=1"),
]


def write_lines(path: Path, seed: int, lines: int) -> None:
    """Lines of 12 to 25 words that follow Zipf's law, frequent words being short."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(2 + rng.poisson(0.3 * np.log(np.arange(1, WORDS + 1))), 14) + 1  # with the space behind it
    letters = rng.choice(np.frombuffer(b"etaoinshrdlucmfwypvbgkqjxz", np.uint8), int(lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    letters[starts - 1] = ord(" ")
    distribution = np.cumsum(1 / np.arange(1, WORDS + 1))
    with path.open("wb") as file:
        for first in range(0, lines, 50_000):
            counts = rng.integers(12, 26, min(50_000, lines - first))
            words = np.searchsorted(distribution, rng.random(counts.sum()) * distribution[-1])
            ends = np.cumsum(lengths[words])
            text = letters[np.arange(ends[-1]) + np.repeat(starts[words] + lengths[words] - ends, lengths[words])]
            text[ends[np.cumsum(counts) - 1] - 1] = ord("\n")
            file.write(text.tobytes())


def write_corpus(directory: Path, pairs: int) -> list[str]:
    """Training and validation files, and the settings that name them."""
    sides = [(split, side) for split in ("train", "validation") for side in ("source", "target")]
    for split, side in sides:
        write_lines(directory / f"{split}.{side}", ord(side[0]), pairs if split == "train" else 50)
    return [f"task.{split}_{side}={directory / f'{split}.{side}'}" for split, side in sides]


def peaks(pairs: int, overrides: list[str]) -> dict[str, float]:
    """Peaks of the resident memory of a training on so many pairs, MiB, until it was "prepared" and "trained"."""
    with tempfile.TemporaryDirectory() as place:
        settings = [*SETTINGS, *write_corpus(Path(place), pairs), *overrides, "--run", f"{place}/run"]
        command = [sys.executable, "-c", TRAIN, f"{place}/peaks", "train", "translation", *settings]
        subprocess.run(command, check=True, stdout=sys.stderr)
        found: dict[str, float] = json.loads(Path(place, "peaks").read_text())
    return found


def main() -> int:
    """Measure, print, write; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", metavar="N", type=int, default=1_000_000, help="default: a million")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures there")
    parser.add_argument("overrides", metavar="a.b=c", nargs="*", help="keys of the experiment")
    arguments = parser.parse_args()
    found = peaks(arguments.pairs, arguments.overrides)
    stages = ", ".join(f"{stage} {mebibytes:.0f} MiB" for stage, mebibytes in found.items())
    print(f"{arguments.pairs:,} pairs: {stages}; goal {GOAL:.0f} MiB")
    if arguments.json:
        arguments.json.write_text(json.dumps({"pairs": arguments.pairs, "goal": GOAL} | found) + "\n")
    return int(max(found.values()) > GOAL)


if __name__ == "__main__":
    sys.exit(main())
