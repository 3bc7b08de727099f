"""Which loggers there are, and where they are found.

A logger is a ``rlseq.report.sink.Sink`` made without arguments. Ours are named below; a package may bring others as
entry points of the group ``rlseq.loggers``; and ``package.module:Class`` is one of the user's.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import entry_points

from rlseq.config.errors import UserError, did_you_mean
from rlseq.report.sink import Sink

GROUP = "rlseq.loggers"
LOGGERS = {
    "csv": "rlseq.report.loggers.csv_file:CSV",
    "mlflow": "rlseq.report.loggers.mlflow_tracking:MLflow",
    "wandb": "rlseq.report.loggers.weights_and_biases:WeightsAndBiases",
}


class LoggerError(UserError):
    """A logger that is not there or cannot be made."""


def make_loggers(names: Sequence[str]) -> list[Sink]:
    """The loggers of these names.

    Raises:
        LoggerError: Some cannot be made; all of them are told.
    """
    places = {entry.name: entry.value for entry in entry_points(group=GROUP)} | LOGGERS
    made, wrong = [], []
    for name in names:
        try:
            made.append(_make(name, places))
        except LoggerError as error:
            wrong.append(f"report.loggers: {error}")
    if wrong:
        raise LoggerError("\n       ".join(wrong))
    return made


def _make(name: str, places: dict[str, str]) -> Sink:
    place = places.get(name, name)
    module, colon, attribute = place.partition(":")
    if not colon:
        known = ", ".join(sorted(places))
        raise LoggerError(
            f"there is no logger {name!r}{did_you_mean(name, places)}; give some of {known}, or package.module:Class"
        )
    try:
        importlib.invalidate_caches()  # the file may have been written a moment ago
        logger = getattr(importlib.import_module(module), attribute)()
    except UserError as error:
        raise LoggerError(f"{name} {error}") from error
    except ModuleNotFoundError as error:
        if name in LOGGERS:
            raise LoggerError(f"{name} needs a package that is not installed: pip install 'rlseq[{name}]'") from error
        raise LoggerError(f"{name} cannot be imported: {error}; its module is needed on PYTHONPATH") from error
    except Exception as error:
        raise LoggerError(f"{name} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(logger, Sink):
        raise LoggerError(f"{name} is no subclass of rlseq.report.sink.Sink")
    return logger
