"""Public libraries that decode, with random weights at given sizes; each is imported only where it is asked for.

All are kept from ending early by their own means, so that every competitor decodes the same number of tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from bench_rows.measure import import_peer

Decode = Callable[[Tensor, Tensor], Tensor]  # source (batch_size, time), lengths → tokens (batch_size, tokens)


# ------------------------------------------------------------------------------------------------------ OpenNMT-py
def opennmt(vocabulary_size: int, size: int, tokens: int, *, sampling: bool) -> Decode:
    """OpenNMT-py's translator around its one-layer LSTM with "general" attention and no input feeding.

    Raises:
        SkipRow: OpenNMT-py cannot be imported.
    """
    translator = import_peer("onmt.translate.translator")
    network = _opennmt_network(vocabulary_size, size)
    # topk 1 takes the greedy path of its search class, topk −1 draws from the whole distribution.
    search = {"beam_size": 1, "random_sampling_topk": -1 if sampling else 1, "random_sampling_temp": 1.0}
    scorer = import_peer("onmt.translate").GNMTGlobalScorer(0.0, 0.0, None, None)
    limits = {"min_length": tokens, "max_length": tokens}
    vocabularies = {"src": _OpennmtVocabulary(vocabulary_size), "tgt": _OpennmtVocabulary(vocabulary_size)}
    run = translator.Translator(network, vocabularies, global_scorer=scorer, report_score=False, **search, **limits)

    def decode(source: Tensor, lengths: Tensor) -> Tensor:
        found = run.translate_batch({"src": source[:, :, None], "srclen": lengths}, attn_debug=False)
        return torch.stack([best[0] for best in found["predictions"]])

    return decode


class _OpennmtVocabulary:
    """What the translator asks of a vocabulary."""

    special = ("<unk>", "<blank>", "<s>", "</s>")

    def __init__(self, size: int) -> None:
        self.size = size

    def lookup_token(self, token: str) -> int:
        return self.special.index(token)

    def __len__(self) -> int:
        return self.size


def _opennmt_network(vocabulary_size: int, size: int) -> nn.Module:
    encoder = import_peer("onmt.encoders.rnn_encoder")
    decoder = import_peer("onmt.decoders.decoder")
    embeddings = import_peer("onmt.modules").Embeddings
    source, target = (embeddings(size, vocabulary_size, word_padding_idx=1) for _ in range(2))
    network: nn.Module = import_peer("onmt.models").NMTModel(
        encoder.RNNEncoder("LSTM", True, 1, size, embeddings=source),
        decoder.StdRNNDecoder("LSTM", True, 1, size, attn_type="general", embeddings=target),
    )
    network.generator = nn.Linear(size, vocabulary_size)
    return network.eval()


# --------------------------------------------------------------------------------------------------------- joeynmt
def joeynmt(vocabulary_size: int, size: int, tokens: int) -> Decode:
    """Joey NMT's greedy search over its one-layer LSTM with Luong attention and no input feeding.

    Raises:
        SkipRow: Joey NMT cannot be imported.
    """
    install = "install the extra 'bench' and, with --no-deps, joeynmt"
    search = import_peer("joeynmt.search", install)
    network = _joeynmt_network(vocabulary_size, size, install)

    @torch.no_grad()
    def decode(source: Tensor, lengths: Tensor) -> Tensor:
        mask = (torch.arange(source.shape[1]) < lengths[:, None])[:, None]
        states, hidden, *_ = network("encode", src=source, src_length=lengths, src_mask=mask)
        found: Tensor = search.greedy(mask, tokens, network, states, hidden, min_output_length=tokens)[0]
        return found

    return decode


def _joeynmt_network(vocabulary_size: int, size: int, install: str) -> nn.Module:
    models = import_peer("joeynmt.model", install)
    logging.getLogger("joeynmt.model").setLevel(logging.ERROR)
    marks = ("unk", "pad", "bos", "eos")
    special = {f"{mark}_token": f"<{mark}>" for mark in marks} | {f"{mark}_id": i for i, mark in enumerate(marks)}
    settings = SimpleNamespace(**special, sep_token=None, sep_id=None, lang_tags=[])
    words = [f"w{i}" for i in range(vocabulary_size - len(marks))]
    vocabulary = import_peer("joeynmt.vocabulary", install).Vocabulary(words, settings)
    embeddings = {"embedding_dim": size}
    recurrent = {"type": "recurrent", "rnn_type": "lstm", "num_layers": 1, "embeddings": embeddings}
    encoder = recurrent | {"hidden_size": size // 2, "bidirectional": True}
    decoder = recurrent | {"hidden_size": size, "attention": "luong", "input_feeding": False, "init_hidden": "bridge"}
    network: nn.Module = models.build_model({"encoder": encoder, "decoder": decoder}, vocabulary, vocabulary)
    return network.eval()


# -------------------------------------------------------------------------------------------- Hugging Face generate
def hugging_face(vocabulary_size: int, size: int, tokens: int) -> Decode:
    """Sampling by ``generate`` of transformers from a Marian of 2 encoder layers and 1 decoder layer.

    Raises:
        SkipRow: transformers cannot be imported.
    """
    transformers = import_peer("transformers")
    sides = {"layers": (2, 1), "attention_heads": (8, 8), "ffn_dim": (4 * size, 4 * size)}
    shape = {f"{side}_{key}": pair[i] for key, pair in sides.items() for i, side in enumerate(("encoder", "decoder"))}
    marks = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": None, "forced_eos_token_id": None}
    config = transformers.MarianConfig(vocab_size=vocabulary_size, d_model=size, dropout=0.0, **shape, **marks)
    network = transformers.MarianMTModel(config).eval()
    # top_k 0 is the whole distribution; transformers' default is 50.
    sampling = {"do_sample": True, "top_k": 0, "max_new_tokens": tokens} | marks
    settings = transformers.GenerationConfig(**sampling)

    def decode(source: Tensor, lengths: Tensor) -> Tensor:
        mask = (torch.arange(source.shape[1]) < lengths[:, None]).long()
        found: Tensor = network.generate(source, attention_mask=mask, generation_config=settings)
        return found[:, 1:]

    return decode
