"""Vocabularies: text to token ids and back, for subwords, words or characters.

Id 0 is ``END``, id 1 stands for anything unknown, pieces follow. There is no token for the beginning or for padding.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import get_args

import sentencepiece

from rlseq_envs.counters import counter_uniforms
from rlseq_envs.settings.text import SubwordModel, Units
from rlseq_envs.spaces import Tokenizer
from rlseq_envs.task import END, Ints
from rlseq_envs.text.merges import Merges
from rlseq_envs.text.storage import TextRows, TokenRows

UNITS: tuple[Units, ...] = get_args(Units)

UNKNOWN = 1
END_LABEL = "END"
UNKNOWN_WORD = "<unk>"
UNKNOWN_SYMBOL = "⁇"

_SPACE_MARK = "▁"
_UNKNOWN_MARK = "▅"  # sentencepiece leaves out lines that hold it when it learns
_ENCODE_CHUNK = 10_000
_MAX_TRAINING_LINES = 500_000  # sentencepiece keeps them all; beyond, an evenly spaced part is enough to learn from
_MAX_CACHED_WORDS = 100_000
_MAX_TRAINING_BYTES = 100_000
_WORD = re.compile(f"{_SPACE_MARK}[^{_SPACE_MARK}]*|[^{_SPACE_MARK}]+")


class Vocabulary(ABC):
    """A fixed list of tokens.

    Attributes:
        units: What the tokens are.
        pieces: The text of each token, by id; empty for ``END``.
        digest: SHA-256 of the stored form, in hexadecimal; equal digests encode and decode alike.
        tokenizer: What a policy has to know of a vocabulary that came with a model; None: it was learnt.
    """

    tokenizer: Tokenizer | None = None
    units: Units
    pieces: tuple[str, ...]

    def __init__(self, units: Units, pieces: Iterable[str], stored: bytes) -> None:
        self.units = units
        self.pieces = tuple(pieces)
        self.digest = hashlib.sha256(stored).hexdigest()
        self._stored = stored

    def __len__(self) -> int:
        return len(self.pieces)

    @abstractmethod
    def _encode_chunk(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, ``END`` appended."""

    def encode(self, texts: Iterable[str]) -> TokenRows:
        """Token ids of each text, ``END`` included."""
        remaining = iter(texts)
        chunks = iter(lambda: list(islice(remaining, _ENCODE_CHUNK)), [])
        return TokenRows.gather(chain.from_iterable(self._encode_chunk(chunk) for chunk in chunks), len(self))

    def encode_sources(self, texts: Iterable[str]) -> TokenRows:
        """Token ids of texts that are read, not emitted: ``END`` included, unless a pretrained model differs."""
        return self.encode(texts)

    def sample(self, texts: list[str], dropout: float, seed: int, ids: Ints) -> list[list[int]]:
        """Token ids of each text, ``END`` included, with merges of subwords left out with probability ``dropout``.

        BPE-dropout; see ``Merges``. The cut of a text is a function of the text, ``seed`` and its instance's id, in
        whatever process and beside whatever other texts.

        Args:
            texts: What is to be cut.
            dropout: In [0, 1).
            seed: Of the update.
            ids: (batch_size,) the instance of each text.

        Raises:
            NotImplementedError: The units are not merged from smaller ones.
        """
        raise NotImplementedError(f"{self.units} units are not merged from smaller ones")

    def decode(self, sequences: Ints, lengths: Ints) -> list[str]:
        """Text of each sequence (batch_size, time); only the first ``lengths`` (batch_size,) tokens count."""
        pairs = zip(sequences.tolist(), lengths.tolist(), strict=True)
        return [self._join(row[:length]) for row, length in pairs]

    @abstractmethod
    def _join(self, ids: list[int]) -> str:
        """Text of one sequence."""

    def labels(self, ids: Ints) -> tuple[str, ...]:
        """A short name of each token of one sequence."""
        return tuple(END_LABEL if token == END else self.pieces[token] for token in ids.tolist())

    @property
    @abstractmethod
    def file_suffix(self) -> str:
        """How the stored form's file name ends."""

    def save(self, directory: Path, name: str) -> str:
        """Write the stored form into a directory; returns the file's name."""
        file_name = f"{name}{self.file_suffix}"
        (directory / file_name).write_bytes(self._stored)
        return file_name


