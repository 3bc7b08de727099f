"""Arms are judged one checkpoint at a time, on the same instances; no two policies are in memory at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlseq.data.tasks import signature_difference
from rlseq.evaluation.arms import ArmSpec, Role, rewards_of
from rlseq.evaluation.curves import Curves, measure_curves
from rlseq.evaluation.errors import IncomparableError
from rlseq.evaluation.evaluate import Evaluation, evaluate, instance_ids
from rlseq.evaluation.history import History, read_history
from rlseq.evaluation.hypotheses import read_hypotheses
from rlseq.evaluation.loading import LoadedPolicy
from rlseq.evaluation.options import DecodingOptions
from rlseq.evaluation.profile import OF_POLICIES, Profile, output_profile, policy_profile
from rlseq_envs.task import Floats, Ints, SequenceTask, SplitName, TextPairs

_AT_ONCE = 1000  # instances whose sources and references are in memory for a fingerprint


@dataclass(frozen=True)
class Judged:
    """One checkpoint of an arm, or the outputs of another system, on the instances.

    Attributes:
        evaluation: Outputs and figures; of text of another system the sequences are empty.
        texts: Outputs and references of a text task; None otherwise.
        seed: The run's; None for another system.
        rewards: The names of the rewards it was trained on.
        profile: See ``rlseq.evaluation.profile``.
        history: Where the checkpoint came from; None for another system.
        curves: See ``rlseq.evaluation.curves``; None if they were not asked for.
    """

    evaluation: Evaluation
    texts: TextPairs | None
    seed: int | None
    rewards: list[str]
    profile: Profile
    history: History | None = None
    curves: Curves | None = None


@dataclass(frozen=True)
class Arm:
    """An arm that was judged.

    Attributes:
        spec: As it was named.
        role: Its part.
        judged: One a seed, in the order of seeds.
    """

    spec: ArmSpec
    role: Role
    judged: list[Judged]

    @property
    def name(self) -> str:
        """Of the arm."""
        return self.spec.name

    @property
    def seeds(self) -> list[int]:
        """Of its runs; none for another system."""
        return [found.seed for found in self.judged if found.seed is not None]

    @property
    def rewards(self) -> Floats:
        """(seeds, instances)."""
        return np.stack([found.evaluation.outputs.rewards for found in self.judged])


class Judge:
    """Judges arms on the instances of a split; the task of the first checkpoint stands for all.

    Attributes:
        split: What is decoded.
        options: How; of the first task's method once it is there.
        task: Of the first checkpoint.
        ids: The instances.
    """

    task: SequenceTask
    ids: Ints

    def __init__(
        self,
        split: SplitName,
        options: DecodingOptions,
        max_instances: int | None,
        *,
        load: Callable[[Path], LoadedPolicy],
        with_curves: bool = False,
    ) -> None:
        """Nothing is loaded yet; ``load`` will do it."""
        self.split, self.options = split, options
        self._max_instances, self._load, self._with_curves = max_instances, load, with_curves
        self._first = ""
        self._fingerprint = b""

    def judge(self, arms: Sequence[ArmSpec]) -> list[Arm]:
        """Judge all arms, those with checkpoints first.

        Raises:
            IncomparableError: The arms do not share task and instances.
            EvaluationError: A file of outputs does not fit them.
            CheckpointError: A checkpoint is missing or damaged.
        """
        done: dict[str, Arm] = {}
        for arm in sorted(arms, key=lambda arm: arm.hypotheses is not None):
            if arm.hypotheses:
                done[arm.name] = Arm(arm, arm.role_of(None), [self._hypotheses(arm.hypotheses, arm.name)])
            else:
                done[arm.name] = self._arm(arm)
        return [done[arm.name] for arm in arms]

    def _arm(self, arm: ArmSpec) -> Arm:
        judged, metas = [], []
        for path in arm.checkpoints:
            loaded = self._load(path)
            judged.append(self._checkpoint(loaded, arm.name))
            metas.append(loaded.meta)
        return Arm(arm, arm.role_of(metas[0]), sorted(judged, key=lambda found: found.seed or 0))

    def _checkpoint(self, loaded: LoadedPolicy, name: str) -> Judged:
        self._check(loaded, name)
        evaluation = evaluate(loaded, split=self.split, decoding=self.options, max_instances=len(self.ids), name=name)
        outputs, task = evaluation.outputs, loaded.task
        texts = task.text_pairs(outputs.sequences, outputs.lengths, outputs.ids)
        return Judged(
            evaluation,
            texts,
            loaded.config.seed,
            rewards_of(loaded.meta),
            output_profile(task, evaluation, texts) | policy_profile(loaded, evaluation),
            read_history(loaded.checkpoint, loaded.meta, task.selects_by(loaded.meta["phase"])),
            measure_curves(loaded, self.ids, self.options) if self._with_curves else None,
        )

    def _check(self, loaded: LoadedPolicy, name: str) -> None:
        """The first checkpoint says what is judged; the others must have the same task and the same instances."""
        ids = instance_ids(loaded, self.split, self._max_instances)
        if not self._first:
            self._first, self.task, self.ids = name, loaded.task, ids
            self.options = self.options.of(loaded.task)
            self._fingerprint = _fingerprint(loaded.task, ids)
        if loaded.task.signature != self.task.signature:
            raise IncomparableError(
                f"{self._first} and {name} were trained for different tasks, their figures cannot be compared:\n"
                f"{signature_difference(self.task.signature, loaded.task.signature)}"
            )
        if not np.array_equal(ids, self.ids) or _fingerprint(loaded.task, ids) != self._fingerprint:
            raise IncomparableError(
                f"{self._first} and {name} have different {self.split} instances: "
                "compare checkpoints with the same task section"
            )

    def _hypotheses(self, path: Path, name: str) -> Judged:
        evaluation, texts = read_hypotheses(path, name, self.task, self.ids, self.split, self.options)
        profile = output_profile(self.task, evaluation, texts) | dict.fromkeys(OF_POLICIES)
        return Judged(evaluation, texts, None, [], profile)


def _fingerprint(task: SequenceTask, ids: Ints) -> bytes:
    """Of the sources and references of these instances."""
    digest = hashlib.sha256()
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        fields = (array for field in task.source(part).fields.values() for array in field if array is not None)
        for array in (*fields, *task.references(part)):
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        texts = task.text_pairs(*task.references(part), part)
        digest.update(repr(texts.references if texts else None).encode())
    return digest.digest()
