"""Policies of every kind: stepping equals teacher forcing, and nothing but an instance's own tokens matters."""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rlseq.config.errors import UserError
from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.layers.recurrent import LSTMLayer
from rlseq.models.memory import SOURCE, Memory, Sharing
from rlseq.models.policy import SequencePolicy, length_mask, shift_right
from rlseq.models.spaces import TaskSpaces
from rlseq.models.state import State, select_rows
from rlseq_envs.source import Padded, Source
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from rlseq_envs.tasks.translation import TranslationTask
from tests.models.toys import DECODERS, ENCODERS, ToyDecoder, ToyEncoder, toy_policy
from tests.pages import OWN_NETWORK, blocks
from tests.support import (
    MATCHES,
    POINTER,
    POINTS,
    POOLED,
    REGIONS,
    ReverseTask,
    attention_policy,
    drawing_policy,
    features_policy,
    picture_policy,
    pointer_policy,
    policy_config,
    shaken,
    sources,
    stepped_log_probs,
    story_policy,
    targets,
    text_spaces,
)

Build = Callable[[], EncoderDecoder]
SOURCE_LENGTHS, LENGTHS = [5, 3, 1, 4], [4, 3, 1, 5]


def toy(encoder: type[ToyEncoder], decoder: type[ToyDecoder]) -> EncoderDecoder:
    return shaken(toy_policy(encoder, decoder))


def documented(points: bool) -> EncoderDecoder:
    """With the decoder of the page that says how to write a network."""
    name = "gru"
    if name not in sys.modules:
        sys.modules[name] = ModuleType(name)
        exec(blocks(OWN_NETWORK, "python")[0], vars(sys.modules[name]))
    decoder = {"type": "own", "class": f"{name}:GRUDecoder", "arguments": {"scale": 0.5}}
    config = policy_config({"output": "pointer" if points else "vocabulary", "decoder": decoder}, hidden_size=8)
    return shaken(build_policy(config, POINTS if points else text_spaces(7, 9)))


def grid(make: Callable[..., SequencePolicy], **choices: Any) -> list[Any]:
    """One parameter for each combination of the choices."""
    cases = []
    for values in itertools.product(*choices.values()):
        keys = dict(zip(choices, values, strict=True))
        name = "-".join([make.__name__, *(f"{key}={value}" for key, value in keys.items())])
        cases.append(pytest.param(lambda keys=keys: make(**keys), id=name))
    return cases


def transformer(points: bool, heads: int = 2, **keys: Any) -> EncoderDecoder:
    """Both halves a transformer's, of two layers; keys that only one of them has go to that one."""
    parts = {"type": "transformer", "layers": 2, "heads": heads, "feedforward_size": 12}
    base = {"encoder": parts, "decoder": parts, "output": "pointer" if points else "vocabulary"}
    config = policy_config(base, **{"hidden_size": 8, "dropout": 0.0} | keys)
    return shaken(build_policy(config, POINTS if points else text_spaces(7, 9)))


def turing(heads: int = 1, **keys: Any) -> EncoderDecoder:
    """Both halves a Neural Turing Machine's; keys that only one of them has go to that one."""
    part = {"type": "turing_machine", "width": 5, "read_heads": heads, "write_heads": heads}
    base = {"encoder": part | {"locations": 7}, "decoder": part}
    config = policy_config(base, **{"hidden_size": 8, "dropout": 0.0} | keys)
    return shaken(build_policy(config, text_spaces(7, 9)))


def mixed(encoder: str, decoder: str | dict[str, Any], points: bool) -> EncoderDecoder:
    """One half a transformer's."""
    base = {"encoder": encoder, "decoder": decoder, "output": "pointer" if points else "vocabulary"}
    config = policy_config(base, hidden_size=8, dropout=0.0)
    return shaken(build_policy(config, POINTS if points else text_spaces(7, 9)))


def fixed_output(mask_revisits: bool, **keys: str) -> EncoderDecoder:
    """Positions chosen by their numbers."""
    pointer = {"type": "pointer", "mask_revisits": mask_revisits}
    base = {"decoder": {"type": "fixed_output_lstm", **keys}, "output": pointer}
    return shaken(build_policy(policy_config(base, hidden_size=8, dropout=0.0), POINTS))


