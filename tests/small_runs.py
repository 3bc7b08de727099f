"""Small trainings: the forms of shipped configurations, and a digest of what a training came to."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rlseq.config.load import list_configs, shipped_config
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.report.reporter import Reporter
from rlseq.training.checkpoint import load_checkpoint
from rlseq.training.finding import last_checkpoint
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import RunDirectory
from rlseq.training.trainer import Trainer
from rlseq_envs.media.digits import draw_digits
from tests.captioned import write_captioned
from tests.pretrained import write_model

SHIPPED = [config.name for config in list_configs()]
# Sizes alone: what makes an experiment what it is stays as it is shipped.
SIZES = {
    "convex_hull": ["task.validation_size=20", "task.test_size=20", "policy.hidden_size=8"],
    "tape": ["task.validation_size=20", "task.test_size=20", "policy.hidden_size=8", "policy.embedding_size=8"],
    "translation": [
        *("task.cldr_sizes=[200, 20, 20]", "task.vocabulary_size=150"),
        *("policy.embedding_size=8", "policy.hidden_size=8"),
    ],
    "pixels": ["task.side=6", "task.sizes=[60, 20, 20]", "policy.hidden_size=8"],
    "caption": ["task.sizes=[60, 20, 20]", "task.picture_size=16", "policy.hidden_size=8"],
    "speech": [
        *("task.speakers=[2, 1, 1]", "task.takes=1", "task.bands=8", "task.hop=0.03", "task.digits=[1, 2]"),
        *("task.validation_size=20", "task.test_size=20", "policy.hidden_size=8"),
    ],
    "story": ["task.validation_size=20", "task.test_size=20", "policy.hidden_size=8"],
}
FEW = [
    *("mle.updates=2", "mle.batch_size=8", "mle.validate_every=2", "rl.updates=2", "rl.batch_size=4"),
    *("rl.validate_every=2", "log_every=1", "evaluation.samples_shown=1", "compute.threads=1"),
]


def shipped(name: str) -> dict[str, Any]:
    """A shipped configuration as it is written."""
    return yaml.safe_load(shipped_config(name).text)


def small_form(name: str, directory: Path) -> list[str]:
    """Overrides that make a shipped configuration train within seconds; corpora of files are written there."""
    task = shipped(name)["task"]
    sizes = list(SIZES[task["type"]])
    if task["type"] == "caption" and task.get("corpus") == "files":
        made = write_captioned(directory / "captioned", copies=12) | {"vocabulary_size": 60}
        return ["policy.hidden_size=8", *(f"task.{key}={value}" for key, value in made.items()), *FEW]
    if task.get("corpus") == "files":
        files = {key: str(directory / place) for key, place in task.items() if key.endswith(("_source", "_target"))}
        write_corpus(files)
        sizes = ["task.vocabulary_size=60", *sizes[2:], *(f"task.{key}={place}" for key, place in files.items())]
    if shipped(name)["policy"].get("type") == "pretrained":
        write_model(directory / "model", "marian")
        places = (f"task.{key}={place}" for key, place in files.items())
        sizes = [f"policy.path={directory / 'model'}", "task.max_length=60", "task.max_source_length=60", *places]
    if task["type"] == "pixels" and "file" in task:
        write_pictures(directory / "pictures.npz", 6)
        sizes = ["policy.hidden_size=8", "task.side=6", f"task.file={directory / 'pictures.npz'}"]
    if "train_files" in task:
        stories = {key: [str(directory / place) for place in task[key]] for key in ("train_files", "test_files")}
        write_stories([place for places in stories.values() for place in places])
        sizes = ["policy.hidden_size=8", *(f"task.{key}=[{','.join(places)}]" for key, places in stories.items())]
    if "clips_file" in task:
        write_clips(directory / task["clips_file"])
        sizes.append(f"task.clips_file={directory / task['clips_file']}")
    by_token = shipped(name)["mle"].get("batch_type") == "token"
    return [*sizes, *FEW, *(["mle.batch_size=64"] if by_token else [])]


def write_clips(place: Path) -> None:
    """Small clips of digits by two speakers, in the fields of the Free Spoken Digit Dataset."""
    place.parent.mkdir(parents=True, exist_ok=True)
    speaker, digit, index = np.indices((2, 10, 12)).reshape(3, -1)
    audio = (3000 * np.random.default_rng(0).standard_normal(400 * len(digit))).astype(np.int16)
    np.savez(place, audio=audio, offset=400 * np.arange(len(digit) + 1), digit=digit, speaker=speaker, index=index)


def write_pictures(file: Path, side: int) -> None:
    """A small file of pictures, packed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    packed = np.packbits(draw_digits(0, np.arange(60), side).reshape(60, -1), axis=1)
    np.savez(file, train=packed, valid=packed[:20], test=packed[:20])


def write_stories(files: list[str]) -> None:
    """Small stories at the places that a configuration names."""
    story = "1 Ada went to the attic.\n2 Where is Ada?\tattic\t1\n3 Ada went home.\n4 Where is Ada?\thome\t3\n"
    for place in map(Path, files):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(gzip.compress(story.encode() * 10))


def write_corpus(files: dict[str, str]) -> None:
    """Small texts at the places that a configuration names."""
    words = "a two three four five six seven eight nine ten".split()
    lines = "".join(f"{' '.join(words[i % 7 : i % 7 + 4])} {words[i % 10]}.\n" for i in range(200))
    for place in map(Path, files.values()):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(gzip.compress(lines.encode()))


def trainer_in(run: RunDirectory) -> tuple[Trainer, PlainEngine]:
    """A trainer that goes on with a run, in this process alone and without a word."""
    env = make_vector_env(run.config.task)
    engine = PlainEngine(run.config, env.task, env.rollout)
    return Trainer(run.config, env.task, engine, run, Reporter([])), engine


def trained_alone(config: Config, path: Path) -> str:
    """Train in this process; the digest of what came of it."""
    run = RunDirectory.create(config, path=path)
    trainer_in(run)[0].train()
    run.close()
    return digest(run.path)


def digest(run: Path) -> str:
    """SHA-256 of all that the newest checkpoint trains on from."""
    latest = last_checkpoint(run)
    assert latest is not None
    checkpoint = load_checkpoint(latest, resume=True)
    assert checkpoint.state is not None
    total = hashlib.sha256(f"{checkpoint.meta['update']} {checkpoint.meta['phase']}".encode())
    for name, value in sorted((checkpoint.state | checkpoint.weights).items()):
        total.update(name.encode() + str(value.dtype).encode() + np.ascontiguousarray(value).tobytes())
    return total.hexdigest()
