"""The network: every key documented beside its default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from rlseq.config.section import Fraction, Section

MatchFunction = Literal["additive", "bilinear", "dot", "scaled_dot", "cosine"]


class AttentionPolicyConfig(Section):
    """Attention encoder–decoder: bidirectional LSTM encoder, LSTM decoder."""

    type: Literal["attention"]
    embedding_size: PositiveInt = 256  # width of an embedded token, and of the attentional vector
    hidden_size: PositiveInt = 384  # of the decoder; each encoder direction has half of it
    encoder_layers: PositiveInt = 1  # bidirectional layers, one on the other
    match: MatchFunction = "bilinear"  # how well a decoder state and an encoder state match (Luong et al. 2015)
    feed_context: bool = True  # the attentional vector joins the next step's input (input feeding)
    dropout: Fraction = 0.3  # of embeddings, between layers, and of what the output reads
    word_dropout: Fraction = 0.0  # of whole tokens, on either side
    tie_embeddings: bool = True  # the output layer's weights are the target's embeddings
    share_embeddings: bool = False  # the source's embeddings are the target's; needs one vocabulary for both
    forget_bias: float = 1.0  # first bias of the LSTMs' forget gates (Jozefowicz et al. 2015)
    # The decoder's: mapped from the encoder's last states, or learned.
    first_state: Literal["encoder", "learned"] = "encoder"


class PointerPolicyConfig(Section):
    """Pointer network: the attention over the input is the output distribution."""

    type: Literal["pointer"]
    hidden_size: PositiveInt = 128  # of the decoder; each encoder direction has half of it
    encoder_layers: PositiveInt = 1  # bidirectional layers, one on the other
    match: MatchFunction = "additive"  # how well a decoder state and an encoder state match (Bahdanau et al. 2015)
    feed_context: bool = False  # an attention read (glimpse) joins the next step's input
    mask_revisits: bool = False  # forbid a point that was already emitted
    dropout: Fraction = 0.0  # of embedded points, between layers, and of encoder states
    forget_bias: float = 1.0  # first bias of the LSTMs' forget gates (Jozefowicz et al. 2015)
    # The decoder's: mapped from the encoder's last states, or learned.
    first_state: Literal["encoder", "learned"] = "encoder"


PolicyConfig = Annotated[AttentionPolicyConfig | PointerPolicyConfig, Field(discriminator="type")]
