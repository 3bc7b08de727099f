"""Which updates come next, and on which instances. It follows from the configuration and from where a run stands."""

from __future__ import annotations

from collections.abc import Mapping

from rlseq.config.phases import PHASES, PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.config.schema import Config
from rlseq.data.batches import make_batches
from rlseq.training.engine import UpdateRequest
from rlseq.training.optimizer import learning_rate
from rlseq.training.progress import Progress
from rlseq_envs.task import Ints, SequenceTask

# Of an endless split every phase and seed has instances of its own, all below 2⁴⁰, where other splits may begin.
PHASE_INSTANCES, SEEDS = 1 << 28, 1 << 11
STRETCH_SECONDS = 5.0  # most that updates done in one call may take: a stop waits for them


class Requests:
    """What the engine is asked to do.

    Args:
        config: The experiment.
        task: Whose instances are trained on.

    Raises:
        UserError: The training data cannot be divided into batches as configured.
    """

    def __init__(self, config: Config, task: SequenceTask) -> None:
        self.config = config
        self._batches = make_batches(config, task)

    def next(self, progress: Progress, baseline_state: Mapping[str, float], seconds: float) -> list[UpdateRequest]:
        """The updates up to the next event, or as many as a stop may wait for; one at a time in rl.

        Args:
            progress: Where the run stands.
            baseline_state: What the baseline knows of earlier updates.
            seconds: What an update takes; 0 before there was one.
        """
        section = self.config.phase(progress.phase)
        if isinstance(section, RLConfig):
            return [self._request(progress, section, 0, baseline_state)]
        done = progress.phase_update
        left = [every - done % every for every in (self.config.log_every, section.validate_every)]
        left += [section.updates - done, self.config.checkpoint.every - progress.update % self.config.checkpoint.every]
        if seconds:
            left.append(max(1, int(STRETCH_SECONDS / seconds)))
        return [self._request(progress, section, offset, baseline_state) for offset in range(min(left))]

    def _request(
        self, progress: Progress, section: PhaseConfig, offset: int, baseline_state: Mapping[str, float]
    ) -> UpdateRequest:
        number = progress.phase_update + offset
        rate = learning_rate(section.optimizer, number, section.updates) * progress.rate_scale
        draws = section.dynamic_sampling if isinstance(section, RLConfig) else 0
        ids, *spare = (self._ids(progress, number + draw * section.updates) for draw in range(draws + 1))
        update = progress.update + offset
        return UpdateRequest(progress.phase, update, number, ids, rate, baseline_state, tuple(spare))

    def _ids(self, progress: Progress, number: int) -> Ints:
        batches = self._batches[progress.phase]
        endless = batches.split.size is None
        stretch = 2 * (self.config.seed % SEEDS) + PHASES.index(progress.phase) if endless else 0
        return batches.ids(number) + stretch * PHASE_INSTANCES
