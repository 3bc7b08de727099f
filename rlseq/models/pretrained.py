"""A policy that came trained: any encoder–decoder of the library transformers.

transformers computes the layers; shifting, sampling, beams and losses are those of every other policy. Ids are the
task's outside and the tokenizer's inside: END, which is 0, changes places with the tokenizer's end of a sequence.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.pretrained import PretrainedConfig
from rlseq.models.feeding import Feeding, PolicyTokens
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.policy import Forced, SequencePolicy, length_mask
from rlseq.models.spaces import TaskSpaces
from rlseq.objectives.logits import IMPOSSIBLE
from rlseq_envs.source import Source

_MODEL = "model."  # before the names of transformers, in those of the weights


class Kept(NamedTuple):
    """Keys and values of what each layer has read, in turn: (rows, heads, steps, size of a head)."""

    layers: tuple[Tensor, ...]


class PretrainedPolicy(SequencePolicy):
    """An encoder–decoder of transformers, freshly initialised; ``read_weights`` gives those it was trained to.

    The attention that it gives out is that of the last layer, a mean over heads.

    Args:
        config: Its section, with ``model`` filled in.
        spaces: What the task has: text in, tokens of the model's tokenizer out.

    Attributes:
        begin: (n,) the tokenizer's ids that the decoder reads first, such as a language's code behind its start.
        barred: (rows of the output layer,) added to logits: −1e9 for what is never emitted.
        order: (choices,) the tokenizer's id of each of the task's ids.

    Raises:
        ValueError: The model does not fit the task; a line for each problem.
    """

    model: Any
    begin: Tensor
    barred: Tensor
    order: Tensor

    def __init__(self, config: PretrainedConfig, spaces: TaskSpaces) -> None:
        super().__init__()
        tokenizer, size = spaces.choices.tokenizer, spaces.choices.size
        assert config.model is not None and tokenizer is not None and size is not None
        self.model = make_model(config)
        decoding, rows = config.model["generation"], self.model.get_output_embeddings().weight.shape[0]
        self.size, self.end = size, tokenizer.end
        begin, first = [int(decoding["decoder_start_token_id"])], decoding.get("forced_bos_token_id")
        begin += [int(first)] if first is not None else list(tokenizer.before)
        if wrong := self._misfits(config, spaces, rows, len(begin)):
            raise ValueError("\n".join(wrong))
        made: Any = self.model.config
        self.scale = made.d_model**-0.5 if getattr(made, "scale_decoder_outputs", False) else 1.0
        self.register_buffer("begin", torch.tensor(begin), persistent=False)
        self.register_buffer("barred", torch.zeros(rows), persistent=False)
        self.barred[[*_never_emitted(decoding, begin, tokenizer.special, self.end), *range(size, rows)]] = IMPOSSIBLE
        order = torch.arange(size)
        order[0], order[self.end] = self.end, 0
        self.register_buffer("order", order, persistent=False)
        shared = _shared(self.model)
        self.model.register_state_dict_post_hook(lambda _, state, prefix, __: _drop(state, prefix, shared))
        self.model.register_load_state_dict_pre_hook(lambda _, state, prefix, *__: _fill(state, prefix, shared))

    def _misfits(self, config: PretrainedConfig, spaces: TaskSpaces, rows: int, begin: int) -> list[str]:
        """What of the model does not fit the task's sizes."""
        wrong, made = [], self.model.config
        if self.size > rows:
            wrong.append(
                f"policy.path {config.path}: its tokenizer has {self.size} tokens, the model {rows}: give the "
                "tokenizer that belongs to the model"
            )
        if self.end != made.eos_token_id:
            wrong.append(f"policy.path {config.path}: END is {self.end} to its tokenizer, {made.eos_token_id} to it")
        positions = getattr(made, "max_position_embeddings", None)
        if positions is not None:
            (source,) = spaces.sources.values()
            lengths = {
                "max_source_length": (source.longest[0], positions),
                "max_length": (spaces.choices.longest, positions - begin + 1),
            }
            wrong += [
                f"task.{key} {length} is more than the {positions} positions of policy.path {config.path} allow: "
                f"set task.{key} to {most}"
                for key, (length, most) in lengths.items()
                if length > most
            ]
        return wrong

    # ----------------------------------------------------------------------------------------------------- the output
    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """The output layer, its rows in the order of the task's ids; of tokens that are never emitted the bias bars."""
        weight, bias = self._head()
        return (weight[: self.size], bias[: self.size]) if self.end == 0 else (weight[self.order], bias[self.order])

    def _head(self) -> tuple[Tensor, Tensor]:
        """In the order of the tokenizer's ids."""
        layer = self.model.get_output_embeddings()
        bias = self.barred
        for more in (layer.bias, getattr(self.model, "final_logits_bias", None)):
            bias = bias if more is None else bias + more.view(-1)
        return layer.weight, bias

    def project(self, features: Tensor, linear: Linear = F.linear) -> Tensor:
        """See ``SequencePolicy.project``; the weights stay where they are, their products change places."""
        weight, bias = self._head()
        logits = linear(features, weight[: self.size], bias[: self.size])
        return logits if self.end == 0 else logits.index_select(-1, self.order)

    def _ids(self, tokens: Tensor) -> Tensor:
        """The tokenizer's ids of the task's tokens."""
        return tokens if self.end == 0 else self.order[tokens]

    # ----------------------------------------------------------------------------------------------------- the source
    def encode(self, source: Source[Tensor]) -> Memory:
        """See ``SequencePolicy.encode``.

        The decoder reads its first token once a source: so each layer's keys and values of the source are made.
        """
        ((values, lengths),) = source.fields.values()
        assert lengths is not None
        if not len(values):  # transformers cannot compute with no rows
            one = Source.of(text=(values.new_zeros(1, 1), lengths.new_ones(1)))
            return self.encode(one).select(lengths)
        mask = length_mask(lengths, values.shape[1])
        states = self.model.get_encoder()(input_ids=self._ids(values), attention_mask=mask.long()).last_hidden_state
        start = self.begin[:1].expand(len(values), 1)
        cache = _cache((), ())
        self.model.get_decoder()(
            input_ids=start,
            encoder_hidden_states=states,
            encoder_attention_mask=mask.long(),
            past_key_values=cache,
            use_cache=True,
        )
        keys = tuple(
            part.transpose(1, 2) for layer in cache.cross_attention_cache.layers for part in (layer.keys, layer.values)
        )
        return Memory({SOURCE: Bank(states, mask, keys)}, states.new_zeros(len(values), 0))

    def attention_mask(self, memory: Memory) -> Tensor:
        """See ``SequencePolicy.attention_mask``."""
        return memory.banks[SOURCE].mask

    # -------------------------------------------------------------------------------------------------------- decoding
    def initial_state(self, memory: Memory) -> Kept:
        """Nothing was read."""
        keys = memory.banks[SOURCE].keys
        return Kept(tuple(key.new_zeros(len(memory), key.shape[2], 0, key.shape[3]) for key in keys))

    def step(
        self, tokens: Tensor, time: int, state: Kept, memory: Memory, linear: Linear = F.linear
    ) -> tuple[Tensor, Kept, Tensor]:
        """See ``SequencePolicy.step``."""
        features, attention, state = self._advance(self._read(tokens[:, None], time), state, memory)
        return self.project(features[:, -1], linear), state, attention[:, -1]

    def _read(self, tokens: Tensor, time: int) -> Tensor:
        """The tokenizer's ids that the decoder reads for tokens (rows, steps): first those that it begins with."""
        if time:
            return self._ids(tokens)
        return torch.cat([self.begin.expand(len(tokens), -1), self._ids(tokens[:, 1:])], 1)

    def _advance(
        self, ids: Tensor, state: Kept, memory: Memory, inputs: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Kept]:
        """Features (rows, steps, width), attention (rows, steps, positions) and state after ids (rows, steps).

        ``inputs`` (rows, steps, width) are read in the place of the ids' embeddings.
        """
        bank, rows = memory.banks[SOURCE], len(ids)

        def filled(part: Tensor) -> Tensor:
            """One row if there are none: transformers cannot compute with none. So weights have gradients of 0 then."""
            return part if rows else torch.cat([part, part.new_ones(1, *part.shape[1:])])

        mask, ids, inputs = filled(memory.rows(bank.mask)), filled(ids), None if inputs is None else filled(inputs)
        keys = tuple(filled(memory.rows(key)).transpose(1, 2) for key in bank.keys)
        cache = _cache(tuple(map(filled, state.layers)), keys)
        # The keys of the source are there: of its states no more than their shape is looked at.
        states = bank.values.new_zeros(1, 1, 1).expand(*mask.shape, bank.values.shape[2])
        out = self.model.get_decoder()(
            input_ids=ids if inputs is None else None,
            inputs_embeds=inputs,
            encoder_hidden_states=states,
            encoder_attention_mask=mask.long(),
            past_key_values=cache,
            use_cache=True,
            output_attentions=True,
        )
        kept = (part[:rows] for layer in cache.self_attention_cache.layers for part in (layer.keys, layer.values))
        return out.last_hidden_state[:rows] * self.scale, out.cross_attentions[-1].mean(1)[:rows], Kept(tuple(kept))

    # ------------------------------------------------------------------------------------------------- teacher forcing
    def forced(self, memory: Memory, targets: Tensor, lengths: Tensor, feeding: Feeding | None = None) -> Forced:
        """See ``SequencePolicy.forced``: all steps at once, or step by step if other tokens are read."""
        counted, before = length_mask(lengths, targets.shape[1]), len(self.begin) - 1
        state, inputs = self.initial_state(memory), F.pad(targets[:, :-1], (1, 0))
        if feeding is None:
            features, attention, _ = self._advance(self._read(inputs, 0), state, memory)
            features, attention = features[:, before:], attention[:, before:]
        else:
            steps: list[Tensor] = []
            seen: list[Tensor] = []
            for time, tokens in enumerate(inputs.unbind(1)):
                ids, expected = self._read_in_place(tokens, time, steps, feeding)
                out, attended, state = self._advance(ids, state, memory, expected)
                steps.append(out[:, -1])
                seen.append(attended[:, -1])
            features, attention = torch.stack(steps, 1), torch.stack(seen, 1)
        return Forced(features[counted], counted, [features], [attention])

    def _read_in_place(
        self, tokens: Tensor, time: int, steps: list[Tensor], feeding: Feeding
    ) -> tuple[Tensor, Tensor | None]:
        """Ids, and the embeddings that are read in their place."""
        if time and feeding == "distribution":
            table = self.model.get_decoder().get_input_embeddings()
            probabilities = self.project(steps[-1]).softmax(-1)
            expected = probabilities @ table.weight[self.order] * getattr(table, "embed_scale", 1.0)
            return self._ids(tokens[:, None]), expected[:, None]
        if isinstance(feeding, PolicyTokens) and len(rows := feeding.rows[time]):
            with torch.no_grad():
                chosen = feeding.choose(self.project(steps[-1].index_select(0, rows)), rows, time)
            tokens = tokens.index_copy(0, rows, chosen)
        return self._read(tokens[:, None], time), None