class SubwordVocabulary(Vocabulary):
    """Pieces of a sentencepiece model; encoding and decoding equal sentencepiece's own.

    No piece goes across a space, so each distinct word is encoded once: several times as fast on a corpus.
    """

    file_suffix = ".model"

    def __init__(self, model: bytes) -> None:
        """Raises RuntimeError where the bytes are no sentencepiece model."""
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        size = self._processor.get_piece_size()
        pieces = ["", UNKNOWN_SYMBOL, *(self._processor.id_to_piece(piece) for piece in range(2, size))]
        super().__init__("subword", pieces, model)
        self._texts = [piece.replace(_SPACE_MARK, " ") for piece in pieces]
        self._words: dict[str, tuple[int, ...]] = {}
        self._merges: Merges | None = None

    @classmethod
    def train(
        cls, texts: Iterable[str], size: int, model: SubwordModel, has_unknown_mark: bool = False
    ) -> SubwordVocabulary:
        """Learn the pieces: every character is covered, text is not normalised, equal input gives an equal model.

        Args:
            texts: Lines.
            size: Most tokens.
            model: How pieces are found.
            has_unknown_mark: Texts hold ``▅``. Sentencepiece keeps it for itself, so it becomes a piece of its own.

        Raises:
            ValueError: ``size`` does not even hold the characters, or there are none.
        """
        written = io.BytesIO()
        lines = (text.replace(_UNKNOWN_MARK, " ") for text in texts) if has_unknown_mark else iter(texts)
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines,
                user_defined_symbols=[_UNKNOWN_MARK] if has_unknown_mark else [],
                model_writer=written,
                vocab_size=size,
                hard_vocab_limit=False,
                model_type=model,
                character_coverage=1.0,
                normalization_rule_name="identity",
                max_sentence_length=_MAX_TRAINING_BYTES,
                num_threads=1,
                eos_id=END,
                unk_id=UNKNOWN,
                bos_id=-1,
                pad_id=-1,
                unk_surface=UNKNOWN_SYMBOL,
                minloglevel=2,
            )
        except RuntimeError as error:
            empty = any(sign in str(error) for sign in ("!sentences_.empty()", "(all_chars_count) > (0)"))
            reason = "it holds nothing but spaces and the characters ▁ and ▅" if empty else error
            raise ValueError(
                f"no subword vocabulary of {size} tokens can be learnt from this text: {reason}"
            ) from error
        return cls(written.getvalue())

    def _encode_chunk(self, texts: list[str]) -> list[list[int]]:
        split = [text.split(" ") for text in texts]
        self._learn_words(set(chain.from_iterable(split)))
        look_up = self._words.__getitem__
        return [
            [*chain.from_iterable(map(look_up, words)), END] if _SPACE_MARK not in text else self._encode_text(text)
            for text, words in zip(texts, split, strict=True)
        ]

    def _learn_words(self, words: set[str]) -> None:
        """Have the ids of these words, and of others seen before while they are not too many."""
        if len(self._words) > _MAX_CACHED_WORDS:
            self._words = {}
        unseen = list(words.difference(self._words))
        self._words.update(zip(unseen, map(tuple, self._processor.encode(unseen, num_threads=1)), strict=True))

    def _encode_text(self, text: str) -> list[int]:
        """For a text with the mark that stands for a space in sentencepiece: where a word ends is its affair."""
        ids: list[int] = self._processor.encode(text, add_eos=True)
        return ids

    def sample(self, texts: list[str], dropout: float, seed: int, ids: Ints) -> list[list[int]]:
        """See ``Vocabulary``; for a model of kind "bpe"."""
        if self._merges is None:
            self._merges = Merges(self.pieces, UNKNOWN + 1, UNKNOWN)
        sampled = []
        for row, text in enumerate(texts):
            words = _WORD.findall(self._processor.normalize(text))
            uniforms = counter_uniforms(seed, 0, ids[row : row + 1], 1, sum(map(Merges.draws, words)))
            left_out, tokens = (uniforms < dropout).tobytes(), []
            for word in words:
                tokens += self._merges.cut(word, left_out)
                left_out = left_out[Merges.draws(word) :]
            sampled.append([*tokens, END])
        return sampled

    def _join(self, ids: list[int]) -> str:
        return "".join(map(self._texts.__getitem__, ids)).lstrip(" ")


class ListedVocabulary(Vocabulary):
    """The most frequent words or characters."""

    file_suffix = ".json"

    def __init__(self, units: Units, listed: Sequence[str]) -> None:
        unknown = UNKNOWN_WORD if units == "word" else UNKNOWN_SYMBOL
        stored = json.dumps({"units": units, "pieces": list(listed)}, ensure_ascii=False, indent=0)
        super().__init__(units, ["", unknown, *listed], stored.encode())
        self._ids = {piece: token for token, piece in enumerate(self.pieces) if token > UNKNOWN}

    @classmethod
    def count(cls, texts: Iterable[str], size: int, units: Units) -> ListedVocabulary:
        """The ``size - 2`` most frequent units of the texts; equally frequent ones in the order of their text."""
        counts = Counter(chain.from_iterable(_split(text, units) for text in texts))
        ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls(units, ranked[: size - 2])

    def _encode_chunk(self, texts: list[str]) -> list[list[int]]:
        return [self.encode_one(text) for text in texts]

    def encode_one(self, text: str) -> list[int]:
        """Token ids of one text, ``END`` appended."""
        ids = self._ids
        return [*(ids.get(piece, UNKNOWN) for piece in _split(text, self.units)), END]

    def _join(self, ids: list[int]) -> str:
        between = " " if self.units == "word" else ""
        return between.join(self.pieces[token] for token in ids if token != END)


def _split(text: str, units: Units) -> Sequence[str]:
    words = text.split()
    return words if units == "word" else " ".join(words)


def train_vocabulary(
    texts: Sequence[TextRows], size: int, units: Units, model: SubwordModel, lowercase: bool = False
) -> Vocabulary:
    """A vocabulary of at most ``size`` tokens, learnt from all the texts together."""
    lines = chain.from_iterable(texts)
    cased = map(str.lower, lines) if lowercase else lines
    if units != "subword":
        return ListedVocabulary.count(cased, size, units)
    step = max(1, -(-sum(map(len, texts)) // _MAX_TRAINING_LINES))
    has_unknown_mark = any(_UNKNOWN_MARK in line for line in chain.from_iterable(texts))
    return SubwordVocabulary.train(islice(cased, 0, None, step), size, model, has_unknown_mark)


def load_vocabulary(path: Path) -> Vocabulary:
    """Read what ``save`` wrote.

    Raises:
        ValueError: The file is missing or is no vocabulary.
    """
    try:
        stored = path.read_bytes()
        if not stored:
            raise ValueError("the file is empty")
        if path.suffix == SubwordVocabulary.file_suffix:
            return SubwordVocabulary(stored)
        content = json.loads(stored)
        return ListedVocabulary(content["units"], content["pieces"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read as a vocabulary ({error})") from error
