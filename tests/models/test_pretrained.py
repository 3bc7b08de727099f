"""Pretrained policies beside transformers itself: tokens, log-probabilities, greedy and beam, token for token."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from rlseq.config.errors import ConfigError
from rlseq.config.load import load_config
from rlseq.config.schema import Config
from rlseq.data.tasks import make_task
from rlseq.decoding.beam import beam_search
from rlseq.decoding.ranking import Ranking
from rlseq.decoding.sampling import GREEDY, Drawing, decode
from rlseq.decoding.search import Beam
from rlseq.models.build import build_policy, initial_weights
from rlseq.models.feeding import PolicyTokens
from rlseq.models.policy import length_mask
from rlseq.models.pretrained import PretrainedPolicy
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.source import Source
from rlseq_envs.text.pretrained import PretrainedVocabulary
from tests.pretrained import KINDS, LINES, write_model

LIMIT = 12


class Case(NamedTuple):
    """A model of transformers, and the policy and the batch that are made from its directory."""

    directory: Path
    model: Any
    tokenizer: Any
    policy: PretrainedPolicy
    vocabulary: PretrainedVocabulary
    source: Source[Tensor]
    targets: Tensor
    lengths: Tensor


def settings(directory: Path, **policy: Any) -> Config:
    for name in ("train", "validation"):
        (directory.parent / name).write_text("\n".join(LINES) + "\n")
    files = {f"{split}_{side}": str(directory.parent / split) for split in ("train", "validation") for side in SIDES}
    task = {"type": "translation", "tokenizer": str(directory), "max_length": 30, "max_source_length": 40, **files}
    policy = {"type": "pretrained", "path": str(directory), "dropout": 0.0} | policy
    return load_config({"name": "tiny", "task": task, "policy": policy, "mle": {"updates": 1}, "rl": {"updates": 1}})


SIDES = ("source", "target")
NORMAL = {"renormalize_logits": True}  # among tokens that are not suppressed; ours are normalised so


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    directory = tmp_path_factory.mktemp(request.param) / "model"
    model = write_model(directory, request.param)
    config = settings(directory)
    task = make_task(config.task)
    policy = build_policy(config.policy, TaskSpaces.of(task)).eval()
    weights = initial_weights(config.policy)
    assert weights is not None and isinstance(policy, PretrainedPolicy)
    policy.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    ids = task.instances("train").ids(0, 8)
    source = task.source(ids).map(torch.from_numpy)
    targets, lengths = map(torch.from_numpy, task.references(ids))
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    return Case(directory, model, tokenizer, policy, PretrainedVocabulary(directory), source, targets, lengths)


def theirs(case: Case) -> Any:
    """The batch as the tokenizer of transformers gives it."""
    return case.tokenizer(LINES[:8], return_tensors="pt", padding=True)


def generated(case: Case, **keys: Any) -> list[list[int]]:
    """What ``generate`` emits, in the task's ids, up to END, without what the decoder begins with."""
    barred = case.policy.barred.nonzero()[:, 0].tolist()
    begin, batch = len(case.policy.begin), theirs(case)
    case.model.generation_config.forced_eos_token_id = None  # a sequence that is cut off is cut off
    rows = case.model.generate(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        max_length=LIMIT + begin,
        decoder_input_ids=case.policy.begin.expand(8, -1),
        suppress_tokens=barred,
        **keys,
    )
    order, found = case.policy.order.tolist(), []
    for row in rows[:, begin:].tolist():
        tokens = [order.index(token) for token in row if token < len(order)]
        found.append(tokens[: tokens.index(0) + 1] if 0 in tokens else tokens)
    return found


def rows(sequences: Tensor, lengths: Tensor) -> list[list[int]]:
    return [row[:length] for row, length in zip(sequences.tolist(), lengths.tolist(), strict=True)]


# ---------------------------------------------------------------------------------------------------------- tokens
def test_tokens_are_those_of_transformers(case: Case) -> None:
    texts = [*LINES, "an unknown owl, red!", ""]
    order = case.policy.order.tolist()
    sources, targets = case.vocabulary.encode_sources(texts), case.vocabulary.encode(texts)
    for row, text in enumerate(texts):
        assert [order[token] for token in sources[row]] == case.tokenizer(text).input_ids
        expected = case.tokenizer(text_target=text).input_ids
        begun = list(case.vocabulary.tokenizer.before)
        assert begun + [order[token] for token in targets[row]] == expected
    decoded = case.vocabulary.decode(*targets.padded(np.arange(len(texts))))
    assert decoded == [case.tokenizer.decode(ids, skip_special_tokens=True) for ids in targets_of(case, texts)]


