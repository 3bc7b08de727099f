"""A study: mle, rl and their controls for several seeds, each arm of each seed an ordinary run.

```
DIR/
  study.json                 what is studied, and what was chosen on validation
  config.yaml                the configuration of every arm, resolved
  seed<S>/<arm>/             a run directory each
  logs/seed<S>-<arm>.log     what its command printed
  report/                    the comparison of the arms: JSON, and a page
```

What is to be done follows from the directory alone, so that a study goes on wherever it was stopped.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rlseq.config.controls import CONTROLS
from rlseq.config.errors import UserError
from rlseq.config.load import dump_config, load_config, parse_config, read_config
from rlseq.config.schema import Config
from rlseq.training.checkpoint import load_meta
from rlseq.training.cost import Cost
from rlseq.training.files import write_text
from rlseq.training.finding import last_checkpoint, read_checkpoint
from rlseq.training.progress import best_validation
from rlseq.training.provenance import environment

RECORD = "study.json"
Role = Literal["mle", "reward", "control"]


class StudyError(UserError):
    """A study that cannot be made or gone on with."""


@dataclass
class Study:
    """What is studied.

    Attributes:
        path: The study's directory.
        name: Of the configuration, as it was given.
        overrides: Keys that were changed, for all arms.
        grid: Keys of ``mle`` and ``rl`` with the values to choose from, on validation.
        seeds: One run an arm for each.
        controls: Names of ``CONTROLS``.
        equal_time_updates: Updates of the equal_time control; None: as many as take the CPU time of mle and rl.
        made_with: Versions, commit, machine and command.
        arms: The chosen arms with their runs, as they were when all trainings were finished last.
    """

    path: Path
    name: str
    overrides: list[str]
    grid: dict[str, list[str]]
    seeds: list[int]
    controls: list[str]
    equal_time_updates: int | None = None
    made_with: dict[str, Any] = field(default_factory=dict)
    arms: list[dict[str, Any]] = field(default_factory=list)

    # ---------------------------------------------------------------------------------------------- making, opening
    @classmethod
    def create(
        cls,
        path: Path,
        name: str,
        overrides: Sequence[str],
        *,
        seeds: int,
        controls: Sequence[str],
        equal_time_updates: int | None = None,
        side_by_side: int = 1,
    ) -> Study:
        """Make a new study's directory.

        Args:
            path: The directory; it must not exist.
            name: A shipped configuration or a YAML file.
            overrides: ``a.b=c``; keys of ``mle`` and ``rl`` may have several values, separated by commas.
            seeds: How many, counted on from the configuration's seed.
            controls: Names of ``CONTROLS``.
            equal_time_updates: See the class.
            side_by_side: Trainings that will run at once; they divide the cores, unless ``compute.threads`` is set.

        Raises:
            StudyError: The directory exists, or a control has nothing to control.
            ConfigError: The configuration of an arm is wrong.
        """
        plain, grid = split_grid(overrides)
        config = load_config(name, plain)
        if side_by_side > 1 and config.compute.threads is None:
            plain.append(f"compute.threads={max(1, (os.cpu_count() or 1) // side_by_side)}")
            config = load_config(name, plain)
        chosen = [config.seed + index for index in range(seeds)]
        study = cls(path, name, plain, grid, chosen, list(controls), equal_time_updates)
        study._check(config)
        if path.exists():
            raise StudyError(f"{path} exists and is not overwritten: go on with rlseq study --resume {path}")
        study.made_with = environment()
        path.mkdir(parents=True)
        write_text(path / "config.yaml", dump_config(config))
        study.save()
        return study

    @classmethod
    def open(cls, path: Path) -> Study:
        """The study in a directory.

        Raises:
            StudyError: There is none.
        """
        try:
            record = json.loads((path / RECORD).read_text(encoding="utf-8"))
            known = {name: record[name] for name in cls.__dataclass_fields__ if name not in ("path", "name")}
            return cls(path, record["config"], **known)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{path} is no study: its {RECORD} cannot be read ({error!r})") from error

    def _check(self, config: Config) -> None:
        """Every arm's configuration is looked at before the first one is trained."""
        if not config.mle.updates or not config.rl.updates:
            raise StudyError("a study compares mle with rl: give both phases updates")
        idle = [name for name in self.controls if not CONTROLS[name].applies(config)]
        if idle:
            raise StudyError(
                f"{', '.join(idle)}: rl sees the instances of cross-entropy, so there is nothing to control; "
                "leave it out of --controls"
            )
        data = config.model_dump(mode="json")
        for point in [*self._points("mle"), *self._points("rl")]:
            parse_config(data, self.name, point)
        for name, point in itertools.product(self.controls, self._points("rl")):
            parse_config(data, f"{self.name}, control {name}", [*point, *self._control(name, config, point)])

    def extend(self, seeds: int | None, controls: Sequence[str]) -> None:
        """Add seeds, up to so many, and controls.

        Raises:
            StudyError: There are more seeds already, a control has nothing to control, or other seeds could change what
                was chosen from a grid.
        """
        if seeds and seeds < len(self.seeds):
            raise StudyError(f"{self.path} has {len(self.seeds)} seeds already: give --seeds {len(self.seeds)} or more")
        more = [self.seeds[0] + index for index in range(len(self.seeds), seeds or 0)]
        if more and self.grid:
            raise StudyError(f"{self.path} chose from {', '.join(self.grid)} by its seeds: begin a new study for more")
        self.seeds += more
        self.controls += [name for name in controls if name not in self.controls]
        self._check(self.config)
        self.save()

    def save(self) -> None:
        """Write the record."""
        record = {key: value for key, value in asdict(self).items() if key not in ("path", "name")}
        write_text(self.path / RECORD, json.dumps({"config": self.name, **record}, indent=1) + "\n")

    @property
    def config(self) -> Config:
        """What all arms have in common."""
        return read_config(self.path / "config.yaml")

    def configs(self) -> list[Config]:
        """Those that name all the code that its arms do: keys of mle and rl, which arms differ in, name none."""
        return [self.config]

    def artifacts(self) -> Path:
        """The directory of what the task needs to decode, as a finished run made it."""
        return self._run("mle", self.chosen("mle"), self.seeds[0]) / "artifacts"

    # ---------------------------------------------------------------------------------------------------------- jobs
    def jobs(self) -> list[Job]:
        """One training for each arm and seed, those that wait for others behind them."""
        jobs: list[Job] = []
        rl_waits_for_all, rest_waits_for_all = len(self._points("mle")) > 1, len(self._points("rl")) > 1
        for seed, point in itertools.product(self.seeds, self._points("mle")):
            jobs.append(self._job("mle", point, seed, partial(self._from_scratch, seed, point), []))
        mle_runs = {seed: [job.run for job in jobs if job.seed == seed] for seed in self.seeds}
        for seed, point in itertools.product(self.seeds, self._points("rl")):
            after = self._every(mle_runs) if rl_waits_for_all else mle_runs[seed]
            jobs.append(self._job("rl", point, seed, partial(self._forked, seed, point, None), after))
        rl_runs = {seed: [job.run for job in jobs if job.arm == "rl" and job.seed == seed] for seed in self.seeds}
        for name, seed in itertools.product([n for n in self.controls if CONTROLS[n].phase == "rl"], self.seeds):
            after = self._every(rl_runs) if rest_waits_for_all else rl_runs[seed]
            jobs.append(self._job(name, [], seed, partial(self._forked, seed, None, name), after))
        if "equal_time" in self.controls:
            after = [] if self.equal_time_updates else [*self._every(mle_runs), *self._every(rl_runs)]
            for seed, point in itertools.product(self.seeds, self._points("mle")):
                jobs.append(self._job("equal_time", point, seed, partial(self._equal_time, seed, point), after))
        return jobs

    def _job(self, arm: str, point: list[str], seed: int, arguments: Callable[[], list[str]], after: list[Path]) -> Job:
        return Job(arm, seed, self._run(arm, point, seed), arguments, after)

    @staticmethod
    def _every(runs: dict[int, list[Path]]) -> list[Path]:
        return [run for each in runs.values() for run in each]

    def _from_scratch(self, seed: int, point: list[str]) -> list[str]:
        return [str(self.path / "config.yaml"), f"seed={seed}", *point, "--phase", "mle"]

    def _forked(self, seed: int, point: list[str] | None, control: str | None) -> list[str]:
        """From the chosen mle run; a control has the chosen settings of rl."""
        source = self._run("mle", self.chosen("mle"), seed) / "checkpoints" / "mle"
        settings = [f"seed={seed}", *(self.chosen("rl") if point is None else point)]
        extra = [] if control is None else ["--control", control]
        return [str(self.path / "config.yaml"), *settings, "--from", str(source), *extra]

    def _equal_time(self, seed: int, point: list[str]) -> list[str]:
        if self.equal_time_updates is None:
            self.equal_time_updates = self._updates_of_equal_time()
            self.save()
        length = f"mle.updates={self.equal_time_updates}"
        return [str(self.path / "config.yaml"), f"seed={seed}", *point, length, "--control", "equal_time"]

    def _updates_of_equal_time(self) -> int:
        """As many updates of cross-entropy as take the CPU time of mle and rl, by what the study's arms recorded."""
        mle = [self._run("mle", self.chosen("mle"), seed) for seed in self.seeds]
        rl = [self._run("rl", self.chosen("rl"), seed) for seed in self.seeds]
        first = sum(cost_of(run).cpu_seconds["mle"] for run in mle)
        second = sum(cost_of(run).cpu_seconds["rl"] for run in rl)
        done = sum(last_meta(run)["phase_update"] for run in mle)
        return round(done / len(mle) * (first + second) / first)

    @staticmethod
    def _control(name: str, config: Config, point: list[str]) -> list[str]:
        return CONTROLS[name].overrides(parse_config(config.model_dump(mode="json"), overrides=point))

    # --------------------------------------------------------------------------------------------- grids and choices
    def _points(self, phase: str) -> list[list[str]]:
        """Every combination of the grid's values of a phase, as overrides."""
        keys = {key: values for key, values in self.grid.items() if key.startswith(f"{phase}.")}
        return [[f"{k}={v}" for k, v in zip(keys, values, strict=True)] for values in itertools.product(*keys.values())]

    def chosen(self, phase: str) -> list[str]:
        """The grid's point with the best validation, on average over the seeds."""
        return self._best(phase, self._points(phase))

    def _best(self, arm: str, points: list[list[str]]) -> list[str]:
        if len(points) == 1:
            return points[0]
        return max(points, key=lambda point: self._validation(arm, point))

    def _validation(self, arm: str, point: list[str]) -> float:
        return statistics.mean(validation_score(self._run(arm, point, seed)) for seed in self.seeds)

    def _run(self, arm: str, point: list[str], seed: int) -> Path:
        return self.path / f"seed{seed}" / "@".join([arm, *(re.sub(r"[^\w.=+-]+", "_", each) for each in point)])

    # -------------------------------------------------------------------------------------------------------- record
    def finish(self) -> None:
        """Record the chosen arms with their runs, and how many settings of each were tried."""
        self.arms = [self._arm("mle", "mle", self._points("mle")), self._arm("rl", "reward", self._points("rl"))]
        for name in self.controls:
            self.arms.append(self._arm(name, "control", self._points("mle") if name == "equal_time" else [[]]))
        self.save()

    def _arm(self, name: str, role: Role, points: list[list[str]]) -> dict[str, Any]:
        point = self._best(name, points)
        runs = [self._run(name, point, seed) for seed in self.seeds]
        return {
            "name": name,
            "role": role,
            "runs": [str(run.relative_to(self.path)) for run in runs],
            "tried": len(points),
            "selected": dict(each.split("=", 1) for each in point),
            "validation": [validation_value(run) for run in runs],
        }


