"""Which instances an update sees: a pure function of its number, so a run resumes exactly where it stopped.

A finite split is shuffled anew each epoch and cut into batches of a number of instances, or of a budget of tokens. The
remainder that fills no batch is left out, another one each epoch. An endless split is read in order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property, lru_cache

import numpy as np

from rlseq.config.errors import UserError
from rlseq.config.phases import PHASES, PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.config.schema import Config
from rlseq_envs.task import Ints, SequenceTask, Split, SplitName

POOL = 50  # batches sorted by length together: little padding, little loss of randomness
_READ_TOGETHER = 4096  # instances whose lengths are asked for at once


class Batches(ABC):
    """The batches of a split, numbered from 0 without end.

    Attributes:
        split: Where they come from.
        least: Instances that every batch has at least.
    """

    split: Split
    least: int

    @abstractmethod
    def ids(self, number: int) -> Ints:
        """Instance ids of batch ``number``: (batch_size,)."""


class InstanceBatches(Batches):
    """Batches of equally many instances.

    Args:
        split: Where to draw from.
        batch_size: Instances a batch.
        seed: Of the shuffles, together with the epoch.
        lengths: (instances,) of each instance of the split; batches then hold instances of like length. None: no
            bucketing.

    Raises:
        ValueError: The split is smaller than one batch.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, lengths: Ints | None = None) -> None:
        if split.size is not None and split.size < batch_size:
            raise ValueError(
                f"batch_size: split {split.name!r} has {split.size} instances, fewer than {batch_size}: lower it"
            )
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.least = batch_size
        self._lengths = lengths
        self._order = lru_cache(maxsize=2)(self._shuffle)

    @property
    def batches_per_epoch(self) -> int | None:
        """Batches an epoch; None for an endless split."""
        return None if self.split.size is None else self.split.size // self.batch_size

    def ids(self, number: int) -> Ints:
        """See ``Batches``."""
        per_epoch = self.batches_per_epoch
        if per_epoch is None:
            return self.split.ids(number * self.batch_size, (number + 1) * self.batch_size)
        epoch, index = divmod(number, per_epoch)
        return self.split.first + self._order(epoch)[index]

    def _shuffle(self, epoch: int) -> Ints:
        """Positions of the epoch's batches: (batches_per_epoch, batch_size)."""
        size, per_epoch = self.split.size, self.batches_per_epoch
        assert size is not None and per_epoch is not None
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(size)[: per_epoch * self.batch_size]
        if self._lengths is not None:
            pools = np.arange(len(order)) // (POOL * self.batch_size)
            order = order[np.lexsort((self._lengths[order], pools))]
        return generator.permutation(order.reshape(per_epoch, self.batch_size))


