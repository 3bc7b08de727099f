"""Is rl worth starting from this checkpoint? Measured on validation instances, with the rl section that is to be used.

``preflight`` measures and changes nothing; ``verdict`` says what follows from the figures.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from rlseq.config.schema import Config
from rlseq.decoding.encoding import encode_sources
from rlseq.evaluation.curves import best_of
from rlseq.evaluation.decoding import split_shards
from rlseq.evaluation.loading import LoadedPolicy
from rlseq.evaluation.plateau import SAME_NLL, MleTrend, mle_curve, mle_trend
from rlseq.objectives.distribution import SamplingDistribution
from rlseq.training.cost import peak_memory_mib
from rlseq.training.engine import UpdateRequest
from rlseq.training.finding import run_of
from rlseq.training.plain import PlainEngine
from rlseq.training.preflight import SampleFigures, alike_among, reference_rewards, sample_figures
from rlseq.training.remote import display_path
from rlseq.training.rollout import Rollout, RolloutRequest, rollout, shards
from rlseq.training.run_directory import read_metrics
from rlseq_envs.scoring import score_sequences
from rlseq_envs.source import source_sizes
from rlseq_envs.task import Floats, Ints

LEAST_DRAWN = 16  # samples an instance, so that the effect of more of them can be told
TIMED_UPDATES = 2  # after one that prepares the kernels
TEMPERATURES = (1.4, 1.0, 0.8, 0.6, 0.4)  # tried beside the configured one


@dataclass(frozen=True)
class Tempered:
    """Samples at one temperature: mean reward, mean spread within an instance, fraction of instances alike."""

    temperature: float
    sampled: float
    spread: float
    alike: float


@dataclass(frozen=True)
class Lengths:
    """Tokens, END included: the references' 99th percentile and longest, and the task's largest limit."""

    reference_p99: float
    reference_longest: int
    limit: int


@dataclass(frozen=True)
class Cost:
    """What rl costs on this machine.

    Attributes:
        samples_per_cpu_second: Sequences sampled and scored.
        tokens_per_cpu_second: Their tokens.
        update_seconds: An update of the rl section in wall time, in one process.
        update_cpu_seconds: The same in CPU time.
        peak_memory: Bytes that this process, or its GPU, held at most.
    """

    samples_per_cpu_second: float
    tokens_per_cpu_second: float
    update_seconds: float
    update_cpu_seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Preflight:
    """All that was measured.

    Attributes:
        name: Of the policy.
        checkpoint: Where it was loaded from.
        config: The run's, with the rl section that was measured.
        figures: Of twice the configured samples, or more.
        alike: Fraction of instances whose samples are alike, by the number of samples.
        best_of: Mean reward of the best sample, by the number of samples.
        temperatures: Those that were tried, ascending.
        lengths: Of the references, and the limit.
        validation_nll: Mean −log p of the references, nats a token.
        training_nll: The same of training instances, if they are there: far below, they were learnt by heart.
        cost: Of rl.
        trend: Of the mle phase; None if the checkpoint is not of mle or has no recorded validations.
    """

    name: str
    checkpoint: str
    config: Config
    figures: SampleFigures
    alike: dict[int, float]
    best_of: dict[int, float]
    temperatures: list[Tempered]
    lengths: Lengths
    validation_nll: float
    training_nll: float | None
    cost: Cost
    trend: MleTrend | None

    @property
    def projected_seconds(self) -> float:
        """Wall time of the configured rl phase in one process, validations not counted."""
        return self.config.rl.updates * self.cost.update_seconds

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "checkpoint": self.checkpoint,
            "figures": asdict(self.figures),
            "alike_by_samples": {str(count): value for count, value in self.alike.items()},
            "best_of": {str(count): value for count, value in self.best_of.items()},
            "temperatures": [asdict(tried) for tried in self.temperatures],
            "lengths": asdict(self.lengths),
            "validation_nll": self.validation_nll,
            "training_nll": self.training_nll,
            "cost": asdict(self.cost) | {"projected_seconds": self.projected_seconds},
            "mle": None if self.trend is None else asdict(self.trend) | {"gain": self.trend.gain},
        }


# ------------------------------------------------------------------------------------------------------- measuring
def preflight(loaded: LoadedPolicy, config: Config, ids: Ints) -> Preflight:
    """Measure what rl would start from.

    Everything but ``cost`` is the same each time. A few updates are made on a copy of the policy to time them.

    Args:
        loaded: The policy and its task.
        config: The run's, with the rl section to look at; its ``evaluation`` says how many instances validations saw.
        ids: (instances,) of the validation split.

    Raises:
        TrainingError: The rl section's first updates are not finite.
    """
    samples = max(config.rl.samples, 2)
    drawn = max(2 * samples, LEAST_DRAWN)
    started = time.process_time()
    rolled = _roll_out(loaded, config, ids, drawn, greedy=True)
    seconds = time.process_time() - started
    references = reference_rewards(loaded.task, ids)
    figures, rewards = sample_figures(rolled, references), rolled.rewards[:, :drawn]
    counts = sorted({2**power for power in range(1, drawn.bit_length()) if 2**power <= drawn} | {samples, drawn})
    nll, lengths = _references(loaded, ids)
    training_nll = _training_nll(loaded, nll, len(ids))
    return Preflight(
        name=loaded.name,
        checkpoint=display_path(loaded.checkpoint),
        config=config,
        figures=figures,
        alike={count: alike_among(rewards, count) for count in counts},
        best_of={count: float(best_of(rewards, count).mean()) for count in counts},
        temperatures=_temperatures(loaded, config, ids, rewards, samples),
        lengths=lengths,
        validation_nll=nll,
        training_nll=training_nll,
        cost=Cost(
            rolled.lengths.size / seconds,
            float(rolled.lengths.sum()) / seconds,
            *_time_update(loaded, config, ids),
            _peak_memory(loaded.device),
        ),
        trend=_trend(loaded, config, rolled.rewards[:, -1].std(), figures.reference, nll, training_nll),
    )


def _roll_out(loaded: LoadedPolicy, config: Config, ids: Ints, samples: int, *, greedy: bool) -> Rollout:
    parts = shards(ids, config.compute.shard_size)
    decoding = RolloutRequest(samples, greedy, 0, precision=config.rl.sampling_precision, score_greedy=False)
    score, distribution = partial(score_sequences, loaded.task), SamplingDistribution.of(config.rl)
    drawn = rollout(
        loaded.policy,
        loaded.task,
        score,
        parts,
        decoding,
        seed=config.seed,
        distribution=distribution,
        device=loaded.device,
    )
    return Rollout.concatenate(drawn)


def _temperatures(loaded: LoadedPolicy, config: Config, ids: Ints, rewards: Floats, samples: int) -> list[Tempered]:
    """The configured temperature, whose rewards are known, and the others."""
    found = [_tempered(config.rl.temperature, rewards, samples)]
    for temperature in TEMPERATURES:
        if not math.isclose(temperature, config.rl.temperature):
            other = config.model_copy(update={"rl": config.rl.model_copy(update={"temperature": temperature})})
            rolled = _roll_out(loaded, other, ids, samples, greedy=False)
            found.append(_tempered(temperature, rolled.rewards, samples))
    return sorted(found, key=lambda tried: tried.temperature)


def _tempered(temperature: float, rewards: Floats, samples: int) -> Tempered:
    return Tempered(
        temperature, float(rewards.mean()), float(rewards[:, :samples].std(1).mean()), alike_among(rewards, samples)
    )


@torch.no_grad()
def _references(loaded: LoadedPolicy, ids: Ints) -> tuple[float, Lengths]:
    """The references' mean −log p under teacher forcing, nats a token, and their lengths."""
    total, counts, limit = 0.0, [], 0
    for part, source in split_shards(loaded, ids):
        targets, lengths = (torch.from_numpy(column).to(loaded.device) for column in loaded.task.references(part))
        memory = encode_sources(loaded.policy, source, loaded.device).detach()
        log_probs = loaded.policy.token_logits(memory, targets, lengths).log_softmax(-1)
        real = torch.arange(targets.shape[1], device=loaded.device) < lengths[:, None]
        total -= float(log_probs.gather(1, targets[real][:, None]).sum())
        counts.append(lengths.cpu().numpy())
        limit = max(limit, int(loaded.task.length_limits(source_sizes(source)).max()))
    tokens = np.concatenate(counts)
    return total / float(tokens.sum()), Lengths(float(np.percentile(tokens, 99)), int(tokens.max()), limit)


