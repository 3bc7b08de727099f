"""Suites of faults: many cases of one kind each, of which `make test` runs a sample and `--soak` runs all.

A suite is a file with ``SUITE``, its name, and ``HOLDS_WHEN``, what is promised. Its tests ask for a fixture ``case``
and say what cases there are:

    @pytest.mark.cases({"name of the case": value, ...}, sample=5)
    def test_saved_or_not(case, tmp_path): ...

``--record DIRECTORY`` writes what held into a file a suite, from which scripts/reliability.py makes a document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """See the module."""
    parser.addoption("--soak", action="store_true", help="run all cases of the suites of faults, not a sample")
    parser.addoption("--record", type=Path, metavar="DIRECTORY", help="write what held, a file a suite of faults")


def pytest_configure(config: pytest.Config) -> None:
    """See the module."""
    config.addinivalue_line(
        "markers", "cases(cases, sample): cases of a suite of faults, by name, and how many a sample has"
    )
    if config.getoption("record", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record(config.getoption("record")), "record")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each case; without ``--soak`` for some, evenly spread."""
    if (marker := metafunc.definition.get_closest_marker("cases")) is None:
        return
    cases: Mapping[str, Any] = marker.args[0]
    names, sample = list(cases), marker.kwargs["sample"]
    if not metafunc.config.getoption("soak", False) and sample < len(names):
        names = [names[index * len(names) // sample] for index in range(sample)]
    metafunc.parametrize("case", [cases[name] for name in names], ids=names)


@pytest.fixture(autouse=True)
def _counted(request: pytest.FixtureRequest, record_property: Any) -> Iterator[None]:
    """What suite a test belongs to is part of its report, which side by side comes from another process."""
    record_property("suite", request.module.SUITE)
    record_property("holds_when", request.module.HOLDS_WHEN)
    yield


class Record:
    """Counts the cases of each suite that ran, and writes them when all are done."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._suites: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One outcome a test: of its body, or of what came before it and failed."""
        if not (report.when == "call" or (report.when == "setup" and report.failed)):
            return
        told = dict(report.user_properties)
        blank = {"suite": told["suite"], "holds_when": told["holds_when"], "cases": 0, "fell_short": [], "seconds": 0.0}
        suite = self._suites.setdefault(str(told["suite"]), blank)
        suite["cases"] += 1
        suite["seconds"] += report.duration
        if report.failed:
            suite["fell_short"].append(report.nodeid.partition("::")[2])

    def pytest_sessionfinish(self) -> None:
        """A file a suite, with what it was run with."""
        from rlseq.training.provenance import environment

        made_with = {key: value for key, value in environment().items() if key in ("commit", "versions", "host")}
        self._directory.mkdir(parents=True, exist_ok=True)
        for name, suite in self._suites.items():
            suite["seconds"] = round(suite["seconds"])
            path = self._directory / (re.sub(r"\W+", "-", name).strip("-").lower() + ".json")
            path.write_text(json.dumps(suite | {"made_with": made_with}, indent=1) + "\n", encoding="utf-8")
