"""Monitors of rewards, advantages and validations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from rlseq.config.rl import RLConfig
from rlseq.evaluation.metrics import held_out
from rlseq.training.monitors.monitor import RECOVERY, Monitor
from rlseq_envs.settings.metrics import larger_is_better

REWARDS = 20  # updates whose rewards the collapse monitor averages
FALL = 0.7  # a mean below this fraction of the best one is suspicious
FALL_ERRORS = 3.0  # unless it is within this many standard errors of it


@dataclass
class CollapseMonitor(Monitor):
    """The sampled reward of 20 updates fell below 0.7 of the best such mean, and 3 standard errors of it.

    It never fires before a reward was positive. While it is suspicious, each log line brings a validation.

    Attributes:
        recent: Rewards of the last ``REWARDS`` updates.
        best: The best mean of so many; 0 before.
        error: Its standard error.
    """

    name = "collapse"
    tags = ("rollout/reward_mean",)

    recent: list[float] = field(default_factory=list)
    best: float = 0.0
    error: float = 0.0

    def update(self, stats: Mapping[str, float]) -> str | None:
        """See the base class."""
        self.recent = [*self.recent, stats[self.tags[0]]][-REWARDS:]
        if len(self.recent) == REWARDS and self.level > self.best:
            self.best, self.error = self.level, statistics.stdev(self.recent) / math.sqrt(REWARDS)
        return self._once(self.look(), RECOVERY)

    def look(self) -> str | None:
        """See the base class."""
        if not self.suspicious:
            return None
        return (
            f"the sampled reward fell to {self.level:.3f}, {self.best:.3f} at best: validating early. If the metric "
            "fell by more than rl.collapse_tolerance, rl goes back to its best checkpoint with a smaller learning rate"
        )

    @property
    def level(self) -> float:
        """The mean over the window."""
        return statistics.fmean(self.recent)

    @property
    def suspicious(self) -> bool:
        """Whether the mean is clearly below the best one."""
        return self.best > 0.0 and self.level < min(FALL * self.best, self.best - FALL_ERRORS * self.error)


@dataclass
class HackingMonitor(Monitor):
    """The validation reward rises while a metric of the same outputs falls, at two validations in a row.

    Each metric is compared with its best validation of the phase. The reward rose if it is above that validation's by
    more than 0.1 standard deviations of sampled rewards. The metric fell if it is worse by 5 % and by 2 standard errors
    of the difference; a mean m of n values in [0, M] has a standard error of at most √(m (M − m) / n) (Bhatia & Davis
    2000), M being 1 or 100.

    Attributes:
        best: Of each metric, its best value and the reward of that validation.
        fallen: Metrics that had fallen at the last validation.
    """

    name = "hacking"
    tags = ("rollout/reward_std",)

    best: dict[str, list[float]] = field(default_factory=dict)
    fallen: list[str] = field(default_factory=list)

    def update(self, stats: Mapping[str, float]) -> str | None:
        """See the base class; alarms come with validations."""
        self._take(stats)
        return None

    def validation(self, metrics: Mapping[str, float], instances: int) -> str | None:
        """See the base class."""
        qualities = held_out(metrics, ())  # also what the reward measures: a mixture may trade one part for another
        fallen = [name for name in qualities if self._fell(name, metrics[name], metrics["reward"], instances)]
        again = [name for name in fallen if name in self.fallen]
        self.fallen = fallen
        if not again:
            return self._once(None, 1)
        changes = ", ".join(f"{name} {self.best[name][0]:.4g} → {metrics[name]:.4g}" for name in again)
        return self._once(
            f"the validation reward rose from {self.best[again[0]][1]:.4g} to {metrics['reward']:.4g} while quality "
            f"fell ({changes}). The reward pays for something that these metrics do not measure, so more of it is no "
            "gain. Read the table of samples; add what is lost to the reward, hold the policy near mle with rl.kl or "
            "rl.cross_entropy, or stop earlier with rl.updates or rl.patience",
            1,
        )

    def _fell(self, name: str, value: float, reward: float, instances: int) -> bool:
        """Whether a metric is clearly worse than its best, at a clearly higher reward; notes a new best."""
        if not math.isfinite(value):
            return False
        best, before = self.best.setdefault(name, [value, reward])
        worse = best - value if larger_is_better(name) else value - best
        if worse < 0:
            self.best[name] = [value, reward]
        spread = self.tracks[self.tags[0]].start if self.tracks else 0.0
        noise = 2.0 * math.hypot(standard_error(best, instances), standard_error(value, instances))
        return reward > before + 0.1 * spread and worse > max(0.05 * abs(best), noise)


def standard_error(mean: float, count: int) -> float:
    """The most that the standard error of a mean of values in [0, 1], or in [0, 100], can be; 0 outside both."""
    highest = 1.0 if mean <= 1.0 else 100.0
    return math.sqrt(max(0.0, mean * (highest - mean)) / count)


class BaselineMonitor(Monitor):
    """The baseline no longer tracks the rewards: most samples are on the same side of it, or it stands still.

    Same side: at each of the last 10 updates the advantages' mean is further from 0 than their standard deviation.
    Stands still: it had the same value at all updates looked at, while the advantages' mean moved away from 0 by more
    than noise and 0.2 standard deviations. Neither ``none`` nor the baselines that are an instance's mean are watched.
    """

    name = "baseline"
    tags = ("rollout/advantage_mean", "rollout/advantage_std", "rollout/baseline_mean")

    @classmethod
    def watches(cls, config: RLConfig) -> bool:
        """See the base class."""
        return config.baseline.follows_rewards

    def look(self) -> str | None:
        """See the base class."""
        mean, std, baseline = self.read()
        pairs = list(zip(mean.last, std.last, strict=True))
        one_sided = all(m > s for m, s in pairs) or all(-m > s for m, s in pairs)
        still = len({*baseline.first, *baseline.last}) == 1
        if not one_sided and not (still and abs(mean.now) > abs(mean.start) + max(mean.noise, 0.2 * std.now)):
            return None
        seen = "advantages are on one side of 0" if one_sided else "the baseline stands still while rewards move"
        return (
            f"{seen}: mean {mean.now:.3g}, standard deviation {std.now:.3g}, baseline {baseline.now:.3g}. It no longer "
            "tracks the rewards, so nearly all samples are rewarded alike and the gradient is noisy. Set rl.baseline "
            "to 'leave_one_out' with rl.samples of 2 or more, or lower rl.baseline.decay of a running mean"
        )


class ZeroAdvantageMonitor(Monitor):
    """Hardly anything is learnt from: over 98 % of the sampled tokens have advantage 0."""

    name = "zero_advantage"
    tags = ("rollout/zero_advantage_frac",)

    def look(self) -> str | None:
        """See the base class."""
        (zero,) = self.read()
        if zero.now <= 0.98:
            return None
        return (
            f"{100 * zero.now:.3g} % of the sampled tokens have advantage 0: nearly all samples of an instance are "
            "worth the same, so an update teaches next to nothing. If the reward is as high as it can be, rl is done: "
            "let rl.patience end it. Otherwise raise rl.temperature or rl.samples, or choose a reward with finer steps"
        )
