"""Reading parallel text: every fault found and named, no sentence ever paired with another's translation.

Lines end at line feeds only; U+2028, U+0085 and the like are part of a line. A fault of a file (unreadable, not UTF-8,
another number of lines) is a problem; all problems are gathered before anything is raised. A fault of a pair (an empty
or an endless line) drops the pair in training and is counted.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from rlseq_envs.task import Bools, SplitName
from rlseq_envs.text.storage import TextRows

MAX_LINE_CHARACTERS = 10_000
MAX_LINE_BYTES = 1 << 26  # of a line that is read at all
MAX_UNPACKED_BYTES = 1 << 32  # of a compressed file that is more than MAX_RATIO times as large as it seems
MAX_RATIO = 200  # text becomes some 3 to 10 times smaller

_MAX_PROBLEMS_PER_FILE = 5
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_GZIP_MAGIC = b"\x1f\x8b"
_REMEDY_UTF16 = "convert it with `iconv -f UTF-16 -t UTF-8`"


@dataclass(frozen=True)
class Problem:
    """One fault of one file; ``line`` counts from 1 and is None where the whole file is meant."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.message}"


class CorpusError(ValueError):
    """A corpus that cannot be used.

    Attributes:
        problems: All faults of all files.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(["the corpus cannot be used:", *(f"  {problem}" for problem in self.problems)]))


def first_problems(found: list[Problem]) -> list[Problem]:
    """The first problems of one file, and how many more there are."""
    if len(found) <= _MAX_PROBLEMS_PER_FILE:
        return found
    more = Problem(found[0].path, None, f"and {len(found) - _MAX_PROBLEMS_PER_FILE} more lines at fault")
    return [*found[:_MAX_PROBLEMS_PER_FILE], more]


@dataclass
class SplitReport:
    """Counts of what was read, skipped and changed in one split."""

    lines: int = 0
    pairs: int = 0
    skipped_empty: int = 0
    skipped_unasked: int = 0
    skipped_long_line: int = 0
    skipped_long_source: int = 0
    skipped_long_target: int = 0
    truncated_sources: int = 0
    truncated_targets: int = 0
    byte_order_marks: int = 0
    carriage_returns: int = 0

    def __str__(self) -> str:
        changes = [f"{name.replace('_', ' ')} {count}" for name, count in asdict(self).items() if count]
        return ", ".join(changes)


@dataclass
class CorpusReport:
    """The report of each split that has been read."""

    splits: dict[SplitName, SplitReport] = field(default_factory=dict)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Plain dictionaries, for JSON."""
        return {name: asdict(split) for name, split in self.splits.items()}

    def __str__(self) -> str:
        return "\n".join(f"{name}: {split}" for name, split in self.splits.items())


@dataclass(frozen=True)
class ParallelText:
    """Sources and their references, line by line.

    Attributes:
        sources: One text per instance.
        targets: One entry per reference stream, the first is trained on.
    """

    sources: TextRows
    targets: tuple[TextRows, ...]

    @property
    def sides(self) -> tuple[TextRows, ...]:
        """The sources, then each reference stream."""
        return (self.sources, *self.targets)

    def select(self, keep: Bools) -> ParallelText:
        """Only the instances where ``keep`` (instances,) is true."""
        return ParallelText(self.sources.select(keep), tuple(target.select(keep) for target in self.targets))