def _time_update(loaded: LoadedPolicy, config: Config, ids: Ints) -> tuple[float, float]:
    """Wall and CPU time of an update on as many validation instances as an update has, made on a copy of the policy."""
    rl, task = config.rl, loaded.task
    count = rl.batch_size if rl.batch_type == "instance" else max(1, rl.batch_size // task.choices.longest)
    engine = PlainEngine(config, task, partial(score_sequences, task), str(loaded.device))
    engine.set_weights({name: value.cpu().numpy() for name, value in loaded.policy.state_dict().items()})
    engine.start_phase("rl")
    wall = cpu = 0.0
    for number in range(1 + TIMED_UPDATES):
        batch = np.resize(np.roll(ids, -number * count), count)
        if number == 1:
            wall, cpu = time.perf_counter(), time.process_time()
        engine.update([UpdateRequest("rl", number, number, batch, rl.optimizer.learning_rate)])
    return (time.perf_counter() - wall) / TIMED_UPDATES, (time.process_time() - cpu) / TIMED_UPDATES


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return round(peak_memory_mib() * 2**20)


def _trend(
    loaded: LoadedPolicy, config: Config, deviation: float, reference: float, nll: float, training_nll: float | None
) -> MleTrend | None:
    """What the metrics of the checkpoint's run say of its mle phase, if it is of mle and they are there."""
    if loaded.meta["phase"] != "mle":
        return None
    run = run_of(loaded.checkpoint)
    curve = mle_curve(read_metrics(run / "metrics.jsonl")) if run else None
    if curve is None:
        return None
    validated = (loaded.task.instances("validation").size, config.evaluation.max_instances)
    error = deviation / math.sqrt(min(size for size in validated if size is not None))
    fresh = training_nll is not None and nll <= SAME_NLL * training_nll
    return mle_trend(curve, error=error, reference=reference, fresh=fresh)


def _training_nll(loaded: LoadedPolicy, nll: float, instances: int) -> float | None:
    """The −log p of training references; of an endless split, which is not seen twice, that of validation's.

    None if the training data are not there: a checkpoint is looked at without them, too.
    """
    try:
        split = loaded.task.instances("train")
    except (OSError, ValueError):
        return None
    if split.size is None:
        return nll
    return _references(loaded, split.ids(0, min(instances, split.size)))[0]