def pyramidal(decoder: str) -> EncoderDecoder:
    """One halving, so that sources of a few positions keep several."""
    config = policy_config(
        {"encoder": {"type": "pyramidal", "halvings": 1}, "decoder": decoder}, hidden_size=8, dropout=0.0
    )
    return shaken(build_policy(config, text_spaces(7, 9)))


states = ("encoder", "learned")
both = (False, True)
ATTENTION = grid(attention_policy, match=MATCHES, feed_context=both, first_state=states)
UNNORMALISED = grid(attention_policy, match=MATCHES, normalise=("none",), feed_context=both)
UNNORMALISED += grid(pointer_policy, match=("additive",), normalise=("none",), feed_context=(True,), mask_revisits=both)
EMBEDDINGS = grid(attention_policy, tie_embeddings=both, shared=both, layers=(1, 3))
POINTING = grid(pointer_policy, match=MATCHES, feed_context=both, first_state=states, mask_revisits=both)
LAYERS = grid(pointer_policy, layers=(2, 3))
TRANSFORMERS = grid(transformer, points=both, norm=("pre", "post"), window=(None, 2))
TRANSFORMERS += grid(transformer, points=both, positions=("learned",), heads=(1, 4), embedding_size=(6,))
TRANSFORMERS += grid(transformer, points=(True,), match=MATCHES, mask_revisits=both)
TRANSFORMERS += grid(transformer, points=both, scale_by_log_length=(True,), window=(None, 2))
TOLD = ("lstm", {"type": "lstm", "reads": "every_step"}, "multimodal", "top_down", "attention_lstm", "transformer")
MIXED = [
    *grid(mixed, encoder=("transformer",), decoder=("attention_lstm",), points=both),
    *grid(mixed, encoder=("lstm",), decoder=("transformer",), points=both),
]
MIXED += grid(mixed, encoder=("turing_machine",), decoder=("attention_lstm", "transformer"), points=both)
MIXED += grid(mixed, encoder=("lstm", "transformer", "turing_machine"), decoder=TOLD[:4], points=(False,))
MIXED += grid(pyramidal, decoder=("attention_lstm", "lstm", "transformer"))
FIXED = grid(fixed_output, match=MATCHES, mask_revisits=both)
FIXED += grid(fixed_output, reads=("every_step",), mask_revisits=(False,))
controllers, addressings = ("lstm", "feed_forward"), ("content", "content_and_location")
TURING = grid(turing, controller=controllers, addressing=addressings, heads=(1, 2))
TURING += grid(turing, shift=(2,), embedding_size=(6,))
STORIES = grid(story_policy, hops=(1, 3), tying=("adjacent", "layer_wise", "none"))
STORIES += grid(story_policy, hops=(1,), tying=("adjacent", "layer_wise"), normalise=("none",))
STORIES += grid(story_policy, hops=(2,), rectified=(0.5,))
STORIES += grid(story_policy, words=("position", "bag"), temporal=both, share_embeddings=both)
STORIES += grid(story_policy, decoder=("attention_lstm", "transformer"), same=both)
PICTURES = grid(picture_policy, decoder=("attention_lstm", "lstm", "transformer"))
PICTURES += grid(picture_policy, decoder=("attention_lstm",), layers=(1, 3), halvings=(0, 1))
FEATURES = grid(features_policy, decoder=TOLD)
FEATURES += grid(features_policy, decoder=TOLD, fields=(REGIONS,), embedding_size=(6,))
FEATURES += grid(features_policy, decoder=TOLD[:3], fields=(POOLED,))
FEATURES += grid(features_policy, decoder=[{"type": "top_down", "match": match} for match in MATCHES])
DRAWN = grid(drawing_policy, decoder=("attention_lstm", "lstm", "grid_lstm"), asked=both)
DRAWN += grid(drawing_policy, decoder=("transformer",), asked=(True,))
DRAWN += grid(drawing_policy, decoder=("grid_lstm",), ahead=(1, 2, 9))
DOCUMENTED = grid(documented, points=both)
TOYS = grid(toy, encoder=ENCODERS, decoder=DECODERS)
EVERY = [
    *ATTENTION,
    *EMBEDDINGS,
    *POINTING,
    *LAYERS,
    *UNNORMALISED,
    *TRANSFORMERS,
    *TURING,
    *MIXED,
    *FIXED,
    *STORIES,
    *PICTURES,
    *FEATURES,
    *DRAWN,
    *DOCUMENTED,
    *TOYS,
]
FEW = [
    *TRANSFORMERS[::3],
    *TURING[::2],
    *MIXED,
    *STORIES[::3],
    *PICTURES[::2],
    *FEATURES[::2],
    *DRAWN[::2],
    *DOCUMENTED,
    *TOYS,
    *FIXED[::3],
    *grid(attention_policy, match=("bilinear",), feed_context=both, layers=(2,)),
    *grid(pointer_policy, match=("additive",), feed_context=both, mask_revisits=both),
]
ROWS_SHARE = [*ATTENTION, *POINTING, *FIXED, *UNNORMALISED, *TURING, *PICTURES, *FEATURES, *DRAWN, *DOCUMENTED, *TOYS]
every_policy = pytest.mark.parametrize("build", EVERY)
few_policies = pytest.mark.parametrize("build", FEW)


