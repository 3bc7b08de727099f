"""CIDEr-D of captions (Vedantam et al. 2015, sec. 8): n-grams count by how few pictures they are said of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.rewards.encoding import CorpusMetric, CorpusScore, EncodedPairs, TextEncoder
from rlseq_envs.rewards.jit import jit
from rlseq_envs.rewards.ngrams import FREE, ROOT, find, table_size
from rlseq_envs.task import Floats

ORDER, SIGMA = 4, 6.0
_Grams = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class DocumentFrequencies:
    """In how many documents each n-gram of up to four tokens stands; a document is all references of an instance.

    Attributes:
        tokens: Those of all documents; the number of a token is its place here.
        grams: (n-grams, 3) int32: the n-gram of all its tokens but the last, as a place here counted from 1, 0 if it
            has one token; the number of its last token; the documents that it stands in.
        documents: How many there are; 0: every n-gram weighs 1.

    Raises:
        ValueError: The numbers do not fit each other.
    """

    tokens: tuple[str, ...] = ()
    grams: _Grams = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    documents: int = 0

    def __post_init__(self) -> None:
        before, token, count = self.grams.T
        fits = (before >= 0) & (before <= np.arange(len(before))) & (token >= 0) & (token < len(self.tokens))
        if not (fits & (count >= 1) & (count <= self.documents)).all():
            raise ValueError("these are no document frequencies: an n-gram, token or count is out of range")

    @staticmethod
    def count(encoder: TextEncoder, documents: Iterable[Sequence[str]]) -> DocumentFrequencies:
        """Those of some documents.

        Args:
            encoder: Finds the tokens of a text.
            documents: The references of each instance.
        """
        rows, fresh = [list(document) for document in documents], encoder.knowing(())
        tokens, starts, ends = fresh.encode(chain.from_iterable(rows))
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        keys = np.full(table_size(len(tokens), ORDER), FREE, np.int64)
        nodes, grams = np.empty(len(keys), np.int64), np.zeros((ORDER * len(tokens) + 1, 3), np.int32)
        used = _count(tokens.astype(np.int64), starts, ends, owner, keys, nodes, grams)
        return DocumentFrequencies(fresh.tokens, grams[1 : used + 1].copy(), len(rows))

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hexadecimal."""
        content = "\n".join(self.tokens).encode("utf-8", "surrogatepass")
        return hashlib.sha256(b"%d\n%s\0%s" % (self.documents, content, self.grams.tobytes())).hexdigest()

    def save(self, path: Path) -> None:
        """Write them as an ``.npz``."""
        tokens = np.frombuffer("\n".join(self.tokens).encode("utf-8", "surrogatepass"), np.uint8)
        np.savez_compressed(path, tokens=tokens, grams=self.grams, documents=np.int64(self.documents))

    @staticmethod
    def load(path: Path) -> DocumentFrequencies:
        """Read what ``save`` wrote. Raises ValueError for a file that is none."""
        try:
            with np.load(path, allow_pickle=False) as file:
                tokens = file["tokens"].astype(np.uint8).tobytes().decode("utf-8", "surrogatepass")
                grams = file["grams"].astype(np.int32).reshape(-1, 3)
                return DocumentFrequencies(tuple(tokens.split("\n")), grams, int(file["documents"]))
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"{path}: cannot be read as document frequencies ({error})") from error


class CiderD:
    """CIDEr-D of each text of a batch, 0…10, equal to the reference implementation ``ciderD`` by the paper's authors.

    A reference that stands there twice counts once: rows with fewer references than others may repeat one.

    Args:
        encoder: Finds the tokens of a text.
        frequencies: Of the documents that say what is rare.
    """

    def __init__(self, encoder: TextEncoder, frequencies: DocumentFrequencies) -> None:
        self.frequencies = frequencies
        self._encoder = encoder.knowing(frequencies.tokens)
        grams = frequencies.grams.astype(np.int64)
        self._keys = np.full(table_size(len(grams), 1), FREE, np.int64)
        self._nodes = np.empty(len(self._keys), np.int64)
        _fill(grams, self._keys, self._nodes)
        self._unseen = float(np.log(frequencies.documents)) if frequencies.documents else 1.0
        self._weights = np.concatenate([[self._unseen], self._unseen - np.log(grams[:, 2])])

    def __call__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """Scores (batch_size,).

        Args:
            hypotheses: One text per row.
            references: One list per reference stream, each with one text per row.

        Raises:
            ValueError: There is no reference stream, or one of another length.
        """
        pairs: EncodedPairs = self._encoder.pairs(hypotheses, references)
        scores = np.zeros(len(pairs.starts))
        texts = (pairs.tokens.astype(np.int64), pairs.starts, pairs.ends)
        others = (pairs.reference_tokens.astype(np.int64), pairs.reference_starts, pairs.reference_ends)
        _score(*texts, *others, self._keys, self._nodes, self._weights, self._unseen, scores)
        return scores


