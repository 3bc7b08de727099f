"""A policy that came trained: what it is, and what there has to be in the directory that it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rlseq.config.section import Fraction, PolicySection
from rlseq_envs.spaces import Choices, Space

CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER, MARIAN = ("tokenizer.json",), ("source.spm", "target.spm", "vocab.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# Of the model's own files, what says how it decodes.
_DECODING = ("decoder_start_token_id", "forced_bos_token_id", "pad_token_id", "bad_words_ids", "suppress_tokens")
_LARGEST = 1 << 24  # bytes of a file that is read as JSON
# Of config.json, what is no part of the architecture.
_LEFT_OUT = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "task_specific_params", "torch_dtype")


class PretrainedConfig(PolicySection):
    """An encoder–decoder of the library transformers, such as Marian, T5 or BART, that somebody trained before."""

    type: Literal["pretrained"] = "pretrained"
    path: str  # a directory with the model and its tokenizer, as `save_pretrained` of transformers writes them
    dropout: Fraction | None = None  # of features, in training; default: the model's
    # What config.json and generation_config.json say, so that a run needs the directory no more. It is filled in when
    # the directory is read.
    model: dict[str, dict[str, Any]] | None = None

    @property
    def hidden_size(self) -> int:
        """See the base class."""
        return int(self.described()["hidden_size"])

    @property
    def free_keys(self) -> frozenset[str]:
        """See the base class."""
        return frozenset({"dropout", "path"})

    def described(self) -> dict[str, Any]:
        """Its kind and the width of its states."""
        config = (self.model or {}).get("config", {})
        return {"pretrained": config.get("model_type"), "hidden_size": config.get("d_model")}

    def misfits(self, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class; the tokenizer's files are compared when the task was made."""
        if choices.tokenizer is None:
            return [
                "policy.type 'pretrained' reads and emits the tokens of its own tokenizer, which the task does not: "
                "set task.tokenizer to policy.path (of tasks that have this key), or policy.type to parts"
            ]
        if choices.tokenizer.place not in (None, self.path):
            return [
                f"policy.path {self.path} is not task.tokenizer {choices.tokenizer.place}: set task.tokenizer to "
                "policy.path"
            ]
        return []


# --------------------------------------------------------------------------------------------- reading the directory
def read_model(path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What the JSON files of a model's directory say, for ``PretrainedConfig.model``, and all that is wrong with it.

    Nothing in the directory is executed; weights are not opened.
    """
    if not path.is_dir():
        return {}, [f"{'is a file' if path.exists() else 'no such directory'}: {path}"]
    if not (path / CONFIG).is_file():
        return {}, [f"{path} holds no {CONFIG}: give a directory that save_pretrained of transformers wrote"]
    try:
        config = _object(path / CONFIG)
        generation = _object(path / GENERATION) if (path / GENERATION).exists() else {}
    except ValueError as error:
        return {}, [str(error)]
    wrong = [*_wrong_config(path / CONFIG, config), *_wrong_files(path)]
    decoding = {key: found for key in _DECODING if (found := generation.get(key, config.get(key))) is not None}
    if "decoder_start_token_id" not in decoding:
        wrong.append(f"{path / GENERATION} does not say what the decoder begins with: add decoder_start_token_id")
    if find_spec("transformers") is None:
        wrong.append("the library transformers is not installed: pip install 'rlseq[pretrained]'")
    return {"config": {k: v for k, v in config.items() if k not in _LEFT_OUT}, "generation": decoding}, wrong


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST:,} bytes")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} cannot be read: it is no JSON object")
    return found


def _wrong_config(path: Path, config: Mapping[str, Any]) -> Iterator[str]:
    if "auto_map" in config:
        yield f"{path} names code of its own (auto_map), which is never executed: give a model that transformers has"
    if not isinstance(config.get("model_type"), str):
        yield f"{path} does not say what model it is: add model_type"
    elif config.get("is_encoder_decoder") is not True:
        yield (
            f"{path} is of no encoder–decoder but of {config['model_type']!r}: give a model that reads a source, such "
            "as Marian, T5 or BART"
        )


def _wrong_files(path: Path) -> Iterator[str]:
    if not any((path / name).is_file() for name in WEIGHTS):
        pickles = sorted(each.name for each in path.glob("*.bin"))
        found = f" but {', '.join(pickles)}, which may hold code and is not opened" if pickles else ""
        yield (
            f"{path} holds no weights as safetensors ({WEIGHTS[0]}){found}: save the model with transformers' "
            "save_pretrained"
        )
    if not any(all((path / name).is_file() for name in names) for names in (TOKENIZER, MARIAN)):
        yield (
            f"{path} holds no tokenizer ({TOKENIZER[0]}, or {', '.join(MARIAN)} of Marian): save it there with "
            "transformers' save_pretrained"
        )