def batch(policy: EncoderDecoder) -> tuple[Source[Tensor], Tensor, Tensor]:
    source = sources(policy, SOURCE_LENGTHS)
    return source, targets(policy, source, LENGTHS), torch.tensor(LENGTHS)


def widened(source: Source[Tensor]) -> Source[Tensor]:
    """Three positions more of padding, full of garbage, wherever lengths differ."""
    fields = {}
    for name, (values, lengths) in source.fields.items():
        wider = values if lengths is None else torch.cat([values, values[:, :3]], 1)
        if lengths is not None and lengths.dim() == 2:
            lengths = F.pad(lengths, (0, wider.shape[1] - lengths.shape[1]))
        fields[name] = Padded(wider, lengths)
    return Source(source.size, fields)


def without_garbage(source: Source[Tensor]) -> Source[Tensor]:
    """0 in all padding."""
    fields = {}
    for name, (values, lengths) in source.fields.items():
        if lengths is not None:
            mask = torch.arange(values.shape[lengths.dim()]) < lengths[..., None]
            values = torch.where(mask.view(*mask.shape, *[1] * (values.dim() - mask.dim())), values, 0)
        fields[name] = Padded(values, lengths)
    return Source(source.size, fields)


def tensors(memory: Memory) -> list[Tensor]:
    """All there are, in a fixed order."""
    banks = [(bank.values, bank.mask, *bank.keys, bank.inputs) for bank in memory.banks.values()]
    return [part for bank in banks for part in bank if part is not None] + [memory.summary]


def leaves(state: State) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in leaves(part)]