def targets_of(case: Case, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = case.tokenizer(text_target=texts).input_ids
    return ids


def test_a_special_token_written_in_a_reference_is_unknown(case: Case) -> None:
    written = case.vocabulary.encode(["red </s> cat <pad>"])[0]
    never = {token for token in range(case.policy.size) if case.policy.barred[case.policy.order[token]] < 0}
    assert written.index(0) == len(written) - 1 and never.isdisjoint(written)


# ------------------------------------------------------------------------------------------------- log-probabilities
def test_log_probabilities_are_those_of_transformers(case: Case) -> None:
    batch, policy = theirs(case), case.policy
    read = policy._read(F.pad(case.targets[:, :-1], (1, 0)), 0)
    with torch.no_grad():
        out = case.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, decoder_input_ids=read).logits[
            :, len(policy.begin) - 1 :
        ]
        expected = (out + policy.barred)[..., policy.order].log_softmax(-1)
        mask = length_mask(case.lengths, case.targets.shape[1])
        found = policy.token_logits(policy.encode(case.source), case.targets, case.lengths).log_softmax(-1)
        weight, bias = policy.head
        forced = policy.forced(policy.encode(case.source), case.targets, case.lengths)
    torch.testing.assert_close(found, expected[mask], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(F.linear(forced.features, weight, bias).log_softmax(-1), found, atol=1e-4, rtol=1e-4)


def test_a_step_gives_what_teacher_forcing_gives(case: Case) -> None:
    policy, mask = case.policy, length_mask(case.lengths, case.targets.shape[1])
    with torch.no_grad():
        memory = policy.encode(case.source)
        forced = policy.forced(memory, case.targets, case.lengths)
        state, steps, seen = policy.initial_state(memory), [], []
        for time, tokens in enumerate(F.pad(case.targets[:, :-1], (1, 0)).unbind(1)):
            logits, state, attention = policy.step(tokens, time, state, memory)
            steps.append(logits)
            seen.append(attention)
    torch.testing.assert_close(torch.stack(steps, 1)[mask], policy.project(forced.features), atol=1e-4, rtol=1e-4)
    attended = torch.stack(seen, 1)[mask]
    torch.testing.assert_close(attended, forced.attention[mask], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(attended.sum(-1), torch.ones(len(attended)))


def test_other_tokens_are_read_step_by_step(case: Case) -> None:
    policy = case.policy
    steps = [torch.arange(0)] + [torch.arange(len(case.targets))] * (case.targets.shape[1] - 1)
    inputs = F.pad(case.targets[:, :-1], (1, 0))
    same = PolicyTokens(steps, lambda logits, rows, time: inputs[rows, time])
    with torch.no_grad():
        memory = policy.encode(case.source)
        stepped = policy.forced(memory, case.targets, case.lengths, same)
        at_once = policy.forced(memory, case.targets, case.lengths)
    torch.testing.assert_close(stepped.features, at_once.features, atol=1e-4, rtol=1e-4)
    policy.forced(policy.encode(case.source), case.targets, case.lengths, "distribution").features.sum().backward()
    policy.zero_grad()


def test_every_parameter_learns(case: Case) -> None:
    policy = copy.deepcopy(case.policy)
    logits = policy.token_logits(policy.encode(case.source), case.targets, case.lengths)
    mask = length_mask(case.lengths, case.targets.shape[1])
    F.cross_entropy(logits, case.targets[mask]).backward()
    still = [name for name, weight in policy.named_parameters() if weight.requires_grad and weight.grad is None]
    assert still == []
    assert all(weight.grad.isfinite().all() for weight in policy.parameters() if weight.grad is not None)


def test_no_rows_have_gradients_of_zero(case: Case) -> None:
    """Learners wait for every gradient of each other; one of them may have drawn nothing to learn from."""
    policy = copy.deepcopy(case.policy)
    source = Source.of(text=(torch.zeros(0, 1, dtype=torch.long), torch.zeros(0, dtype=torch.long)))
    memory = policy.encode(source)
    forced = policy.forced(memory, torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    assert forced.features.shape == (0, policy.model.config.d_model) and forced.attention.shape[:2] == (0, 3)
    policy.project(forced.features).sum().backward()
    learning = [weight.grad for weight in policy.parameters() if weight.requires_grad]
    assert all(gradient is not None and not gradient.any() for gradient in learning)
    step, state, _ = policy.step(source.fields["text"].values[:, 0], 0, policy.initial_state(memory), memory)
    assert len(step) == 0 and {len(part) for part in state.layers} == {0}


# ---------------------------------------------------------------------------------------------------------- decoding
def test_greedy_is_that_of_generate(case: Case) -> None:
    memory = case.policy.encode(case.source)
    found = decode(case.policy, memory, torch.full((8,), LIMIT), GREEDY)
    expected = generated(case, do_sample=False, num_beams=1)
    assert rows(found.sequences[:, -1], found.lengths[:, -1]) == expected


@pytest.mark.parametrize("size", [2, 4])
def test_beams_are_those_of_generate(case: Case, size: int) -> None:
    # With length_penalty 0 both rank by log-probability; early_stopping "never" searches until nothing can be better.
    beam = Beam(size=size, ranking=Ranking(length_penalty=0.0))
    memory = case.policy.encode(case.source)
    found = beam_search(case.policy, memory, torch.full((8,), LIMIT), beam)
    expected = generated(case, do_sample=False, num_beams=size, length_penalty=0.0, early_stopping="never", **NORMAL)
    assert rows(found.sequences[:, 0], found.lengths[:, 0]) == expected


def test_samples_are_scored_as_they_were_drawn_and_hold_no_mark(case: Case) -> None:
    memory, limits = case.policy.encode(case.source), torch.full((8,), LIMIT)
    drawing = Drawing(uniforms=torch.rand(8, 5, LIMIT, generator=torch.Generator().manual_seed(0)), greedy=False)
    found = decode(case.policy, memory, limits, drawing)
    never = {token for token in range(case.policy.size) if case.policy.barred[case.policy.order[token]] < 0}
    assert never and never.isdisjoint(found.sequences.flatten().tolist()) and 0 not in never
    sequences, lengths = found.sequences.flatten(0, 1), found.lengths.flatten()
    repeated = memory.select(torch.arange(8).repeat_interleave(5))
    with torch.no_grad():
        scored = case.policy.token_logits(repeated, sequences, lengths).log_softmax(-1)
    mask = length_mask(lengths, sequences.shape[1])
    of_tokens = scored.gather(1, sequences[mask][:, None])[:, 0]
    torch.testing.assert_close(of_tokens, found.log_probs.flatten(0, 1)[mask], atol=1e-4, rtol=1e-4)


# -------------------------------------------------------------------------------------------------------- what is kept
def test_artifacts_hold_all_but_the_weights(case: Case, tmp_path: Path) -> None:
    config = settings(case.directory)
    task = make_task(config.task)
    task.save_artifacts(tmp_path)
    again = make_task(config.task, tmp_path)
    assert again.signature == task.signature
    assert again.choices == task.choices
    spaces = TaskSpaces.of(again)
    assert TaskSpaces.from_dict(json.loads(json.dumps(spaces.to_dict()))) == spaces
    kept = transformers.AutoTokenizer.from_pretrained(tmp_path / "pretrained")
    assert kept(LINES).input_ids == case.tokenizer(LINES).input_ids


def test_weights_go_back_into_transformers(case: Case) -> None:
    config = transformers.AutoConfig.from_pretrained(case.directory)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config)
    state = {name.removeprefix("model."): value for name, value in case.policy.state_dict().items()}
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    batch = theirs(case)
    with torch.no_grad():
        pair = (
            each.eval()(**batch, decoder_input_ids=case.policy.begin[None].expand(8, -1)).logits
            for each in (model, case.model)
        )
    first, second = pair
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------------ bad input
def _no_directory(directory: Path) -> None:
    shutil.rmtree(directory)


def _no_config(directory: Path) -> None:
    (directory / "config.json").unlink()


def _decoder_only(directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2", "decoder_start_token_id": 0}))


def _pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def _no_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


def _own_code(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_no_directory, "policy.path: no such directory"),
        (_no_config, "holds no config.json: give a directory that save_pretrained"),
        (_decoder_only, "is of no encoder–decoder but of 'gpt2'"),
        (_pickled, "but pytorch_model.bin, which may hold code and is not opened"),
        (_no_tokenizer, "holds no tokenizer"),
        (_own_code, "names code of its own (auto_map), which is never executed"),
    ],
)
def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path, spoil: Any, problem: str) -> None:
    write_model(tmp_path / "model", "t5")
    spoil(tmp_path / "model")
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path / "model")
    assert problem in str(caught.value)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "model", "t5")
    monkeypatch.setattr("rlseq.config.pretrained.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'rlseq\[pretrained\]'"):
        settings(tmp_path / "model")


def test_a_task_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "t5")
    policy = {"type": "pretrained", "path": str(tmp_path / "model")}
    least = {"name": "x", "policy": policy, "mle": {"updates": 1}, "rl": {"updates": 1}}
    with pytest.raises(ConfigError, match=r"set task\.tokenizer to policy\.path"):
        load_config(least | {"task": {"type": "translation"}})
    with pytest.raises(ConfigError, match="vocabulary_size is 50, but tokenizer brings its own"):
        task = {"type": "translation", "tokenizer": str(tmp_path / "model"), "vocabulary_size": 50}
        load_config(least | {"task": task})


def test_sequences_longer_than_positions_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "bart")
    config = settings(tmp_path / "model")
    task = make_task(config.task.__class__(**vars(config.task) | {"max_length": 64, "max_source_length": 65}))
    with pytest.raises(ValueError) as caught:
        build_policy(config.policy, TaskSpaces.of(task))
    assert "set task.max_source_length to 64" in str(caught.value) and "set task.max_length to 63" in str(caught.value)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "t5")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_layers": 3}))
    config = settings(tmp_path / "model")
    with pytest.raises(ValueError, match="its weights lack"):
        initial_weights(config.policy)
