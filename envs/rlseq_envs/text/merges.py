"""BPE-dropout: cutting words by merges of which some are left out at random.

Which are left out follows from counters, not from sentencepiece's generator, whose stream differs from process to
process under one seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

MAX_REMEMBERED = 100_000  # words of which the plain cut is remembered


class Merges:
    """The merges of a byte-pair vocabulary, with dropout (Provilkov et al. 2020).

    The distribution is that of sentencepiece's ``sample_encode`` for a model of kind "bpe": the next merge is the most
    frequent one that two neighbours allow, and with probability ``dropout`` these two neighbours are left apart
    for good, unless one of them grows. Without dropout the cut is sentencepiece's.

    Args:
        pieces: The text of each token, merges in the order they were learnt in.
        first: The first token that has a text to merge into; those before are special.
        unknown: The token of a character that is no piece; a run of such characters becomes one token.
    """

    def __init__(self, pieces: Sequence[str], first: int, unknown: int) -> None:
        self._ranks = {piece: token for token, piece in enumerate(pieces) if token >= first}
        self._unknown = unknown
        self._plain: dict[str, tuple[list[int], int]] = {}

    @staticmethod
    def draws(word: str) -> int:
        """The most draws that cutting a word can take: a pair for each neighbour, and two for each merge."""
        return 3 * len(word)

    def cut(self, word: str, left_out: bytes) -> list[int]:
        """The tokens of one word.

        Args:
            word: Its text.
            left_out: For each draw, 1 if the merge that it decides about is left out, otherwise 0.
        """
        if (known := self._plain.get(word)) is None:
            if len(self._plain) >= MAX_REMEMBERED:
                self._plain = {}
            known = self._plain[word] = self._merge(word, bytes(self.draws(word)))
        plain, decisions = known
        return plain if left_out.find(1, 0, decisions) < 0 else self._merge(word, left_out)[0]

    def _merge(self, word: str, left_out: bytes) -> tuple[list[int], int]:
        """The tokens, and how many draws were used."""
        symbols, ranks = list(word), self._ranks
        before, after = list(range(-1, len(word) - 1)), list(range(1, len(word) + 1))
        pairs: list[tuple[int, int, int, int]] = []

        def propose(left: int, right: int) -> None:
            if left >= 0 and right < len(symbols):
                merged = symbols[left] + symbols[right]
                if merged in ranks:
                    heapq.heappush(pairs, (ranks[merged], left, right, len(merged)))

        for left in range(len(word) - 1):
            propose(left, left + 1)
        used = 0
        while pairs:
            _, left, right, length = heapq.heappop(pairs)
            first, second = symbols[left], symbols[right]
            if not first or not second or len(first) + len(second) != length:
                continue  # one of them has been merged with another since
            used += 1
            if left_out[used - 1]:
                continue
            symbols[left], symbols[right] = first + second, ""
            after[left] = after[right]
            if after[left] < len(symbols):
                before[after[left]] = left
            propose(before[left], left)
            propose(left, after[left])
        return self._tokens(filter(None, symbols)), used

    def _tokens(self, symbols: Iterable[str]) -> list[int]:
        tokens: list[int] = []
        for symbol in symbols:
            token = self._ranks.get(symbol, self._unknown)
            if token != self._unknown or tokens[-1:] != [self._unknown]:
                tokens.append(token)
        return tokens
