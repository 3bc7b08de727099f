"""A sweep: settings drawn from distributions, each tried in an ordinary run, the best one chosen on validation.

```
DIR/
  sweep.json               what is swept, and the settings drawn
  config.yaml              the configuration that all trials share, resolved
  mle/                     the run that trials of rl begin with, if only keys of rl are swept
  trials/<number>/         a run directory each
  study.json               the arms: mle, and rl with the settings chosen and how many were tried
  report/                  their comparison on held-out instances
```

What is to be done follows from the directory alone, so that a sweep goes on wherever it was stopped.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlseq.config.distributions import draw_points, split_distributions
from rlseq.config.load import Given, dump_config, load_config, parse_config, read_config
from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.training.files import write_text
from rlseq.training.finding import last_checkpoint
from rlseq.training.provenance import environment
from rlseq.training.run_directory import read_metrics
from rlseq.training.study import RECORD as STUDY
from rlseq.training.study import StudyError, last_meta, validation_score, validation_value
from rlseq_envs.settings.metrics import signed

RECORD = "sweep.json"


@dataclass
class Sweep:
    """What is tried.

    Attributes:
        path: The directory.
        swept: Each key with its distribution, as they were written.
        points: The settings of each trial, as overrides.
        made_with: Versions, commit, machine and command.
    """

    path: Path
    swept: dict[str, str]
    points: list[list[str]]
    made_with: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, path: Path, given: Given, overrides: Sequence[str], trials: int) -> Sweep:
        """Make a new sweep's directory.

        Args:
            path: The directory; it must not exist.
            given: A shipped configuration, a YAML file, or the keys of one.
            overrides: ``a.b=c``; some with a distribution in place of the value.
            trials: How many settings are drawn, by the configuration's seed.

        Raises:
            StudyError: The directory exists, or the configuration has not both phases.
            ConfigError: A distribution or the configuration of a trial is wrong.
        """
        plain, distributions = split_distributions(overrides)
        config = load_config(given, plain)
        if not config.mle.updates or not config.rl.updates:
            raise StudyError("a sweep compares mle with rl: give both phases updates")
        if config.compute.runners or config.compute.learners:
            raise StudyError("a trial is trained in one process: set compute.runners and compute.learners to 0")
        if path.exists():
            raise StudyError(f"{path} exists and is not overwritten: go on with rlseq sweep --resume {path}")
        points = draw_points(distributions, trials, config.seed)
        swept = {key: distribution.text for key, distribution in distributions.items()}
        sweep = cls(path, swept, points, environment())
        for point in points:
            parse_config(config.model_dump(mode="json"), "sweep", point)
        path.mkdir(parents=True)
        write_text(path / "config.yaml", dump_config(config))
        record = {key: value for key, value in asdict(sweep).items() if key != "path"}
        write_text(path / RECORD, json.dumps(record, indent=1) + "\n")
        return sweep

    @classmethod
    def open(cls, path: Path) -> Sweep:
        """The sweep in a directory.

        Raises:
            StudyError: There is none.
        """
        try:
            record = json.loads((path / RECORD).read_text(encoding="utf-8"))
            return cls(path, **{name: record[name] for name in cls.__dataclass_fields__ if name != "path"})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{path} is no sweep: its {RECORD} cannot be read ({error!r})") from error

    @property
    def config(self) -> Config:
        """What all trials have in common."""
        return read_config(self.path / "config.yaml")

    def settings(self, trial: int) -> Config:
        """The configuration of a trial."""
        return parse_config(self.config.model_dump(mode="json"), f"{self.path}, trial {trial}", self.points[trial])

    def configs(self) -> list[Config]:
        """Those of all trials."""
        return [self.settings(trial) for trial in range(len(self.points))]

    def run(self, trial: int) -> Path:
        """Its run directory."""
        return self.path / "trials" / str(trial)

    @property
    def shared(self) -> Path | None:
        """The run of mle that all trials begin with; None if keys of other sections than rl are swept."""
        return self.path / "mle" if all(key.startswith("rl.") for key in self.swept) else None

    def artifacts(self) -> Path:
        """The directory of what the task needs to decode."""
        return (self.shared or self.run(self._best())) / "artifacts"

    def results(self) -> dict[int, float]:
        """The best validation of each trial that came to rl."""
        runs = ((trial, self.run(trial)) for trial in range(len(self.points)))
        return {trial: validation_score(run) for trial, run in runs if _came_to_rl(run)}

    def finish(self) -> None:
        """Record the chosen arms, as a study has them.

        Raises:
            StudyError: No trial came to rl.
        """
        best = self._best()
        mle = self.shared or self.run(best) / "checkpoints" / "mle"
        tried = {"tried": len(self.points), "selected": dict(each.split("=", 1) for each in self.points[best])}
        untried: dict[str, Any] = {"tried": 1, "selected": {}}
        arms = [
            {"name": "mle", "role": "mle", "runs": [str(mle.relative_to(self.path))]}
            | (untried if self.shared else tried)
            | {"validation": [validation_value(mle)]},
            {"name": "rl", "role": "reward", "runs": [str(self.run(best).relative_to(self.path))]}
            | tried
            | {"validation": [validation_value(self.run(best))]},
        ]
        write_text(self.path / STUDY, json.dumps({"sweep": self.swept, "arms": arms}, indent=1) + "\n")

    def _best(self) -> int:
        results = self.results()
        if not results:
            raise StudyError(f"{self.path}: no trial came to rl; trials/<number>/train.log says why")
        return max(results, key=lambda trial: results[trial])


def _came_to_rl(run: Path) -> bool:
    return last_checkpoint(run, "rl") is not None


def is_trained(run: Path) -> bool:
    """Whether the last phase that a run has updates for is over."""
    if last_checkpoint(run) is None:
        return False
    meta = last_meta(run)
    last = "rl" if meta["config"]["rl"]["updates"] else "mle"
    return bool(meta["phase"] == last and meta["trainer"]["finished"])


def validations(run: Path, metric: str, phase: Phase) -> list[tuple[int, float]]:
    """The update and the metric of each validation of a phase that a run has recorded."""
    found = (record for record in read_metrics(run / "metrics.jsonl") if record["phase"] == phase)
    return [(record["update"], record[f"eval/{metric}"]) for record in found if f"eval/{metric}" in record]


class BestYet:
    """The best validation of a trial until now; a phase that is judged by another metric begins anew.

    Attributes:
        score: The more, the better, as ASHA compares trials; the least number if there was no validation.
        words: Metric and value.
    """

    metric, score, words = "", -sys.float_info.max, "no validation"

    def add(self, metric: str, value: float | None) -> None:
        """Take in a validation; None and NaN are no value."""
        if metric != self.metric:
            self.metric, self.score, self.words = metric, -sys.float_info.max, f"no {metric}"
        if value is not None and math.isfinite(value) and signed(metric, value) > self.score:
            self.score, self.words = signed(metric, value), f"{metric} {value:.2f}"
