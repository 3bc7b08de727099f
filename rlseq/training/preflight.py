"""Is there anything for rl to learn? What the samples of a policy show before the first update.

Samples of an instance are *alike* if all have the same reward: no baseline made of them leaves an advantage, so the
instance teaches nothing. Alike samples are *right* if they are worth at least what the reference is, *wrong* if they
are worth the least that was seen. Thresholds are fractions of the *range*, from the lowest reward seen to the mean
reward of the references.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlseq.config.rl import RLConfig
from rlseq.objectives.baselines import alike
from rlseq.report.sink import Level
from rlseq.training.engine import Engine
from rlseq.training.rollout import Rollout, RolloutRequest
from rlseq_envs.task import Floats, Ints, SequenceTask

LEAST_DIFFERING = 0.02  # of the instances; a batch of 50 has one that teaches something
SATURATED = 0.98  # of the instances with nothing but right samples
LEAST_REWARD = 0.02  # of the range: below it, samples and greedy output are as good as never rewarded
LEAST_SPREAD = 0.01  # of the range: mean standard deviation among an instance's samples
FLAT = 0.1  # of what the greedy output is worth above the lowest reward; samples worth less are noise
FAR_BELOW = 0.1  # of the range: samples so much below the greedy output are sharpened before anything is learnt
LEAST_BETTER = 0.01  # of the instances, having a sample above their greedy output
MOST_TRUNCATED = 1 / 3  # of the samples, or of the greedy outputs

INSTANCES = 200  # that the short form looks at, if they cost little
FEWEST = 20  # below it, a short form says nothing
COST = 0.01  # of the instances that the phase samples; sampling is about half of an update


@dataclass(frozen=True)
class Finding:
    """One thing that was found, with its remedy.

    Attributes:
        key: Names it: a word for a finding, the configuration's key for advice.
        verdict: "against" means that rl would not learn, "warning" and "advice" leave the verdict as it is.
        text: One sentence, the remedy included.
    """

    key: str
    verdict: Literal["against", "warning", "advice"]
    text: str


@dataclass(frozen=True)
class SampleFigures:
    """What samples and greedy outputs of some instances are worth. Fractions are between 0 and 1.

    Attributes:
        instances: How many were looked at.
        samples: Samples drawn of each.
        sampled: Mean reward of the samples.
        greedy: Mean reward of the greedy outputs.
        best: Mean over instances of the reward of the best sample.
        reference: Mean reward of the references.
        worst: The lowest reward of any sample or greedy output.
        spread: Mean over instances of the standard deviation of their samples' rewards.
        alike: Fraction of instances whose samples all have the same reward.
        right: Fraction of instances whose samples are alike and right.
        wrong: Fraction of instances whose samples are alike and wrong.
        better: Fraction of instances with a sample worth more than the greedy output.
        truncated: Fraction of samples without END by the length limit.
        greedy_truncated: Fraction of greedy outputs without END by the length limit.
        entropy: Mean −log p of the sampled tokens: nats a token of the distribution that is sampled from.
        tokens: Mean length of the samples, END included.
    """

    instances: int
    samples: int
    sampled: float
    greedy: float
    best: float
    reference: float
    worst: float
    spread: float
    alike: float
    right: float
    wrong: float
    better: float
    truncated: float
    greedy_truncated: float
    entropy: float
    tokens: float

    @property
    def range(self) -> float:
        """From the lowest reward seen to the references'; 0 if nothing was worth less than the references."""
        return max(self.reference - self.worst, 0.0)


def sample_figures(rollout: Rollout, references: Floats) -> SampleFigures:
    """The figures of a rollout that has samples and the greedy sequence.

    Args:
        rollout: Two or more samples an instance.
        references: (batch_size,) rewards of the instances' references.
    """
    count = rollout.num_samples
    rewards, greedy, lengths = rollout.rewards[:, :count], rollout.rewards[:, -1], rollout.lengths[:, :count]
    worst, equal = float(rollout.rewards.min()), alike(rewards)
    right = equal & (rewards[:, 0] >= references - 1e-9)
    return SampleFigures(
        instances=len(rewards),
        samples=count,
        sampled=float(rewards.mean()),
        greedy=float(greedy.mean()),
        best=float(rewards.max(1).mean()),
        reference=float(references.mean()),
        worst=worst,
        spread=float(rewards.std(1).mean()),
        alike=float(equal.mean()),
        right=float(right.mean()),
        wrong=float((equal & ~right & (rewards[:, 0] <= worst + 1e-9)).mean()),
        better=float((rewards.max(1) > greedy + 1e-9).mean()),
        truncated=float(rollout.truncated[:, :count].mean()),
        greedy_truncated=float(rollout.truncated[:, -1].mean()),
        entropy=-float(rollout.log_probs[:, :count].sum() / lengths.sum()),
        tokens=float(lengths.mean()),
    )


def reference_rewards(task: SequenceTask, ids: Ints) -> Floats:
    """What the references of these instances are worth, (batch_size,)."""
    return task.reward(*task.references(ids), ids).total