@dataclass(frozen=True, eq=False)
class Job:
    """The training of one arm under one seed.

    Attributes:
        arm: Its name.
        seed: Its seed.
        run: Its run directory.
        arguments: Of ``rlseq train``, without ``--run``; they are known once what the job waits for is finished.
        after: Runs that it waits for.
    """

    arm: str
    seed: int
    run: Path
    arguments: Callable[[], list[str]]
    after: list[Path]

    @property
    def name(self) -> str:
        """Of its log, and on the screen."""
        return f"{self.run.parent.name}-{self.run.name}"

    def command(self) -> list[str]:
        """The arguments of ``rlseq`` that begin the training, or go on with it."""
        if goes_on(self.run):
            return ["train", "--resume", str(self.run)]
        return ["train", *self.arguments(), "--run", str(self.run)]


def goes_on(run: Path) -> bool:
    """Whether a run is gone on with; what is left of one that was stopped before it saved anything is removed.

    Raises:
        StudyError: It has checkpoints, and none of them can be read.
    """
    if last_checkpoint(run) is not None:
        return True
    if any(run.glob("checkpoints/*/[0-9]*")):
        raise StudyError(f"{run}: none of its checkpoints can be read: mend them, or move the run away")
    if run.exists():
        shutil.rmtree(run)
    return False


