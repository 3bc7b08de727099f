"""What several tests share: tiny policies of every kind, batches, a token task, plain reference loops."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import rlseq_envs
from rlseq.config.load import parse_config
from rlseq.config.policy import PolicyConfig
from rlseq.config.schema import Config
from rlseq.decoding.ranking import Ranking
from rlseq.decoding.search import Beam, Search
from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.encoders.convolutional import ConvolutionalEncoder
from rlseq.models.encoders.features import FeaturesEncoder
from rlseq.models.encoders.nothing import NothingEncoder
from rlseq.models.encoders.story import StoryEncoder
from rlseq.models.layers.embedding import TokenEmbedding
from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy
from rlseq.models.spaces import TaskSpaces
from rlseq.objectives.logits import is_possible
from rlseq_envs.counters import counter_uniforms
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import Floats, Ints, Rendering, Reward, SequenceTask, Split, SplitName

Policy = TypeVar("Policy", bound=SequencePolicy)
Array = TypeVar("Array")
MATCHES = ("additive", "bilinear", "dot", "scaled_dot", "cosine")
SLOTS = ("encoder", "decoder", "output")
POINTER: dict[str, Any] = {
    "decoder": {"type": "attention_lstm", "match": "additive", "feed_context": False},
    "output": "pointer",
}
POINTS = TaskSpaces({"points": Space.of_vectors(2, 9)}, Choices(10, points_to="points"))


# -------------------------------------------------------------------------------------------------------- policies
def shaken(policy: Policy, seed: int = 1, scale: float = 0.3) -> Policy:
    """The policy with noise on every weight, so that none stands at a value that hides mistakes; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return policy.eval()


def text_spaces(vocabulary: int, source_vocabulary: int, shared: bool = False) -> TaskSpaces:
    """Tokens in, tokens out."""
    choices = Choices(9, vocabulary, same_as="text" if shared else None)
    return TaskSpaces({"text": Space.of_tokens(source_vocabulary, 9)}, choices)


