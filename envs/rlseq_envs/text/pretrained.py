"""The tokenizer of a pretrained model as a vocabulary: its ids, but that END's and 0 change places.

It reads two forms of what ``save_pretrained`` of transformers writes: ``tokenizer.json``, and the files of Marian.
Texts are cut and joined as transformers does it, but that special tokens written in a reference are unknown words.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import sentencepiece

from rlseq_envs.spaces import Tokenizer
from rlseq_envs.task import END, Ints
from rlseq_envs.text.storage import TokenRows
from rlseq_envs.text.vocabulary import Vocabulary

CONFIG, DETAILS = "config.json", "tokenizer_config.json"
FAST, MARIAN = "tokenizer.json", ("source.spm", "target.spm", "vocab.json")
# What is kept of a directory: all that decoding needs but the weights.
_KEPT = (CONFIG, "generation_config.json", DETAILS, "special_tokens_map.json", "added_tokens.json", FAST, *MARIAN)
_CHUNK = 10_000


class PretrainedVocabulary(Vocabulary):
    """Tokens of a pretrained model; its stored form is a directory.

    Attributes:
        tokenizer: What a policy has to know of it.
    """

    tokenizer: Tokenizer

    def __init__(self, directory: Path) -> None:
        """Read the directory of a model, or what ``save`` wrote.

        Raises:
            ValueError: There is no such tokenizer, or it cannot be read; the message names the directory.
        """
        self._files = {name: (directory / name).read_bytes() for name in _KEPT if (directory / name).is_file()}
        try:
            self._made = _made_of(self._files)
            end = json.loads(self._files[CONFIG])["eos_token_id"]
            pieces = self._made.pieces
            if type(end) is not int or not 0 <= end < len(pieces):
                raise ValueError(f"its eos_token_id {end!r} is no token")
        except Exception as error:  # the libraries raise errors of many types for files that they cannot use
            raise ValueError(
                f"{directory} holds no tokenizer that can be read: {type(error).__name__}: {error}; save it there with "
                "transformers' save_pretrained"
            ) from error
        stored = b"".join(f"{name}\0{len(self._files[name])}\0".encode() + self._files[name] for name in self._files)
        swapped = list(pieces)
        swapped[END], swapped[end] = "", pieces[END]
        super().__init__("subword", swapped, stored)
        special = tuple(sorted(self._made.special - {end, self._made.unknown}))
        self.tokenizer = Tokenizer(None, self.digest, end, special, self._made.before(end))

    def _swap(self, tokens: Iterable[int]) -> list[int]:
        """The tokenizer's ids as the task's, or the task's as the tokenizer's."""
        end = self.tokenizer.end
        if end == END:
            return list(tokens)
        places = {end: END, END: end}
        return [places.get(token, token) for token in tokens]

    def _encode_chunk(self, texts: list[str]) -> list[list[int]]:
        never, unknown = {*self.tokenizer.special, self.tokenizer.end}, self._made.unknown
        stands_for = [] if unknown is None else [unknown]  # what a special token that is written out becomes
        rows = self._made.encode_targets(texts)
        sound = (chain.from_iterable(stands_for if each in never else [each] for each in row) for row in rows)
        return [[*self._swap(row), END] for row in sound]

    def encode_sources(self, texts: Iterable[str]) -> TokenRows:
        """See ``Vocabulary``: with all that the tokenizer puts around a text."""
        remaining = iter(texts)
        chunks = iter(lambda: list(islice(remaining, _CHUNK)), [])
        rows = (self._swap(tokens) for chunk in chunks for tokens in self._made.encode_sources(chunk))
        return TokenRows.gather(rows, len(self))

    def _join(self, ids: list[int]) -> str:
        left_out = {*self._made.special, self.tokenizer.end}
        return self._made.decode([token for token in self._swap(ids) if token not in left_out])

    def labels(self, ids: Ints) -> tuple[str, ...]:
        """See ``Vocabulary``."""
        return tuple(label.replace("▁", " ").replace("Ġ", " ").strip() for label in super().labels(ids))

    @property
    def file_suffix(self) -> str:
        """None: it is a directory."""
        return ""

    def save(self, directory: Path, name: str) -> str:
        """Write the files into a directory ``pretrained`` below; returns that name."""
        place = directory / "pretrained"
        place.mkdir(exist_ok=True)
        for file, content in self._files.items():
            (place / file).write_bytes(content)
        return place.name


class _Cutter(ABC):
    """What cuts and joins texts, in the tokenizer's ids.

    Attributes:
        pieces: The text of each token.
        special: Tokens that stand for no text.
        unknown: The token of what is unknown, if there is one.
    """

    pieces: list[str]
    special: set[int]
    unknown: int | None

    @abstractmethod
    def before(self, end: int) -> tuple[int, ...]:
        """What stands before a text."""

    @abstractmethod
    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        """As the encoder reads them."""

    @abstractmethod
    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        """The texts alone, without what stands around them."""

    @abstractmethod
    def decode(self, tokens: list[int]) -> str:
        """The text of tokens that are not special."""


class _Fast(_Cutter):
    """A ``tokenizer.json``."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # threads of its own do not survive a fork
        from tokenizers import Tokenizer as Fast

        self._cut = Fast.from_str(files[FAST].decode())
        self._cut.no_padding()
        self._cut.no_truncation()
        named: dict[str, Any] = json.loads(files.get(DETAILS, b"{}"))
        unknown = named.get("unk_token")
        text = unknown.get("content") if isinstance(unknown, dict) else unknown
        self.unknown = None if text is None else self._cut.token_to_id(text)
        self.pieces = [self._cut.id_to_token(token) or "" for token in range(self._cut.get_vocab_size())]
        added = self._cut.get_added_tokens_decoder()
        self.special = {token for token, each in added.items() if each.special}

    def before(self, end: int) -> tuple[int, ...]:
        around: list[int] = self._cut.encode("").ids
        return tuple(around[: around.index(end)]) if end in around else tuple(around)

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        return [each.ids for each in self._cut.encode_batch(texts)]

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        return [each.ids for each in self._cut.encode_batch(texts, add_special_tokens=False)]

    def decode(self, tokens: list[int]) -> str:
        text: str = self._cut.decode(tokens)
        return text


