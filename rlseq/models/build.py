"""From a configuration to a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, overload

import torch
from torch import nn

from rlseq.config.outputs import VocabularyConfig
from rlseq.config.policy import PolicyConfig
from rlseq.config.pretrained import PretrainedConfig
from rlseq.config.schema import Config
from rlseq.config.section import PolicySection
from rlseq.models.critic import Critic
from rlseq.models.decoders.attention_lstm import AttentionLSTM
from rlseq.models.decoders.fixed_output import FixedOutputLSTM
from rlseq.models.decoders.grid_lstm import GridLSTM
from rlseq.models.decoders.lstm import LSTMDecoder
from rlseq.models.decoders.memory_network import MemoryNetwork
from rlseq.models.decoders.multimodal import MultimodalRNN
from rlseq.models.decoders.top_down import TopDown
from rlseq.models.decoders.transformer import TransformerDecoder
from rlseq.models.decoders.turing_machine import TuringMachineDecoder
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.encoders.convolutional import ConvolutionalEncoder
from rlseq.models.encoders.features import FeaturesEncoder
from rlseq.models.encoders.nothing import NothingEncoder
from rlseq.models.encoders.pyramidal import PyramidalEncoder
from rlseq.models.encoders.recurrent import RecurrentEncoder
from rlseq.models.encoders.story import StoryEncoder
from rlseq.models.encoders.transformer import TransformerEncoder
from rlseq.models.encoders.turing_machine import TuringMachineEncoder
from rlseq.models.layers.embedding import TokenEmbedding, VectorEmbedding
from rlseq.models.outputs.pointer import PointerOutput
from rlseq.models.outputs.vocabulary import VocabularyOutput
from rlseq.models.own import find_class, make_part
from rlseq.models.parts import Decoder, DecoderSizes, Encoder, EncoderSizes, Output, OutputSizes, Readout
from rlseq.models.policy import SequencePolicy
from rlseq.models.pretrained import PretrainedPolicy, read_weights
from rlseq.models.readouts import AttentionalVector, Scores, States
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.spaces import Space

INTERFACES: dict[str, type[nn.Module]] = {"encoder": Encoder, "decoder": Decoder, "output": Output}
# Networks by slot and type; each is called with its sizes and its section.
NETWORKS: dict[str, dict[str, type[nn.Module]]] = {
    "encoder": {
        "lstm": RecurrentEncoder,
        "pyramidal": PyramidalEncoder,
        "transformer": TransformerEncoder,
        "turing_machine": TuringMachineEncoder,
        "story": StoryEncoder,
        "convolutional": ConvolutionalEncoder,
        "features": FeaturesEncoder,
        "nothing": NothingEncoder,
    },
    "decoder": {
        "attention_lstm": AttentionLSTM,
        "lstm": LSTMDecoder,
        "fixed_output_lstm": FixedOutputLSTM,
        "grid_lstm": GridLSTM,
        "transformer": TransformerDecoder,
        "turing_machine": TuringMachineDecoder,
        "memory_network": MemoryNetwork,
        "multimodal": MultimodalRNN,
        "top_down": TopDown,
    },
    "output": {"vocabulary": VocabularyOutput, "pointer": PointerOutput},
}


@overload
def build_policy(config: PolicyConfig, spaces: TaskSpaces, seed: int = 0) -> EncoderDecoder: ...
@overload
def build_policy(config: PolicySection, spaces: TaskSpaces, seed: int = 0) -> SequencePolicy: ...
def build_policy(config: PolicySection, spaces: TaskSpaces, seed: int = 0) -> SequencePolicy:
    """A freshly initialised policy; the same seed gives the same weights, whatever ran before.

    Raises:
        ValueError: The policy cannot do this task, or a class of the user's cannot be used; a line for each problem
            names the key and the remedy.
    """
    draw = _READY[type(config)](config, spaces)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return draw()


def build_for_training(config: Config, spaces: TaskSpaces) -> SequencePolicy:
    """The policy of an experiment with all that its training learns; raises as ``build_policy``."""
    policy = build_policy(config.policy, spaces, config.seed)
    if config.mle.attention_regularization:
        policy.learn_attention_target()
    if config.rl.critic:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            policy.critic = Critic(config.policy.hidden_size, config.rl.critic)
    return policy


def _parts(config: PolicyConfig, spaces: TaskSpaces) -> Callable[[], SequencePolicy]:
    """What draws the weights of a policy of parts; raises as ``build_policy``."""
    return partial(_build, config, spaces, _classes(config, spaces))


def _pretrained(config: PretrainedConfig, spaces: TaskSpaces) -> Callable[[], SequencePolicy]:
    """What draws weights in the place of those of a pretrained policy; raises as ``build_policy``."""
    if wrong := config.misfits(spaces.sources, spaces.choices):
        raise ValueError("\n".join(wrong))
    return partial(PretrainedPolicy, config, spaces)


_READY: dict[type[PolicySection], Callable[[Any, TaskSpaces], Callable[[], SequencePolicy]]] = {
    PolicyConfig: _parts,
    PretrainedConfig: _pretrained,
}


def initial_weights(config: PolicySection) -> dict[str, Any] | None:
    """The weights that training begins with, by name; None: those that were drawn. Raises ValueError."""
    return read_weights(config) if isinstance(config, PretrainedConfig) else None


def _classes(config: PolicyConfig, spaces: TaskSpaces) -> dict[str, Any]:
    """The class for each slot; raises as ``build_policy``, with all problems at once."""
    found, wrong = {}, config.misfits(spaces.sources, spaces.choices)
    for slot, networks in NETWORKS.items():
        section = getattr(config, slot)
        try:
            found[slot] = networks.get(section.type) or find_class(slot, section, INTERFACES[slot])
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("\n".join(wrong))
    return found


def _build(config: PolicyConfig, spaces: TaskSpaces, classes: Mapping[str, Any]) -> EncoderDecoder:
    """The parts, put together; raises as ``build_policy``.

    Weights are drawn as parts are made, so the order of lines is part of what a seed means.
    """
    wrong: list[str] = []

    def make(slot: str, sizes: Any) -> Any:
        try:
            return make_part(slot, classes[slot], getattr(config, slot), sizes)
        except ValueError as error:
            wrong.append(str(error))

    points, width, hidden_size = classes["output"].points, config.width, config.hidden_size
    feed_size, pointed_at = (hidden_size, spaces.choices.points_to) if points else (width, None)
    memories = config.decoder.memories
    encoder = make("encoder", EncoderSizes(spaces.sources, width, hidden_size, config.dropout, pointed_at, memories))
    positions = 0 if pointed_at is None else spaces.sources[pointed_at].largest[0] + 1
    longest, columns = spaces.choices.longest, spaces.choices.columns
    steps = DecoderSizes(
        width, hidden_size, feed_size, config.dropout, not points, longest, positions=positions, columns=columns
    )
    decoder = make("decoder", steps)
    words = None
    if spaces.choices.size is not None:
        words = TokenEmbedding(spaces.choices.size, width, config.dropout, config.word_dropout)
    source = _source_embedding(config, spaces.sources, words)
    fed = feed_size if decoder is not None and decoder.feeds else 0
    readout: Readout
    if points:
        readout = Scores(fed)
    elif decoder is not None and decoder.holds_context:
        readout = States(hidden_size, width, 0.0 if decoder.drops else config.dropout)
    else:
        readout = AttentionalVector(2 * hidden_size, width, config.dropout, bool(fed))
    output = make("output", OutputSizes(spaces.choices, width, hidden_size, config.dropout, words))
    if wrong:
        raise ValueError("\n".join(wrong))
    return EncoderDecoder(encoder, decoder, source, output, readout)


def _source_embedding(config: PolicyConfig, sources: Mapping[str, Space], words: nn.Module | None) -> nn.Module:
    """From the values of a field to vectors: see ``Encoder.forward``."""
    if words is not None and isinstance(config.output, VocabularyConfig) and config.output.share_embeddings:
        return words
    fields, counts = list(sources.values()), {space.tokens for space in sources.values()}
    if len(counts) == 1 and (count := counts.pop()) is not None:
        return TokenEmbedding(count, config.width, config.dropout, config.word_dropout)
    if len(fields) == 1 and fields[0].is_sequence:
        return VectorEmbedding(fields[0].largest[-1], config.width, config.dropout)
    return nn.Identity()