class TokenBatches(Batches):
    """Batches of as many instances as a budget of tokens holds, of like size each.

    A batch takes instances × the size of its largest one, padding counted: what ``max_tokens`` counts in fairseq (Ott
    et al. 2019). The tail of an epoch is left out if it cannot fill a batch of the longest instances.

    Args:
        split: Where to draw from, a finite one.
        budget: Tokens that no batch exceeds.
        seed: Of the shuffles, together with the epoch.
        sizes: (instances,) tokens of each instance of the split.

    Raises:
        ValueError: The split fills no batch, or an instance of it is larger than the budget.
    """

    def __init__(self, split: Split, budget: int, seed: int, sizes: Ints) -> None:
        largest = int(sizes.max())
        if largest > budget:
            raise ValueError(
                f"batch_size: an instance of split {split.name!r} takes {largest} tokens, more than {budget}: "
                f"raise it to {largest} or more"
            )
        self.split, self.budget, self.seed, self.sizes = split, budget, seed, sizes
        self.least = budget // largest
        if len(sizes) < self.least:
            raise ValueError(
                f"batch_size: the {len(sizes)} instances of split {split.name!r} do not fill {budget} tokens: "
                f"lower it to {len(sizes) * largest} or less"
            )
        self._pool = POOL * max(1, budget // int(np.ceil(sizes.mean())))
        self._firsts = [0]  # number of the first batch of each epoch known so far
        self._plan = lru_cache(maxsize=2)(self._make_plan)

    def ids(self, number: int) -> Ints:
        """See ``Batches``. Epochs differ in their number of batches, so those before are counted once."""
        while number >= self._firsts[-1]:
            self._firsts.append(self._firsts[-1] + len(self._plan(len(self._firsts) - 1)[1]))
        epoch = bisect_right(self._firsts, number) - 1
        order, bounds = self._plan(epoch)
        start, stop = bounds[number - self._firsts[epoch]]
        return self.split.first + order[start:stop]

    def _make_plan(self, epoch: int) -> tuple[Ints, Ints]:
        """Positions in the epoch's order, (instances,), and where each batch begins and ends in it, (batches, 2)."""
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(len(self.sizes))
        pools = np.arange(len(order)) // self._pool
        # Every other pool falls in size, so that no batch between two pools holds the longest beside the shortest.
        order = order[np.lexsort((np.where(pools % 2, -1, 1) * self.sizes[order], pools))]
        return order, generator.permutation(self._cut(self.sizes[order]))

    def _cut(self, sizes: Ints) -> Ints:
        """Bounds of the batches of instances in this order: each takes what the budget holds."""
        bounds, start = [], 0
        while len(sizes) - start >= self.least:
            window = sizes[start : start + self.budget // int(sizes[start])]
            taken = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
            stop = start + int(np.searchsorted(taken, self.budget, side="right"))
            bounds.append((start, stop))
            start = stop
        return np.array(bounds, dtype=np.int64)


def make_batches(config: Config, task: SequenceTask) -> dict[str, Batches]:
    """The training batches of each phase that has updates, by the phase's name.

    Raises:
        UserError: The task's instances cannot be divided as a phase asks for; all such problems.
    """
    measures: dict[SplitName, _Measure] = {}
    made: dict[str, Batches] = {}
    problems = []
    for phase in PHASES:
        section = config.phase(phase)
        if not section.updates:
            continue
        split = phase_split(task, section)
        try:
            _check_labels(section, split)
            _check_starts(section, split, task)
            made[phase] = _make(section, measures.setdefault(split.name, _Measure(task, split)), config)
        except ValueError as error:
            problems.append(f"{phase}.{error}")
    if problems:
        raise UserError("\n       ".join(problems))
    return made


def phase_split(task: SequenceTask, section: PhaseConfig) -> Split:
    """Where the instances of a phase come from."""
    from_task = isinstance(section, RLConfig) and section.instances == "task"
    return task.rl_instances() if from_task else task.instances("train")


def _check_labels(section: PhaseConfig, split: Split) -> None:
    reading = section.reads_references if isinstance(section, RLConfig) else []
    if reading and not split.labelled:
        raise ValueError(
            f"instances: those of the task for rl have no references, and {', '.join(reading)} reads them: "
            "set instances to 'train', or leave that out"
        )


def _check_starts(section: PhaseConfig, split: Split, task: SequenceTask) -> None:
    if isinstance(section, RLConfig) and section.starts == "task":
        try:
            task.starts(split.ids(0, 1), section.samples)
        except NotImplementedError as error:
            raise ValueError(f"starts: {error}: set it to 'policy'") from error


def _make(section: PhaseConfig, measure: _Measure, config: Config) -> Batches:
    split, size, learners = measure.split, section.batch_size, config.compute.learners
    if section.batch_type == "instance":
        return InstanceBatches(split, size, config.seed, measure.outputs if split.size is not None else None)
    if split.size is None:
        raise ValueError(
            f"batch_type: split {split.name!r} is endless, so it cannot be divided by 'token': "
            "set it to 'instance', or train on a file"
        )
    sizes = np.maximum(measure.sources, measure.outputs)
    batches = TokenBatches(split, size, config.seed, sizes)
    least = max(1, learners) * section.minibatches
    if least > batches.least:
        parts = f"compute.learners {learners}" if section.minibatches == 1 else f"the {least} parts of a batch"
        raise ValueError(
            f"batch_size: {size} tokens may be {batches.least} instances, fewer than {parts}: "
            f"raise it to {least * int(sizes.max())} or more"
        )
    return batches


class _Measure:
    """Lengths of all training instances of a split, (instances,) each, asked for when they are needed."""

    def __init__(self, task: SequenceTask, split: Split) -> None:
        self.split = split
        self._task = task

    @cached_property
    def outputs(self) -> Ints:
        """Of the references; without any, of the sources."""
        return self._all(lambda ids: self._task.references(ids)[1]) if self.split.labelled else self.sources

    @cached_property
    def sources(self) -> Ints:
        """Of the sources."""
        return self._all(self._task.sizes)

    def _all(self, measure: Callable[[Ints], Ints]) -> Ints:
        ids = self.split.ids()
        return np.concatenate([measure(part) for part in np.array_split(ids, len(ids) // _READ_TOGETHER + 1)])
