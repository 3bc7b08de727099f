"""MLflow: figures and changed keys in an experiment of the configuration's name.

MLFLOW_TRACKING_URI says where; without it MLflow has a place of its own, which may need all of ``mlflow``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from rlseq.config.errors import UserError
from rlseq.report.hyperparameters import hyperparameters
from rlseq.report.sink import Sink, Start, Updates, Validation

OURS = "rlseq.run"  # the tag that holds the run directory
_MOST_PARAMS, _LONGEST = 100, 500  # of one call, and of a value


class MLflow(Sink):
    """One run of theirs for a run of ours, gone on with when ours is."""

    def __init__(self) -> None:
        try:
            self._client: MlflowClient | None = MlflowClient()  # what is wrong with the place is told at once
        except MlflowException as error:
            place = os.environ.get("MLFLOW_TRACKING_URI")
            raise UserError(
                f"cannot use {place or 'the place that it takes without MLFLOW_TRACKING_URI'}: set MLFLOW_TRACKING_URI "
                f"to that of a server, or install all of mlflow ({str(error).splitlines()[0].strip()})"
            ) from error
        self._id = ""

    def start(self, event: Start) -> None:
        """See the base class. Their run is found again by the tag that holds our run directory."""
        path, client = event.run.path.absolute(), self._client
        assert client is not None
        found = client.get_experiment_by_name(event.config.name)
        experiment = found.experiment_id if found else client.create_experiment(event.config.name)
        known = client.search_runs([experiment], f"tags.`{OURS}` = '{path}'", max_results=1)
        if event.resumed_at is not None and known:
            self._id = known[0].info.run_id
            client.update_run(self._id, "RUNNING")
            return
        self._id = client.create_run(experiment, run_name=path.name, tags={OURS: str(path)}).info.run_id
        params = [Param(key, str(value)[:_LONGEST]) for key, value in hyperparameters(event.config).items()]
        for begin in range(0, len(params), _MOST_PARAMS):
            client.log_batch(self._id, params=params[begin : begin + _MOST_PARAMS])

    def updates(self, event: Updates) -> None:
        """See the base class."""
        self._log(event.update, event.stats)

    def validation(self, event: Validation) -> None:
        """See the base class."""
        self._log(event.update, {f"eval/{name}": value for name, value in event.metrics.items()})

    def finish(self) -> None:
        """See the base class."""
        if self._client is not None:
            self._client.set_terminated(self._id)
            self._client = None

    def _log(self, update: int, values: Mapping[str, float]) -> None:
        assert self._client is not None
        now = int(1000 * time.time())
        metrics = [Metric(tag, float(value), now, update) for tag, value in values.items() if math.isfinite(value)]
        self._client.log_batch(self._id, metrics=metrics)
