"""All learners, or the one in the driver, and what happens when some do not answer."""

from __future__ import annotations

from typing import Any

from ray.rllib.core.learner import learner_group
from ray.rllib.core.learner.learner_group import LearnerGroup

from rlseq.config.schema import Config
from rlseq.models.memory import Memory
from rlseq.rllib.context import Failure, LearnerJob
from rlseq.rllib.learner import SequenceLearner, Statistics
from rlseq.rllib.process_group import LearnerBackendConfig
from rlseq.training.batch import Batch, split_batch, step_batches
from rlseq.training.engine import UpdateRequest, update_seed
from rlseq.training.update import joined_statistics

# RLlib has no setting for it.
learner_group._get_backend_config = lambda learner_class: LearnerBackendConfig()


class LearnersLost(RuntimeError):
    """At least one learner died or fell silent; the others cannot go on without it."""


class SequenceLearnerGroup(LearnerGroup):
    """RLlib's learner group with calls that either all learners answer in time, or that raise.

    RLlib's own ``update`` returns an empty list where no learner is healthy, and waits without end for a silent one.
    """

    def __init__(self, **settings: Any) -> None:
        """See ``LearnerGroup``.

        Raises:
            UserError: A learner cannot make its task or network; most often a module is not there.
            LearnersLost: One died meanwhile.
        """
        super().__init__(**settings)
        if self._learner is None:
            self.ask_all("find_fault")

    @property
    def world(self) -> int:
        """How many learners divide an update's rows."""
        return max(1, self.config.num_learners)

    @property
    def local(self) -> SequenceLearner | None:
        """The learner in the driver, or None."""
        learner: SequenceLearner | None = self._learner
        return learner

    def work(
        self,
        requests: list[UpdateRequest],
        batch: Batch | None,
        memory: Memory | None = None,
        resampled: Batch | None = None,
    ) -> list[Statistics]:
        """Do updates.

        Args:
            requests: In order.
            batch: Of the only request; None has the learners read references.
            memory: See ``LearnerJob``; only for a learner in the driver.
            resampled: The batch with other samples, for the gradient's variance.

        Returns:
            Statistics of each update, over all learners.

        Raises:
            TrainingError: See ``SequenceLearner.work``.
            LearnersLost: See the class.
        """
        world = self.world
        of_ranks = [None] * world if batch is None else self._steps(batch, requests[0])
        others = [None] * world if resampled is None else [steps[0] for steps in self._steps(resampled, requests[0])]
        jobs = [
            {"job": LearnerJob(requests, rank, world, of_ranks[rank], memory, others[rank])} for rank in range(world)
        ]
        return [combine(parts) for parts in zip(*self.ask("work", jobs), strict=True)]

    def _steps(self, batch: Batch, request: UpdateRequest) -> list[list[Batch]]:
        """Each learner's rows of each optimiser step's batch; a batch that is gone through again is divided once."""
        config: Config = self.config.context.config
        steps = step_batches(batch, config.phase(request.phase), update_seed(config.seed, 0, request.update))
        divided = {id(step): split_batch(step, self.world) if self.world > 1 else [step] for step in steps}
        return [[divided[id(step)][rank] for step in steps] for rank in range(self.world)]

    def ask_all(self, method: str, **arguments: Any) -> None:
        """Call a method of every learner with the same arguments and wait; raises as ``work``."""
        self.ask(method, [arguments] * self.world)

    def ask_first(self, method: str, **arguments: Any) -> Any:
        """What a method of the first learner returns; raises as ``work``."""
        return self.ask(method, [arguments])[0]

    def ask(self, method: str, arguments: list[dict[str, Any]]) -> list[Any]:
        """Call a method of the first ``len(arguments)`` learners; answers in the order of their ranks."""
        if self._learner is not None:
            return [getattr(self._learner, method)(**arguments[0])]
        manager, ranks = self._worker_manager, range(len(arguments))
        if manager.num_healthy_actors() < len(self):
            raise LearnersLost("a learner had died before")
        results = manager.foreach_actor(
            "ask",
            kwargs=[{"method": method, "arguments": each} for each in arguments],
            remote_actor_ids=list(ranks),
            timeout_seconds=self.config.context.config.compute.timeout,
        )
        answers = {result.actor_id: result.get() for result in results if result.ok}
        errors = [str(result.get()).splitlines()[0] for result in results if not result.ok]
        if not errors:
            for rank, answer in answers.items():
                if isinstance(answer, Failure):
                    answer.raise_error(f"learner {rank}: ")
        if len(answers) < len(arguments):
            raise LearnersLost(errors[0] if errors else "a learner did not answer in time (compute.timeout)")
        return [answers[rank] for rank in ranks]


def combine(parts: tuple[Statistics, ...]) -> Statistics:
    """One update's statistics from those of its learners."""
    references = [part["reference_tokens"] for part in parts]
    combined = joined_statistics(parts, references) if len(parts) > 1 else parts[0]
    tokens, seconds = sum(part["tokens"] for part in parts), max(part["seconds"] for part in parts)
    workers = sum(part["worker_seconds"] for part in parts)
    sums = {"tokens": tokens, "reference_tokens": sum(references), "worker_seconds": workers}
    return combined | sums | {"seconds": seconds}