class CiderDMetric(CorpusMetric):
    """CIDEr-D of a corpus as papers give it.

    Documents are the references of the corpus itself, as the reference implementation has it in its mode "corpus".

    Args:
        encoder: Finds the tokens of a text.
        tokens: Says in the signature how it does.
    """

    def __init__(self, encoder: TextEncoder, tokens: str) -> None:
        self._encoder, self._tokens = encoder, tokens

    def _extract_corpus_statistics(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """The score of each text, and 1 to count it."""
        documents = DocumentFrequencies.count(self._encoder, zip(*references, strict=True))
        return [[score, 1.0] for score in CiderD(self._encoder, documents)(hypotheses, references).tolist()]

    def _compute_score_from_stats(self, statistics: Any) -> CorpusScore:
        total, count = statistics
        return CorpusScore(100 * float(total) / float(count))

    def get_signature(self) -> str:
        """What changes its value."""
        return f"order:{ORDER}|sigma:{SIGMA:g}|documents:corpus|{self._tokens}|version:1"


# ------------------------------------------------------------------------------------------------------------ kernels
@jit
def _count(tokens, starts, ends, owner, keys, nodes, grams):  # type: ignore[no-untyped-def]
    """Fill (n-grams, 3) from row 1 on; returns how many there are. Texts of a document follow each other."""
    used = ROOT
    last = np.full(len(grams), -1, dtype=np.int64)  # the document that an n-gram was last met in
    for text in range(len(starts)):
        for i in range(starts[text], ends[text]):
            node = ROOT
            for n in range(i, min(i + ORDER, ends[text])):
                place = find(keys, node, tokens[n])
                if keys[place] == FREE:
                    used += 1
                    keys[place], nodes[place] = (node << 32) | tokens[n], used
                    grams[used, 0], grams[used, 1] = node, tokens[n]
                node = nodes[place]
                if last[node] != owner[text]:
                    last[node] = owner[text]
                    grams[node, 2] += 1
    return used


@jit
def _fill(grams, keys, nodes):  # type: ignore[no-untyped-def]
    for row in range(len(grams)):
        place = find(keys, grams[row, 0], grams[row, 1])
        keys[place], nodes[place] = (grams[row, 0] << 32) | grams[row, 1], row + 1


@jit
def _add(tokens, counts, used, local, orders, known, trie, weights, unseen, idf):  # type: ignore[no-untyped-def]
    """Count the n-grams of a text; new ones get their order, their place among the known ones and their weight."""
    for i in range(len(tokens)):
        node = ROOT
        for n in range(min(ORDER, len(tokens) - i)):
            place = find(local[0], node, tokens[i + n])
            if local[0][place] == FREE:
                used += 1
                local[0][place], local[1][place] = (node << 32) | tokens[i + n], used
                orders[used], known[used], idf[used] = n, -1, unseen
                counts[used] = 0
                if known[node] >= 0:
                    there = find(trie[0], known[node], tokens[i + n])
                    if trie[0][there] != FREE:
                        known[used] = trie[1][there]
                        idf[used] = weights[known[used]]
            node = local[1][place]
            counts[node] += 1
    return used


@jit
def _score(  # type: ignore[no-untyped-def]
    tokens, starts, ends, references, reference_starts, reference_ends, keys, nodes, weights, unseen, scores
):
    """Each row's n-grams are the nodes of one trie: of each it knows how often text and reference have it."""
    for b in range(len(starts)):
        first, last = reference_starts[b], reference_ends[b]
        total = ends[b] - starts[b] + (last - first).sum()
        size = table_size(total, ORDER)
        local = (np.full(size, FREE, np.int64), np.empty(size, np.int64))
        orders, known = np.zeros(ORDER * total + 1, np.int64), np.zeros(ORDER * total + 1, np.int64)
        counts, idf = np.zeros(ORDER * total + 1, np.int64), np.zeros(ORDER * total + 1)
        used = _add(tokens[starts[b] : ends[b]], counts, 0, local, orders, known, (keys, nodes), weights, unseen, idf)
        ours = counts.copy()
        similarity, distinct = 0.0, 0
        for r in range(len(first)):
            repeated = False
            for earlier in range(r):
                repeated = repeated or (first[earlier] == first[r] and last[earlier] == last[r])
            if repeated:
                continue
            distinct += 1
            counts[: used + 1] = 0
            part = references[first[r] : last[r]]
            used = _add(part, counts, used, local, orders, known, (keys, nodes), weights, unseen, idf)
            sums = np.zeros((3, ORDER))
            for node in range(1, used + 1):
                mine, other = ours[node] * idf[node], counts[node] * idf[node]
                sums[0, orders[node]] += min(mine, other) * other
                sums[1, orders[node]] += mine * mine
                sums[2, orders[node]] += other * other
            cosines = 0.0
            for n in range(ORDER):
                if sums[1, n] > 0 and sums[2, n] > 0:
                    cosines += sums[0, n] / (np.sqrt(sums[1, n]) * np.sqrt(sums[2, n]))
            # Lengths are counted in pairs of tokens, as the reference implementation counts them.
            longer = max(ends[b] - starts[b] - 1, 0) - max(last[r] - first[r] - 1, 0)
            similarity += cosines / ORDER * np.exp(-(longer**2) / (2 * SIGMA**2))
        scores[b] = 10 * similarity / distinct