def assert_same_distribution(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Log-probabilities agree; those of impossible choices agree in being impossible."""
    possible = theirs > -1e8
    assert torch.equal(ours > -1e8, possible)
    torch.testing.assert_close(ours[possible], theirs[possible], atol=tolerance, rtol=0)


# ---------------------------------------------------------------------------------------------------- step = forward
@every_policy
def test_stepping_equals_teacher_forcing(build: Build) -> None:
    """In double precision: in single a layer norm of few units can carry a rounding into the fifth digit."""
    policy = build().double()
    source, sequences, lengths = batch(policy)
    source = source.map(lambda values: values.double() if values.is_floating_point() else values)
    with torch.no_grad():
        forced = policy(source, sequences, lengths)
        stepped = stepped_log_probs(policy, policy.encode(source), sequences)
    real = length_mask(lengths, sequences.shape[1])
    assert_same_distribution(forced[real], stepped[real], 1e-10)
    torch.testing.assert_close(forced[real].exp().sum(-1), torch.ones(int(lengths.sum()), dtype=torch.float64))


@every_policy
def test_nothing_beyond_a_length_counts(build: Build) -> None:
    policy = build()
    source, sequences, lengths = batch(policy)
    real = length_mask(lengths, sequences.shape[1])
    other = torch.where(real, sequences, 1)
    first, second = (policy(source, rows, lengths) for rows in (sequences, other))
    assert torch.equal(first, second)
    assert not first[~real].any()


@every_policy
def test_every_parameter_learns(build: Build) -> None:
    policy = build()
    source, sequences, lengths = batch(policy)
    picked = policy(source, sequences, lengths).gather(2, sequences[:, :, None])
    picked[length_mask(lengths, sequences.shape[1])].sum().backward()
    idle = [n for n, p in policy.named_parameters() if p.grad is None or not (p.grad.abs().sum() > 0)]
    attends = policy.attention_mask(policy.encode(source)).shape[1] > 0
    assert [name for name in idle if attends or ".attention." not in name] == []


# -------------------------------------------------------------------------------------------------- independent rows
@few_policies
def test_an_instance_has_the_same_distribution_in_every_batch_and_under_any_padding(build: Build) -> None:
    policy = build()
    source, sequences, lengths = batch(policy)
    together = policy(source, sequences, lengths).detach()
    padding = policy(widened(source), sequences, lengths).detach()
    assert_same_distribution(padding[:, :, : together.shape[2]], together)
    assert not (padding[:, :, together.shape[2] :] > -1e8)[length_mask(lengths, sequences.shape[1])].any()
    for row, length in enumerate(LENGTHS):
        one = slice(row, row + 1)
        alone = policy(source.part(row, row + 1), sequences[one, :length], lengths[one]).detach()
        assert_same_distribution(alone[0], together[row, :length, : alone.shape[2]])


@few_policies
def test_an_encoding_does_not_see_its_padding(build: Build) -> None:
    policy = build()
    source = sources(policy, SOURCE_LENGTHS)
    first, second = policy.encode(source), policy.encode(without_garbage(source))
    for name, bank in first.banks.items():
        assert torch.equal(bank.values[bank.mask], second.banks[name].values[bank.mask])
    assert torch.equal(first.summary, second.summary)


def test_positions_that_were_not_trained_are_refused() -> None:
    policy = fixed_output(match="additive", mask_revisits=False)
    longest = POINTS.sources["points"].largest[0]
    policy.encode(sources(policy, [longest, 3]))
    with pytest.raises(UserError, match=f"has {longest + 1} positions, but .* knows the {longest} of its training"):
        policy.encode(sources(policy, [longest + 1, 3]))


def test_attention_of_padding_is_zero_and_of_the_rest_sums_to_one() -> None:
    for policy in (attention_policy(), pointer_policy()):
        memory = policy.encode(sources(policy, SOURCE_LENGTHS))
        attention = policy.step(torch.zeros(4, dtype=torch.int64), 0, policy.initial_state(memory), memory)[2]
        assert not attention[~policy.attention_mask(memory)].any()
        torch.testing.assert_close(attention.sum(1), torch.ones(4))


def test_memory_is_selected_row_by_row_and_detached() -> None:
    policy = pointer_policy()
    memory = policy.encode(sources(policy, SOURCE_LENGTHS))
    rows = torch.tensor([3, 0, 0])
    picked = memory.select(rows)
    for one, every, cut in zip(*map(tensors, (picked, memory, memory.detach())), strict=True):
        assert torch.equal(one, every[rows]) and torch.equal(cut, every) and not cut.requires_grad
    assert len(picked) == 3 and len(tensors(memory)) == 5 and memory.banks[SOURCE].values.requires_grad


@few_policies
def test_sources_encoded_in_parts_are_one_memory(build: Build) -> None:
    policy = build()
    source, sequences, lengths = batch(policy)
    whole = policy.encode(source)
    parts = [policy.encode(source.part(*rows)) for rows in ((0, 2), (2, 3), (3, 4))]
    joined = Memory.concatenate(parts)
    mask = whole.banks[SOURCE].mask
    assert torch.equal(joined.banks[SOURCE].mask, mask)
    torch.testing.assert_close(joined.summary, whole.summary)
    for one, other in zip(tensors(joined), tensors(whole), strict=True):
        if one.shape[:2] == mask.shape:
            torch.testing.assert_close(one[mask], other[mask])
    ours, theirs = (policy.token_logits(memory, sequences, lengths) for memory in (joined, whole))
    assert_same_distribution(ours, theirs, 1e-5)


@pytest.mark.parametrize("build", ROWS_SHARE)
def test_rows_that_share_a_source_step_as_rows_with_their_own(build: Build) -> None:
    policy = build()
    source = sources(policy, SOURCE_LENGTHS)
    read = torch.tensor([1, 0, 1, 3, 1])  # nobody reads the third, in no order, one, three and one of the others
    with torch.no_grad():
        memory = policy.encode(source)
        own, shared = memory.select(read), memory.shared_by(Sharing.of(read))
        assert len(shared) == 3
        state = select_rows(policy.initial_state(memory), read)
        tokens = torch.tensor([0, 2, 1, 3, 1])
        for time in range(2):
            ours, theirs = (policy.step(tokens, time, state, each) for each in (shared, own))
            assert_same_distribution(ours[0].log_softmax(-1), theirs[0].log_softmax(-1), 1e-6)
            for one, other in zip(leaves(ours[1:]), leaves(theirs[1:]), strict=True):
                torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
            state = theirs[1]


def test_a_source_that_few_rows_leave_unread_stays() -> None:
    policy = pointer_policy()
    memory = policy.encode(sources(policy, [3] * 10))
    for read, kept in ((torch.arange(9), 10), (torch.arange(7) + 3, 7)):
        shared = memory.shared_by(Sharing.of(read))
        assert len(shared) == kept
        for one, other in zip(tensors(shared), tensors(memory), strict=True):
            assert torch.equal(shared.rows(one), other[read])


def test_a_vocabulary_that_both_sides_share_may_have_one_table() -> None:
    config = policy_config({}, embedding_size=8, hidden_size=16, share_embeddings=True)
    one, two = (TranslationTask(cldr_sizes=(60, 2, 2), vocabulary_size=250, shared_vocabulary=s) for s in (True, False))
    tables = [p for p in build_policy(config, TaskSpaces.of(one)).parameters() if p.shape == (one.choices.size, 8)]
    assert len(tables) == 1
    with pytest.raises(ValueError, match=r"policy\.output\.share_embeddings needs one vocabulary"):
        build_policy(config, TaskSpaces.of(two))


# -------------------------------------------------------------------------------------------------------------- modes
@pytest.mark.parametrize("make", [attention_policy, pointer_policy])
def test_dropout_is_off_in_evaluation_and_on_in_training(make: Callable[..., EncoderDecoder]) -> None:
    plain, policy = make(), make(dropout=0.5)
    given = batch(policy)
    assert torch.equal(policy(*given), plain(*given))
    policy.train()
    assert not torch.equal(policy(*given), policy(*given))


# ----------------------------------------------------------------------------------------------------------- pointer
def test_word_dropout_leaves_out_whole_tokens_in_training_alone() -> None:
    policy, tokens = attention_policy(word_dropout=0.25), torch.randint(7, (50, 20))
    whole = policy.embedding(tokens)
    assert torch.equal(whole, attention_policy().embedding(tokens))
    dropped = policy.train().embedding(tokens)
    left = dropped.ne(0).any(-1)
    assert 0.2 < float((~left).float().mean()) < 0.3
    torch.testing.assert_close(dropped[left], whole[left] / 0.75)


@pytest.mark.parametrize("count", [1, 2, 11, 60])
def test_a_pointer_takes_any_number_of_points(count: int) -> None:
    policy = pointer_policy()
    source = sources(policy, [count, 1])
    log_probs = policy(source, torch.tensor([[count, 0], [1, 0]]), torch.tensor([2, 2]))
    assert log_probs.shape == (2, 2, count + 1)
    assert (log_probs[0] > -1e8).all() and not (log_probs[1, :, 2:] > -1e8).any()


def test_masked_revisits_have_probability_zero_and_end_is_always_possible() -> None:
    policy = pointer_policy(mask_revisits=True)
    source = sources(policy, [4])
    probabilities = policy(source, torch.tensor([[3, 1, 4, 2, 0]]), torch.tensor([5]))[0].exp()
    visited: set[int] = set()
    for distribution, token in zip(probabilities, [3, 1, 4, 2, 0], strict=True):
        assert {choice for choice in range(5) if distribution[choice] == 0.0} == visited
        visited.add(token)
    assert probabilities[4, 0] == 1.0


# ---------------------------------------------------------------------------------------------------------- building
def test_the_seed_alone_decides_the_weights() -> None:
    def weights(seed: int, before: int) -> list[Tensor]:
        torch.manual_seed(before)
        config = policy_config({}, embedding_size=6, hidden_size=8)
        return list(build_policy(config, text_spaces(5, 7), seed).parameters())

    first, second, other = weights(3, 0), weights(3, 1), weights(4, 0)
    assert all(map(torch.equal, first, second))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a.dim() > 1)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build_policy(policy_config(POINTER, hidden_size=8), POINTS)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("make", [attention_policy, pointer_policy])
@pytest.mark.parametrize("bias", [0.0, 1.0, 2.5])
def test_forget_gates_start_at_the_bias_given(make: Callable[..., SequencePolicy], bias: float) -> None:
    base, spaces = ({}, text_spaces(5, 7)) if make is attention_policy else (POINTER, POINTS)
    policy = build_policy(policy_config(base, hidden_size=8, forget_bias=bias), spaces)
    layers = [module for module in policy.modules() if isinstance(module, LSTMLayer)]
    assert len(layers) == 3
    for layer in layers:
        input_gate, forget, cell, output = (layer.bias_ih_l0 + layer.bias_hh_l0).chunk(4)
        assert (forget == bias).all() and not torch.cat([input_gate, cell, output]).any()


def test_embeddings_are_tied_and_shared_as_asked() -> None:
    def modules(**keys: Any) -> tuple[Any, Any, Any]:
        policy: Any = attention_policy(**keys)
        return policy.output.weight, policy.output.embedding.table.weight, policy.embedding.table.weight

    output, target, source = modules(tie_embeddings=True, shared=True)
    assert output is target is source
    output, target, source = modules(tie_embeddings=True, shared=False)
    assert output is target and source is not target
    output, target, source = modules(tie_embeddings=False, shared=True)
    assert output is not target and source is target
    output, target, source = modules(tie_embeddings=False, shared=False)
    assert output is not target and source is not target


def test_a_copy_keeps_its_embeddings_tied() -> None:
    policy: Any = copy.deepcopy(attention_policy(tie_embeddings=True, shared=True))
    assert policy.output.weight is policy.output.embedding.table.weight is policy.embedding.table.weight


def test_spaces_are_read_off_a_task_and_survive_json() -> None:
    hull, reverse = TaskSpaces.of(ConvexHullTask()), TaskSpaces.of(ReverseTask())
    assert [*hull.sources] == ["points"] and hull.choices.points_to == "points"
    assert list(hull.differences(TaskSpaces.of(ConvexHullTask(max_points=9)))) == []
    assert list(reverse.differences(TaskSpaces.of(ReverseTask(letters=6)))) == [
        ("sources.text.tokens", 5, 7),
        ("choices.size", 5, 7),
    ]
    assert TaskSpaces.from_dict(hull.to_dict()) == hull and TaskSpaces.from_dict(reverse.to_dict()) == reverse


def test_decoder_inputs_begin_with_end() -> None:
    assert shift_right(torch.tensor([[3, 1, 0], [2, 0, 9]])).tolist() == [[0, 3, 1], [0, 2, 0]]


@pytest.mark.parametrize("decoder", ["lstm", "grid_lstm", "attention_lstm", "transformer"])
def test_without_end_no_probability_is_left_for_it_and_none_is_lost(decoder: str) -> None:
    policy = drawing_policy(decoder=decoder, asked=True)
    given = batch(policy)
    probabilities = policy(*given).exp()[length_mask(given[2], given[1].shape[1])]
    assert not probabilities[:, 0].any()
    torch.testing.assert_close(probabilities[:, 1:].sum(-1), torch.ones(len(probabilities)))