class _Marian(_Cutter):
    """Two models of sentencepiece and a list of ids (``MarianTokenizer`` of transformers)."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        if json.loads(files.get(DETAILS, b"{}")).get("separate_vocabs"):
            raise ValueError("it has a vocabulary for each language (separate_vocabs): give a model with one for both")
        self._source, self._target = (
            sentencepiece.SentencePieceProcessor(model_proto=files[name]) for name in MARIAN[:2]
        )
        self._ids: dict[str, int] = json.loads(files[MARIAN[2]])
        by_id = {token: piece for piece, token in self._ids.items()}
        self.pieces = [by_id[token] for token in range(len(by_id))]
        self.unknown, self._end = self._ids["<unk>"], self._ids["</s>"]
        self.special = {self._ids[name] for name in ("<unk>", "</s>", "<pad>") if name in self._ids}

    def before(self, end: int) -> tuple[int, ...]:
        return ()

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        coded = [self._language(text) for text in texts]
        pieces = self._source.encode([text for _, text in coded], out_type=str, num_threads=1)
        return [[*self._numbers([*code, *cut]), self._end] for (code, _), cut in zip(coded, pieces, strict=True)]

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        return [self._numbers(cut) for cut in self._target.encode(texts, out_type=str, num_threads=1)]

    def _numbers(self, pieces: Iterable[str]) -> list[int]:
        unknown = self._ids["<unk>"]
        return [self._ids.get(piece, unknown) for piece in pieces]

    @staticmethod
    def _language(text: str) -> tuple[list[str], str]:
        """A code such as >>fra<< in front of a text, and the text."""
        stop = text.find("<<") + 2
        return ([text[:stop]], text[stop:]) if text.startswith(">>") and stop > 1 else ([], text)

    def decode(self, tokens: list[int]) -> str:
        text: str = self._source.decode_pieces([self.pieces[token] for token in tokens])
        return text.replace("▁", " ").strip()


def _made_of(files: Mapping[str, bytes]) -> _Cutter:
    if FAST in files:
        return _Fast(files)
    if missing := [name for name in MARIAN if name not in files]:
        raise ValueError(f"there is no {FAST}, and of Marian's files no {', '.join(missing)}")
    return _Marian(files)