def policy_section(base: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A policy's section with some keys changed, each in whatever slots have it."""
    section = PolicyConfig.model_validate(base).model_dump()
    for key, value in keys.items():
        for place in [section[slot] for slot in SLOTS if key in section[slot]] or [section]:
            place[key] = value
    return section


def policy_config(base: dict[str, Any], **keys: Any) -> PolicyConfig:
    return PolicyConfig.model_validate(policy_section(base, **keys))


def attention_policy(vocabulary: int = 7, seed: int = 0, shared: bool = False, **keys: Any) -> EncoderDecoder:
    sizes = {"embedding_size": 6, "hidden_size": 8, "dropout": 0.0, "share_embeddings": shared}
    config = policy_config({}, **sizes | keys)
    return shaken(build_policy(config, text_spaces(vocabulary, vocabulary if shared else 9, shared), seed), seed)


def story_policy(seed: int = 0, same: bool = True, **keys: Any) -> EncoderDecoder:
    """Of stories of up to 5 sentences, each of up to 3 words of 9."""
    sections = {"encoder": {"type": "story"}, "decoder": keys.pop("decoder", "memory_network")}
    config = policy_config(sections, **{"hidden_size": 8, "dropout": 0.0} | keys)
    sources = {"story": Space((None, None), (5, 3), 9, "int64"), "question": Space.of_tokens(9, 2)}
    choices = Choices(9, 9, same_as="story") if same else Choices(9, 7)
    return shaken(build_policy(config, TaskSpaces(sources, choices), seed), seed)


def picture_policy(seed: int = 0, **keys: Any) -> EncoderDecoder:
    """Of pictures of 7 x 10 pixels in colour."""
    sections = {"encoder": {"type": "convolutional", "channels": 4}, "decoder": keys.pop("decoder", "attention_lstm")}
    config = policy_config({**sections, "hidden_size": 8}, **{"dropout": 0.0} | keys)
    spaces = TaskSpaces({"picture": Space((7, 10, 3), dtype="uint8")}, Choices(9, 7))
    return shaken(build_policy(config, spaces, seed), seed)


REGIONS, POOLED = {"regions": Space((2, 3, 5))}, {"pooled": Space((4,))}


def features_policy(seed: int = 0, fields: Mapping[str, Space] = REGIONS | POOLED, **keys: Any) -> EncoderDecoder:
    """Of ready features of pictures."""
    sections = {"encoder": "features", "decoder": keys.pop("decoder", "attention_lstm"), "hidden_size": 8}
    config = policy_config(sections, **{"dropout": 0.0} | keys)
    return shaken(build_policy(config, TaskSpaces(fields, Choices(9, 7)), seed), seed)


def drawing_policy(seed: int = 0, asked: bool = False, **keys: Any) -> EncoderDecoder:
    """Of pictures of 3 columns in 4 colours, pixel by pixel and without END; one token is the source, or nothing is."""
    sections = {"encoder": "lstm" if asked else "nothing", "decoder": keys.pop("decoder", "lstm"), "hidden_size": 8}
    config = policy_config(sections, **{"embedding_size": 6, "dropout": 0.0} | keys)
    fields = {"text": Space.of_tokens(9, 1)} if asked else {}
    return shaken(build_policy(config, TaskSpaces(fields, Choices(9, 5, ends=False, columns=3)), seed), seed)


def pointer_policy(seed: int = 0, **keys: Any) -> EncoderDecoder:
    config = policy_config(POINTER, **{"hidden_size": 8, "dropout": 0.0} | keys)
    return shaken(build_policy(config, POINTS, seed), seed)


def sources(policy: SequencePolicy, lengths: Sequence[int], seed: int = 0) -> Source[Tensor]:
    """Random sources for any policy, garbage in their padding; ``lengths`` of those that have one."""
    generator = torch.Generator().manual_seed(seed)
    rows, longest = len(lengths), max(lengths)
    assert isinstance(policy, EncoderDecoder)
    example: Any = getattr(policy.encoder, "example", None)
    if example is not None:
        found: Source[Tensor] = example(torch.tensor(lengths), generator)
        return found
    if isinstance(policy.encoder, NothingEncoder):
        return Source(rows, {})
    if isinstance(policy.encoder, ConvolutionalEncoder):
        return pictures({policy.encoder.field: policy.encoder.picture}, rows, generator)
    if isinstance(policy.encoder, FeaturesEncoder):
        return pictures(policy.encoder.fields, rows, generator)
    if isinstance(policy.embedding, TokenEmbedding):
        count = len(policy.embedding.table.weight)
        if isinstance(policy.encoder, StoryEncoder):
            return random_stories(torch.tensor(lengths), count, generator)
        return Source.of(text=(torch.randint(count, (rows, longest), generator=generator), torch.tensor(lengths)))
    return Source.of(points=(torch.rand(rows, longest, 2, generator=generator), torch.tensor(lengths)))


def pictures(fields: Mapping[str, Space], rows: int, generator: torch.Generator) -> Source[Tensor]:
    """Random pixels, or features."""
    values = {name: torch.randn((rows, *space.largest), generator=generator) for name, space in fields.items()}
    pixels = {name: (256 * values[name].sigmoid()).byte() for name in fields if fields[name].dtype == "uint8"}
    return Source.of(**{name: (each, None) for name, each in (values | pixels).items()})


def random_stories(sentences: Tensor, words: int, generator: torch.Generator) -> Source[Tensor]:
    """Stories of so many sentences (rows,) of up to 3 words, garbage in their padding, and questions of 2."""
    rows, longest = len(sentences), int(sentences.max())
    sizes = torch.randint(1, 4, (rows, longest), generator=generator)
    sizes = sizes * (torch.arange(longest) < sentences[:, None])
    story = torch.randint(words, (rows, longest, 3), generator=generator)
    question = torch.randint(words, (rows, 2), generator=generator)
    return Source.of(story=(story, sizes), question=(question, torch.full((rows,), 2)))


def only(source: Source[Array]) -> tuple[Array, Array]:
    """Values and lengths of the one field there is."""
    ((values, lengths),) = source.fields.values()
    assert lengths is not None
    return values, lengths


def targets(policy: SequencePolicy, source: Source[Tensor], lengths: Sequence[int], seed: int = 0) -> Tensor:
    """Random targets a policy can emit: END last if there is END, points not repeated, garbage beyond each length."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        if policy.head is not None:
            choices = len(policy.head[0])
            rows[row] = torch.randint(1, choices, (rows.shape[1],), generator=generator)
        else:
            order = torch.randperm(int(only(source)[1][row]), generator=generator) + 1
            rows[row] = order.repeat(rows.shape[1])[: rows.shape[1]]
        if policy.head is None or is_possible(policy.head[1][0]):
            rows[row, length - 1] = 0
    return rows


def stepped_log_probs(policy: SequencePolicy, memory: Memory, sequences: Tensor) -> Tensor:
    """Log-probabilities (batch_size, time, choices) by ``step`` alone, the plain way."""
    state, tokens, out = policy.initial_state(memory), torch.zeros_like(sequences[:, 0]), []
    for time, following in enumerate(sequences.unbind(1)):
        logits, state, _ = policy.step(tokens, time, state, memory)
        out.append(logits.log_softmax(-1))
        tokens = following
    return torch.stack(out, 1)


def every_sequence(choices: int, limit: int) -> list[tuple[int, ...]]:
    """All sequences over tokens 0 … choices − 1 that end by END or by the limit."""
    found = []
    for length in range(1, limit + 1):
        for start in itertools.product(range(1, choices), repeat=length - 1):
            found += [(*start, last) for last in (range(choices) if length == limit else [0])]
    return found


def search_of(**keys: Any) -> Search:
    """A search from the keys of ``Search`` and of ``Ranking`` side by side."""
    return Search(**_with_ranking(keys))


def beam_of(size: int, **keys: Any) -> Beam:
    """A beam from the keys of ``Beam`` and of ``Ranking`` side by side."""
    return Beam(size=size, **_with_ranking(keys))


def _with_ranking(keys: dict[str, Any]) -> dict[str, Any]:
    names = [field.name for field in fields(Ranking)]
    ranking = Ranking(**{name: value for name, value in keys.items() if name in names})
    return {name: value for name, value in keys.items() if name not in names} | {"ranking": ranking}


def padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Sequences as one tensor padded with END, and their lengths."""
    rows = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        rows[row, : len(sequence)] = torch.tensor(sequence)
    return rows, torch.tensor([len(sequence) for sequence in sequences])


# ------------------------------------------------------------------------------------------------------------ tasks
class ReverseTask(SequenceTask):
    """Read the source backwards: a small task of tokens, whose instances are made from their ids."""

    selection_metric = "accuracy"
    signature = "reverse|version:1"

    def __init__(self, letters: int = 4, longest: int = 4, backwards: bool = True) -> None:
        self.sources = {"text": Space.of_tokens(letters + 1, longest)}
        self.choices = Choices(longest + 2, letters + 1)
        self.letters, self.longest, self.backwards = letters, longest, backwards

    def instances(self, split: SplitName) -> Split:
        return {"train": Split("train", 0, None), "validation": Split("validation", 1 << 40, 100)}[split]

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        return Source.of(text=self.letters_of(ids))

    def letters_of(self, ids: Ints) -> tuple[Ints, Ints]:
        uniforms = counter_uniforms(0, 0, ids, 1, self.longest + 1)[:, 0]
        lengths = (uniforms[:, 0] * self.longest).astype(np.int64) + 1
        letters = (uniforms[:, 1:] * self.letters).astype(np.int64) + 1
        longest = int(lengths.max(initial=0))
        return np.where(np.arange(longest) < lengths[:, None], letters[:, :longest], 0), lengths

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        source, lengths = self.letters_of(ids)
        out = np.zeros((len(ids), source.shape[1] + 1), np.int64)
        for row, length in enumerate(lengths):
            out[row, :length] = source[row, :length][:: -1 if self.backwards else 1]
        return out, lengths + 1

    def _matches(self, sequences: Ints, lengths: Ints, ids: Ints) -> Floats:
        references, reference_lengths = self.references(ids)
        width = min(references.shape[1], sequences.shape[1])
        counts = np.arange(width) < np.minimum(lengths, reference_lengths)[:, None]
        matches = ((references[:, :width] == sequences[:, :width]) & counts).sum(axis=1)
        return matches / np.maximum(lengths, reference_lengths)

    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        matches = self._matches(sequences, lengths, ids)
        return Reward(matches, {"matches": matches})

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        matches = self._matches(sequences, lengths, ids)
        return {"accuracy": 100 * float((matches == 1).mean()), "matches": float(matches.mean())}

    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        ids = np.array([instance_id])
        return Rendering(str(self.letters_of(ids)[0][0]), str(self.references(ids)[0][0]), str(sequence))


rlseq_envs.register("test/Reverse-v0", ReverseTask)
REVERSE: dict[str, Any] = {"type": "custom", "id": "tests.support:test/Reverse-v0"}
SMALL_ATTENTION: dict[str, Any] = {"embedding_size": 8, "hidden_size": 16, "dropout": 0.1}
HULL: dict[str, Any] = {"type": "convex_hull", "min_points": 5, "max_points": 5, "validation_size": 60}
SMALL_POINTER: dict[str, Any] = POINTER | {"hidden_size": 16, "dropout": 0.1}


def tiny_config(task: dict[str, Any] = HULL, policy: dict[str, Any] = SMALL_POINTER, **sections: Any) -> Config:
    """A complete configuration of a few updates a phase; ``sections`` override its keys, section by section."""
    base: dict[str, dict[str, Any]] = {
        "mle": {"updates": 20, "batch_size": 8, "validate_every": 10},
        "rl": {"updates": 20, "batch_size": 8, "validate_every": 10, "collapse_tolerance": 1000.0},
        "evaluation": {"samples_shown": 2},
        "checkpoint": {"every": 1000},
    }
    merged = {name: base.get(name, {}) | sections.pop(name, {}) for name in list(base)}
    return parse_config({"name": "tiny", "log_every": 5, "task": task, "policy": policy} | merged | sections)


def checkpoint_meta(phase: str = "mle", update: int = 3, **keys: Any) -> dict[str, Any]:
    """What meta.json of a checkpoint has to hold."""
    counters = {"phase": phase, "update": update, "phase_update": update}
    trainer: dict[str, Any] = {"started": True, "finished": False, "best": None, "best_update": -1, "best_metrics": {}}
    trainer |= {"validations_without_best": 0, "recoveries": 0, "rate_scale": 1.0}
    rest = {"config": {}, "spaces": POINTS.to_dict(), "signature": "s", "metrics": {}, "best": False, "versions": {}}
    return counters | rest | {"trainer": counters | trainer} | keys


# ------------------------------------------------------------------------------------------------------- processes
def process_of(work: Callable[..., NoReturn], *arguments: Any) -> BaseProcess:
    """A process for a function of a module, started; it has nothing of this one: no threads, no connection to Ray.

    It is forked from a server that has the package imported, so it costs no second of imports.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rlseq.api.training", "rlseq.cli"])
    process = context.Process(target=work, args=arguments)
    process.start()
    return process
