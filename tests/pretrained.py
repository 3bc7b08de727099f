"""Tiny models of transformers, made on the spot with a tokenizer, as a user has them in a directory."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

KINDS = ("marian", "t5", "bart")
_WORDS = (("red", "green", "blue"), ("cat", "dog", "owl"), ("ran", "sat", "flew"))
LINES = [" ".join(words) for words in product(*_WORDS)]
_SIZES: dict[str, dict[str, Any]] = {
    "marian": {
        **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64},
    },
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
}
_SIZES["bart"] = _SIZES["marian"]


def write_model(directory: Path, kind: str, seed: int = 0, spread: float = 0.3) -> Any:
    """A directory with a model of noise and its tokenizer; the model in evaluation mode."""
    directory.mkdir(parents=True, exist_ok=True)
    size, marks = {"marian": _marian, "t5": _t5, "bart": _bart}[kind](directory)
    config: Any = transformers.AutoConfig.for_model(kind, vocab_size=size, **_SIZES[kind], **marks)
    torch.manual_seed(seed)
    model: Any = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(spread * torch.randn(parameter.shape))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    model.save_pretrained(directory)
    return model


def _marian(directory: Path) -> tuple[int, dict[str, Any]]:
    texts = directory / "texts"
    texts.write_text("\n".join(LINES))
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(texts), model_prefix=str(directory / side), vocab_size=40, hard_vocab_limit=False, minloglevel=2
        )
        (directory / f"{side}.model").rename(directory / f"{side}.spm")
        (directory / f"{side}.vocab").unlink()
    texts.unlink()
    model = sentencepiece.SentencePieceProcessor(model_file=str(directory / "source.spm"))
    pieces = [model.id_to_piece(number) for number in range(3, model.get_piece_size())]
    ids = {piece: number for number, piece in enumerate(["</s>", "<unk>", *pieces, "<pad>"])}
    (directory / "vocab.json").write_text(json.dumps(ids))
    marian: Any = transformers.MarianTokenizer(
        str(directory / "source.spm"), str(directory / "target.spm"), str(directory / "vocab.json")
    )
    marian.save_pretrained(directory)
    pad = len(ids) - 1
    return len(ids), {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad, "bad_words_ids": [[pad]]}


def _t5(directory: Path) -> tuple[int, dict[str, Any]]:
    special = ["<pad>", "</s>", "<unk>"]
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.train_from_iterator(LINES, trainers.UnigramTrainer(vocab_size=40, special_tokens=special, unk_token="<unk>"))
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    _save(made, directory, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    return made.get_vocab_size() + 5, {"decoder_start_token_id": 0}  # with rows that are no tokens, as T5's


def _bart(directory: Path) -> tuple[int, dict[str, Any]]:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=60, special_tokens=special))
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    _save(made, directory, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>")
    return made.get_vocab_size(), {"forced_bos_token_id": 0, "forced_eos_token_id": None}


def _save(made: Tokenizer, directory: Path, **named: str) -> None:
    fast: Any = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **named)
    fast.save_pretrained(directory)