def _problem_of_head(head: bytes) -> str | None:
    """What the first bytes of a file (uncompressed) say against it."""
    if not head:
        return "is empty"
    if head.startswith(_UTF16_BOMS):
        return f"is UTF-16 (it begins with a UTF-16 byte-order mark); {_REMEDY_UTF16}"
    nuls = sorted((head[::2].count(0), head[1::2].count(0)))
    if nuls[0] == 0 and nuls[1] > max(1, len(head) // 8):
        return f"looks like UTF-16 without a byte-order mark (every other byte is NUL); {_REMEDY_UTF16}"
    return None


class _FileReader:
    """One file, line by line, its faults noted."""

    def __init__(self, path: str, report: SplitReport) -> None:
        self.path = path
        self.report = report
        self.problems: list[Problem] = []
        self.num_unlisted = 0
        self.line = 0

    def read(self) -> TextRows:
        rows = TextRows.gather([])
        try:
            with Path(self.path).open("rb") as raw:
                rows = TextRows.gather(self._read_stream(raw))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self._note(self.line + 1, f"broken gzip data ({error}); copy or compress the file again")
        except OSError as error:
            self._note(None, f"cannot be read ({error.strerror or error})")
        if self.num_unlisted:
            self.problems.append(Problem(self.path, None, f"and {self.num_unlisted} more lines at fault"))
        return rows

    def _read_stream(self, raw: BinaryIO) -> Iterable[str]:
        compressed = raw.read(2) == _GZIP_MAGIC
        most = max(MAX_UNPACKED_BYTES, MAX_RATIO * raw.seek(0, os.SEEK_END)) if compressed else None
        raw.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if compressed else raw
        problem = _problem_of_head(stream.read(4096))
        if problem is not None:
            self._note(None, problem)
            return ()
        stream.seek(0)
        return self._texts(stream, most)

    def _texts(self, stream: BinaryIO, most: int | None) -> Iterator[str]:
        # A binary stream breaks at line feeds only.
        for self.line, raw_line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES), b""), start=1):
            if len(raw_line) == MAX_LINE_BYTES:
                self._note(self.line, f"has more than {MAX_LINE_BYTES:,} bytes; is it text, one sentence a line?")
                return
            if most is not None and stream.tell() > most:
                self._note(self.line, f"unpacks to more than {most:,} bytes; unpack it to a plain file, if it is text")
                return
            line = raw_line.removesuffix(b"\n")
            if self.line == 1 and line.startswith(_UTF8_BOM):
                line = line.removeprefix(_UTF8_BOM)
                self.report.byte_order_marks += 1
            if line.endswith(b"\r"):
                line = line.removesuffix(b"\r")
                self.report.carriage_returns += 1
            yield self._decode(line)

    def _decode(self, line: bytes) -> str:
        if b"\0" in line:
            self._note(self.line, f"NUL character at byte {line.index(0) + 1}; is the file UTF-16, or no text at all?")
            return ""
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self._note(self.line, f"invalid UTF-8 at byte {error.start + 1}; convert the file to UTF-8")
            return ""

    def _note(self, line: int | None, message: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS_PER_FILE:
            self.problems.append(Problem(self.path, line, message))
        else:
            self.num_unlisted += 1


def read_lines(path: str, report: SplitReport, problems: list[Problem]) -> TextRows:
    """The lines of one file, plain or gzip; they are of use only if no problem was appended."""
    reader = _FileReader(path, report)
    rows = reader.read()
    report.lines += len(rows)
    problems.extend(reader.problems)
    return rows


def read_parallel(source: str, targets: Sequence[str], report: SplitReport, problems: list[Problem]) -> ParallelText:
    """Read one split; line i of every file belongs to instance i.

    Args:
        source: File of the sources, plain or gzip.
        targets: File of each reference stream.
        report: Counts are added to it.
        problems: Faults are appended to it; the text is of use only if there were none.
    """
    readers = [_FileReader(path, report) for path in (source, *targets)]
    sides = [reader.read() for reader in readers]
    faults = [problem for reader in readers for problem in reader.problems]
    report.lines = len(sides[0])
    if not faults:
        faults = [
            Problem(reader.path, None, f"has {len(side)} lines, but {source} has {len(sides[0])}")
            for reader, side in zip(readers, sides, strict=True)
            if len(side) != len(sides[0])
        ]
    problems.extend(faults)
    return ParallelText(sides[0], tuple(sides[1:]))


def drop_unusable_pairs(text: ParallelText, report: SplitReport) -> ParallelText:
    """Training pairs, or sources alone, without those where a line is empty or endless; each reason is counted."""
    trained_sides = (text.sources, *text.targets[:1])
    empty = np.zeros(len(text.sources), dtype=np.bool_)
    endless = np.zeros(len(text.sources), dtype=np.bool_)
    for side in text.sides:
        endless |= np.fromiter((len(line) > MAX_LINE_CHARACTERS for line in side), np.bool_, len(side))
    for side in trained_sides:
        empty |= np.fromiter((not line.strip() for line in side), np.bool_, len(side))
    report.skipped_empty = int(empty.sum())
    report.skipped_long_line = int((endless & ~empty).sum())
    return text.select(~(empty | endless))


def find_endless_lines(text: ParallelText, paths: Sequence[str]) -> list[Problem]:
    """Lines too long to evaluate on; an evaluation set skips nothing, so each is a problem."""
    return [
        Problem(path, row + 1, f"has {len(line)} characters, more than {MAX_LINE_CHARACTERS}; split or remove the line")
        for path, side in zip(paths, text.sides, strict=True)
        for row, line in enumerate(side)
        if len(line) > MAX_LINE_CHARACTERS
    ]
