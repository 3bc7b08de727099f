"""Batches of texts as token ids, each distinct text and word encoded once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rlseq_envs.task import Ints

MAX_CACHED_UNITS = 1 << 18

_Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class EncodedPairs:
    """Token ids of hypotheses and their references, which share one numbering; rows may share tokens.

    Attributes:
        tokens: (any,) of the hypotheses; row b is ``tokens[starts[b]:ends[b]]``.
        starts: (batch_size,).
        ends: (batch_size,).
        reference_tokens: (any,) of the references.
        reference_starts: (batch_size, references).
        reference_ends: (batch_size, references).
    """

    tokens: _Ids
    starts: Ints
    ends: Ints
    reference_tokens: _Ids
    reference_starts: Ints
    reference_ends: Ints

    @property
    def lengths(self) -> Ints:
        """Tokens of each hypothesis, (batch_size,)."""
        return self.ends - self.starts

    @property
    def reference_lengths(self) -> Ints:
        """Tokens of each reference, (batch_size, references)."""
        return self.reference_ends - self.reference_starts


class CorpusScore(NamedTuple):
    """What a metric of this project says of a corpus, as sacrebleu's metrics do.

    Attributes:
        score: In the papers' unit.
    """

    score: float


class CorpusMetric(ABC):
    """A metric with the methods of sacrebleu's that are called here: of a corpus it sums up numbers of each text."""

    def corpus_score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> CorpusScore:
        """See sacrebleu."""
        return self._aggregate_and_compute(self._extract_corpus_statistics(hypotheses, references))

    def _aggregate_and_compute(self, statistics: Sequence[Sequence[float]]) -> CorpusScore:
        return self._compute_score_from_stats(np.sum(statistics, axis=0))

    @abstractmethod
    def _extract_corpus_statistics(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """The numbers of each text."""

    @abstractmethod
    def _compute_score_from_stats(self, statistics: Any) -> CorpusScore:
        """The score, from the sums."""

    @abstractmethod
    def get_signature(self) -> str:
        """What changes its value."""


Encode = Callable[[Iterable[str]], tuple[_Ids, Ints, Ints]]


def encode_pairs(encode: Encode, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> EncodedPairs:
    """Encode a batch.

    Args:
        encode: Gives the ids of all texts in one row, and where those of each begin and end.
        hypotheses: One text per row.
        references: One list per reference stream, each with one text per row (sacrebleu's layout). Where a row has
            fewer references than another it may repeat one: that changes no score.

    Raises:
        ValueError: There is no reference stream, or one of another length.
    """
    shape = (len(references), len(hypotheses))
    for rows in map(len, references) if references else [0]:
        check_references(len(hypotheses), rows, len(references))
    tokens, starts, ends = encode(hypotheses)
    reference_tokens, *bounds = encode(chain.from_iterable(references))
    # Bounds come stream after stream; the references of a hypothesis are to lie side by side.
    reference_starts, reference_ends = (np.ascontiguousarray(bound.reshape(shape).T) for bound in bounds)
    return EncodedPairs(tokens, starts, ends, reference_tokens, reference_starts, reference_ends)


def check_references(batch_size: int, rows: int, each: int) -> None:
    """Raises ValueError unless there are ``batch_size`` rows of one or more references."""
    if rows != batch_size or each == 0:
        raise ValueError(f"{batch_size} hypotheses need as many rows of one or more references, not {rows} of {each}")


def encode_characters(texts: Iterable[str]) -> tuple[_Ids, Ints, Ints]:
    """Code points of the texts in one row, and where those of each begin and end."""
    rows = list(texts)
    bounds = _running_total(rows)
    codes = np.frombuffer("".join(rows).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int32)
    return codes, bounds[:-1], bounds[1:]


def as_strings(tokens: _Ids, starts: Ints, ends: Ints) -> list[str]:
    """Rows of token ids below 0x110000 as strings of one character a token, for libraries that compare strings."""
    text = tokens.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    return [text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _running_total(rows: Sequence[Sized]) -> Ints:
    """How long all rows before each are together, and all of them, (rows + 1,)."""
    totals = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)), out=totals[1:])
    return totals


class _TokenIds(dict[str, int]):
    """Token to id, new tokens numbered as they come."""

    def __missing__(self, token: str) -> int:
        self[token] = len(self)
        return self[token]


class _Units(dict[str, tuple[int, ...]]):
    """A piece of text that is tokenised by itself, a word or a whole text, to the ids of its tokens; words are kept."""

    def __init__(self, tokenize: Callable[[str], str], wordwise: bool, tokens: Sequence[str]) -> None:
        super().__init__()
        self.tokenize = tokenize
        self.wordwise = wordwise
        self.token_ids = _TokenIds(zip(tokens, range(len(tokens)), strict=True))

    def __missing__(self, unit: str) -> tuple[int, ...]:
        if self.wordwise and unit.isalnum():  # what any word-wise tokenizer leaves whole
            ids: tuple[int, ...] = (self.token_ids[unit],)
        else:
            ids = tuple(self.token_ids[token] for token in self.tokenize(unit.rstrip()).split())
        if self.wordwise:
            self[unit] = ids
        return ids


class TextEncoder:
    """Texts as ids of tokens, which keep their ids until the cache is full.

    Args:
        tokenize: Gives a text with white space between its tokens.
        wordwise: It looks at nothing beyond white space, line feeds aside, so that each distinct word is tokenised
            once; texts with line feeds go through it as a whole.
        lowercase: Lower-case the texts first.
        tokens: Those that have the ids from 0 on, whatever is forgotten.
    """

    def __init__(
        self, tokenize: Callable[[str], str], *, wordwise: bool, lowercase: bool = False, tokens: Sequence[str] = ()
    ) -> None:
        self._tokenize, self._wordwise, self._lowercase, self._tokens = tokenize, wordwise, lowercase, tokens
        self._units = _Units(tokenize, wordwise, tokens)

    def knowing(self, tokens: Sequence[str]) -> TextEncoder:
        """One that tokenises alike, with other tokens as the first."""
        return TextEncoder(self._tokenize, wordwise=self._wordwise, lowercase=self._lowercase, tokens=tokens)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Those that have an id, in its order."""
        return tuple(self._units.token_ids)

    def pairs(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]], limit: int = MAX_CACHED_UNITS
    ) -> EncodedPairs:
        """Encode a batch, see ``encode_pairs``; more than ``limit`` words or tokens known before are forgotten."""
        if max(len(self._units), len(self._units.token_ids) - len(self._tokens)) > limit:
            self._units = _Units(self._tokenize, self._wordwise, self._tokens)
        return encode_pairs(self.encode, hypotheses, references)

    def encode(self, texts: Iterable[str]) -> tuple[_Ids, Ints, Ints]:
        """Token ids of the distinct texts in one row, and where those of each text begin and end.

        Samples of one source share its references, and often are equal themselves.
        """
        distinct: dict[str, int] = {}
        index = np.array([distinct.setdefault(text, len(distinct)) for text in texts], dtype=np.int64)
        units = [self._split(text) for text in distinct]
        ids = [*map(self._units.__getitem__, chain.from_iterable(units))]
        bounds = _running_total(ids)[_running_total(units)]
        tokens = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(bounds[-1]))
        return tokens, bounds[:-1][index], bounds[1:][index]

    def _split(self, text: str) -> list[str]:
        """The text's units; 13a joins what stands around some line feeds."""
        if self._lowercase:
            text = text.lower()
        return text.split() if self._wordwise and "\n" not in text else [text]
