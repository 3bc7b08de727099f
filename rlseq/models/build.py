"""From a configuration to a policy."""

from __future__ import annotations

import torch

from rlseq.config.fit import misfits
from rlseq.config.policy import AttentionPolicyConfig, PointerPolicyConfig, PolicyConfig
from rlseq.config.schema import Config
from rlseq.models.critic import Critic
from rlseq.models.decoders.attention_lstm import AttentionLSTM
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.encoders.recurrent import RecurrentEncoder
from rlseq.models.layers.embedding import TokenEmbedding, VectorEmbedding
from rlseq.models.layers.recurrent import BidirectionalLSTM
from rlseq.models.outputs.pointer import PointerOutput
from rlseq.models.outputs.vocabulary import VocabularyOutput
from rlseq.models.policy import SequencePolicy
from rlseq.models.readouts import AttentionalVector, Scores
from rlseq.models.spaces import TaskSpaces


def build_policy(config: PolicyConfig, spaces: TaskSpaces, seed: int = 0) -> EncoderDecoder:
    """A freshly initialised policy; the same seed gives the same weights, whatever ran before.

    Raises:
        ValueError: The policy cannot do this task; a line for each reason, with the key and the remedy.
    """
    if found := misfits(config, spaces.sources, spaces.choices):
        raise ValueError("\n".join(found))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(config, AttentionPolicyConfig):
            return _attention(config, spaces)
        return _pointer(config, spaces)


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


# Weights are drawn as the parts are made, so the order of these lines is part of what a seed means.


def _attention(config: AttentionPolicyConfig, spaces: TaskSpaces) -> EncoderDecoder:
    """Tokens in, tokens out, attention in between (Bahdanau et al. 2015; Luong et al. 2015)."""
    ((field, space),) = spaces.sources.items()
    assert spaces.choices.size is not None and space.tokens is not None
    size, dropouts = config.embedding_size, (config.dropout, config.word_dropout)
    encoder = _encoder(config, field, size, keeps_inputs=False)
    decoder = AttentionLSTM(config, size, feed_size=size if config.feed_context else 0, reads=True)
    target = TokenEmbedding(spaces.choices.size, size, *dropouts)
    source = target if config.share_embeddings else TokenEmbedding(space.tokens, size, *dropouts)
    readout = AttentionalVector(2 * config.hidden_size, size, config.dropout, config.feed_context)
    return EncoderDecoder(encoder, decoder, source, VocabularyOutput(target, config.tie_embeddings), readout)


def _pointer(config: PointerPolicyConfig, spaces: TaskSpaces) -> EncoderDecoder:
    """Vectors in, positions out (Vinyals et al. 2015)."""
    ((field, space),) = spaces.sources.items()
    size = config.hidden_size
    encoder = _encoder(config, field, size, keeps_inputs=True)
    feed_size = size if config.feed_context else 0
    decoder = AttentionLSTM(config, size, feed_size, reads=config.feed_context)
    source = VectorEmbedding(space.largest[-1], size, config.dropout)
    output = PointerOutput(size, config.dropout, config.mask_revisits)
    return EncoderDecoder(encoder, decoder, source, output, Scores(feed_size))


def _encoder(
    config: AttentionPolicyConfig | PointerPolicyConfig, field: str, input_size: int, keeps_inputs: bool
) -> RecurrentEncoder:
    lstm = BidirectionalLSTM(input_size, config.hidden_size, config.encoder_layers, config.forget_bias, config.dropout)
    return RecurrentEncoder(lstm, field, keeps_inputs)