def finished(run: Path) -> bool:
    """Whether the last thing that a run writes is there: what it came to on held-out instances."""
    return any((run / "report" / name).is_file() for name in ("comparison.json", "evaluation.json"))


def validation_score(run: Path) -> float:
    """The best validation of a run's last phase: the more, the better."""
    return float(read_checkpoint(run, load_meta)["trainer"]["best"])


def validation_value(run: Path) -> float | None:
    """The same, as the value of the metric that picks checkpoints."""
    return best_validation(read_checkpoint(run, load_meta)["trainer"])[1]


def cost_of(run: Path) -> Cost:
    """What a run had used up at its last checkpoint."""
    return Cost.from_dict(last_meta(run)["trainer"])


def last_meta(run: Path) -> dict[str, Any]:
    """What a run's newest checkpoint says of itself."""
    newest = last_checkpoint(run)
    if newest is None:
        raise StudyError(f"{run} has no checkpoint: remove it and resume the study")
    return load_meta(newest)


def split_grid(overrides: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Overrides with one value, and the values of keys of ``mle`` and ``rl`` that have several.

    A comma inside brackets or quotes belongs to the value.
    """
    plain: list[str] = []
    grid: dict[str, list[str]] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        values = re.findall(r"""(?:[^,\[\{"']|\[[^\]]*\]|\{[^}]*\}|"[^"]*"|'[^']*')+""", value)
        if len(values) > 1 and key.split(".")[0] in ("mle", "rl"):
            grid[key] = values
        else:
            plain.append(override)
    return plain, grid