def _never_emitted(decoding: Mapping[str, Any], begin: list[int], special: tuple[int, ...], end: int) -> set[int]:
    """Ids that the decoder reads but never emits, and bad words of one token."""
    words = [word[0] for word in decoding.get("bad_words_ids") or [] if len(word) == 1]
    marks = [decoding["pad_token_id"]] if "pad_token_id" in decoding else []
    return {*begin, *special, *words, *marks, *(decoding.get("suppress_tokens") or [])} - {end}


# ------------------------------------------------------------------------------------------------ what transformers has
def _cache(read: tuple[Tensor, ...], source: tuple[Tensor, ...]) -> Any:
    """A cache of transformers that holds keys and values, in turn, of what was read and of the source."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache

    caches = []
    for parts in (read, source):
        cache = DynamicCache()
        for keys, values in zip(parts[::2], parts[1::2], strict=True):
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        caches.append(cache)
    return EncoderDecoderCache(*caches)


def make_model(config: PretrainedConfig) -> nn.Module:
    """The model of a section, freshly initialised.

    Raises:
        ValueError: transformers has no such model, or cannot make one of these sizes.
    """
    assert config.model is not None
    try:
        import transformers

        logging.getLogger("transformers").setLevel(logging.ERROR)
        keys = dict(config.model["config"])
        made = transformers.AutoConfig.for_model(keys.pop("model_type"), **keys)
        if config.dropout is not None:
            setattr(made, "dropout_rate" if hasattr(made, "dropout_rate") else "dropout", config.dropout)
        for name in ("encoder_layerdrop", "decoder_layerdrop"):  # a layer that is left out keeps no keys
            if hasattr(made, name):
                setattr(made, name, 0.0)
        model: nn.Module = transformers.AutoModelForSeq2SeqLM.from_config(
            made, attn_implementation="eager", dtype=torch.float32
        )
    except ImportError as error:
        raise ValueError("policy.type 'pretrained' needs transformers: pip install 'rlseq[pretrained]'") from error
    except Exception as error:  # sizes of config.json that do not go together raise errors of many types
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"policy.path {config.path}: transformers cannot make its model: {told}") from error
    return model


def read_weights(config: PretrainedConfig) -> dict[str, Any]:
    """The weights in the directory, as arrays by the policy's names; only safetensors are opened.

    Raises:
        ValueError: They cannot be read, or are not those of the model.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        model, found = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            Path(config.path),
            config=make_model(config).config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"policy.path {config.path}: its weights cannot be read: {told}") from error
    wrong = [str(name) for key in ("missing_keys", "mismatched_keys") for name in found[key]]
    if wrong:
        raise ValueError(f"policy.path {config.path}: its weights lack {', '.join(wrong[:10])} of the model")
    state = dict(model.state_dict())
    _drop(state, "", _shared(model))
    return {_MODEL + name: value.numpy() for name, value in state.items()}


def _shared(model: nn.Module) -> dict[str, str]:
    """Names of weights that are others once more, each with the name that is kept."""
    kept: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    return {name: first for name, value in named if (first := kept.setdefault(id(value), name)) != name}


def _drop(state: dict[str, Tensor], prefix: str, shared: Mapping[str, str]) -> None:
    for name in shared:
        state.pop(prefix + name, None)


def _fill(state: dict[str, Tensor], prefix: str, shared: Mapping[str, str]) -> None:
    for name, kept in shared.items():
        if prefix + kept in state:
            state[prefix + name] = state[prefix + kept]
