"""``metrics.csv``: a line a value, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rlseq.report.sink import Sink, Start, Updates, Validation

COLUMNS = ("update", "phase", "tag", "value")


class CSV(Sink):
    """Writes the columns update, phase, tag, value; a value that is no number is left empty.

    A run that is resumed writes the file anew from metrics.jsonl, which has forgotten what it does again.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def start(self, event: Start) -> None:
        """See the base class."""
        self._file = (event.run.path / "metrics.csv").open("w", encoding="utf-8", newline="", buffering=1)
        csv.writer(self._file).writerow(COLUMNS)
        for record in _records(event.run.path / "metrics.jsonl"):
            self._write(record.pop("update"), record.pop("phase"), record)

    def updates(self, event: Updates) -> None:
        """See the base class."""
        self._write(event.update, event.phase, event.stats)

    def validation(self, event: Validation) -> None:
        """See the base class."""
        self._write(event.update, event.phase, {f"eval/{name}": value for name, value in event.metrics.items()})

    def finish(self) -> None:
        """See the base class."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, update: int, phase: str, values: Mapping[str, float | None]) -> None:
        assert self._file is not None
        rows = ((update, phase, tag, _text(value)) for tag, value in values.items())
        csv.writer(self._file).writerows(rows)


def _text(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else repr(float(value))


def _records(path: Path) -> list[dict[str, Any]]:
    """What a resumed run keeps of its figures."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]