# -------------------------------------------------------------------------------------------------- fewer samples
def alike_among(rewards: Floats, samples: int) -> float:
    """The fraction of instances whose samples would be alike with fewer of them: an unbiased estimate.

    Of n samples, c_v of which have the reward v, the probability is Σ_v C(c_v, k) / C(n, k).

    Args:
        rewards: (batch_size, n).
        samples: k, at most n.
    """
    drawn = rewards.shape[1]
    equal = (np.abs(rewards[:, :, None] - rewards[:, None]) <= 1e-9).sum(2)
    chosen = np.array([math.comb(count, samples) / max(count, 1) for count in range(drawn + 1)])
    return float((chosen[equal].sum(1) / math.comb(drawn, samples)).mean())


# ---------------------------------------------------------------------------------------------------- the verdict
def judge_samples(figures: SampleFigures, config: RLConfig) -> list[Finding]:
    """What speaks against rl from this policy, and what is to be known before it; nothing if all is well."""
    signal = _no_signal(figures, config)
    findings = [signal] if signal else []
    truncated = max(figures.truncated, figures.greedy_truncated)
    if truncated >= MOST_TRUNCATED:
        text = (
            f"{_percent(figures.truncated)} of the samples and {_percent(figures.greedy_truncated)} of the greedy "
            "outputs are cut at the length limit: raise the limit if it cuts references, too; else train mle longer"
        )
        findings.append(Finding("truncated", "against", text))
    below = figures.greedy - figures.sampled
    if not signal and below > FAR_BELOW * figures.range:
        text = (
            f"samples are worth {figures.sampled:.3f}, the greedy output {figures.greedy:.3f}: rl will sharpen the "
            f"distribution before it improves anything; lower rl.temperature (now {config.temperature:g})"
        )
        findings.append(Finding("sampled_below_greedy", "warning", text))
    return findings


def _no_signal(figures: SampleFigures, config: RLConfig) -> Finding | None:
    """The one reason why the samples teach nothing, if they do not."""
    differing, size = 1 - figures.alike, figures.range
    rewarded = max(figures.greedy, figures.sampled) - figures.worst
    if figures.right >= SATURATED:
        text = (
            f"all samples of {_percent(figures.right)} of the instances are right: nothing is left to learn; take "
            "harder instances or another reward"
        )
        return Finding("saturated", "against", text)
    if rewarded < LEAST_REWARD * size:
        text = (
            f"hardly any sample is rewarded (samples {figures.sampled:.4f}, greedy {figures.greedy:.4f}, references "
            f"{figures.reference:.3f}): train mle longer, or give a reward that credits parts"
        )
        return Finding("untrained", "against", text)
    if figures.sampled - figures.worst < FLAT * (figures.greedy - figures.worst):
        text = (
            f"samples are worth {figures.sampled:.4f} and the greedy output {figures.greedy:.3f}: at "
            f"{figures.entropy:.2f} nats a token they are noise; lower rl.temperature (now {config.temperature:g})"
        )
        return Finding("flat", "against", text)
    if differing < LEAST_DIFFERING or figures.spread < LEAST_SPREAD * size:
        text = (
            f"the samples of {_percent(figures.alike)} of the instances are alike, their spread is "
            f"{figures.spread:.4f}, their entropy {figures.entropy:.3f} nats a token: raise rl.temperature (now "
            f"{config.temperature:g})"
        )
        return Finding("sharp", "against", text)
    if figures.better < LEAST_BETTER:
        text = (
            f"only {_percent(figures.better)} of the instances have a sample above their greedy output: there is "
            "nothing better to find; raise rl.temperature or rl.samples, or train mle longer"
        )
        return Finding("no_headroom", "against", text)
    return None


# ------------------------------------------------------------------------------------------------- the short form
def short_form(
    task: SequenceTask, engine: Engine, config: RLConfig, limit: int | None, update: int
) -> list[tuple[str, Level]]:
    """What a run says as its rl phase begins: figures of some validation instances, and what was found.

    Nothing is said if the phase is so short that looking would cost more than ``COST`` of its samples, or if its
    rewards are constant. No state is changed, and samples are numbered, so the run goes on as it would without.

    Args:
        task: The run's.
        engine: In the rl phase.
        config: The rl section.
        limit: Most validation instances; None: all of them.
        update: Numbers the samples.
    """
    split = task.instances("validation")
    batch = config.batch_size if config.batch_type == "instance" else config.batch_size // task.choices.longest
    affordable = int(COST * config.updates * batch)
    count = min(size for size in (INSTANCES, affordable, split.size, limit) if size is not None)
    if count < FEWEST or config.reward_source == "constant":
        return []
    ids = split.ids(0, count)
    rolled = engine.rollout(ids, RolloutRequest(max(2, config.samples), True, update), averaged=False)
    figures = sample_figures(rolled, reference_rewards(task, ids))
    lines: list[tuple[str, Level]] = [(line, "info") for line in figure_lines(figures)]
    return [*lines, *((finding.text, "warning") for finding in judge_samples(figures, config))]


def figure_lines(figures: SampleFigures) -> list[str]:
    """The figures in two lines of text."""
    other = max(figures.alike - figures.right - figures.wrong, 0.0)
    return [
        f"before rl, on {figures.instances} validation instances: reward greedy {figures.greedy:.3f}, sampled "
        f"{figures.sampled:.3f} ± {figures.spread:.3f} within an instance, best of {figures.samples} "
        f"{figures.best:.3f}, references {figures.reference:.3f}",
        f"samples alike: {_percent(figures.right)} right, {_percent(figures.wrong)} wrong, {_percent(other)} between; "
        f"entropy {figures.entropy:.3f} nats a token; truncated {_percent(figures.truncated)}",
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"
