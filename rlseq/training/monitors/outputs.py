"""Monitors of what is sampled: its length, entropy, diversity, repetition and ends, against the phase's start."""

from __future__ import annotations

from rlseq.training.monitors.monitor import Monitor


class LengthMonitor(Monitor):
    """Samples became much shorter or longer: below 0.6 or above 1.5 times their mean length at the start."""

    name = "length"
    tags = ("rollout/length_mean",)

    def look(self) -> str | None:
        """See the base class."""
        (length,) = self.read()
        seen = f"samples have {length.now:.3g} tokens on average, {length.start:.3g} at the start of rl"
        if length.fell(0.6 * length.start):
            return (
                f"{seen}. The reward may favour short outputs, or outputs that end at once. Read the table of samples; "
                "penalise short outputs in the reward, hold the policy near mle with rl.kl or rl.cross_entropy, or "
                "lower rl.optimizer.learning_rate"
            )
        if length.rose(1.5 * length.start):
            return (
                f"{seen}. The reward may pay for length. Read the table of samples; penalise long outputs in the "
                "reward, set rl.normalization to 'sequence' or 'constant', or hold the policy near mle with rl.kl or "
                "rl.cross_entropy"
            )
        return None


class EntropyMonitor(Monitor):
    """The sampling distribution lost nearly all of its entropy, or became flat.

    Lost: below 10 % of the start's entropy although the reward has not risen beyond noise, or below 1 % in any case.
    A healthy phase sharpens the distribution, too, but its reward rises meanwhile. Flat: above twice the start's
    entropy and 0.5 nats a token above it.
    """

    name = "entropy"
    tags = ("train/entropy", "rollout/reward_mean")

    def look(self) -> str | None:
        """See the base class."""
        entropy, reward = self.read()
        seen = f"entropy is {entropy.now:.2g} nats a token, {entropy.start:.2g} at the start of rl"
        if entropy.fell((0.01 if reward.rose(reward.start) else 0.1) * entropy.start):
            return (
                f"{seen}, reward {reward.now:.3g} and {reward.start:.3g}. Samples hardly differ any more, so there is "
                "nothing left to compare. Raise rl.entropy or rl.temperature, lower rl.optimizer.learning_rate, or "
                "hold the policy near mle with rl.kl"
            )
        if entropy.rose(max(2.0 * entropy.start, entropy.start + 0.5)):
            return (
                f"{seen}. The policy unlearns what mle taught it and samples nearly at random. Lower "
                "rl.optimizer.learning_rate or rl.entropy, raise rl.samples, choose another rl.baseline, or hold the "
                "policy near mle with rl.kl or rl.cross_entropy"
            )
        return None


class DiversityMonitor(Monitor):
    """Many sources get the same output: the fraction of distinct first samples fell below half of the start's.

    The outputs of a task may be few, or equal by chance: therefore the start is what it is compared with.
    """

    name = "diversity"
    tags = ("rollout/distinct_frac",)

    def look(self) -> str | None:
        """See the base class."""
        (distinct,) = self.read()
        if not distinct.fell(0.5 * distinct.start):
            return None
        return (
            f"a batch has {100 * distinct.now:.3g} distinct outputs for 100 sources, {100 * distinct.start:.3g} at the "
            "start of rl. The policy answers many sources alike and ignores them (mode collapse). Check that "
            "the reward compares the output with its source or reference; hold the policy near mle with rl.kl or "
            "rl.cross_entropy, raise rl.entropy, or lower rl.optimizer.learning_rate"
        )


class RepetitionMonitor(Monitor):
    """Samples repeat themselves: new bigrams (1 − ``rollout/repetition``) fell below 0.7 of the start's fraction."""

    name = "repetition"
    tags = ("rollout/repetition",)

    def look(self) -> str | None:
        """See the base class."""
        (repetition,) = self.read()
        if not repetition.rose(1.0 - 0.7 * (1.0 - repetition.start)):
            return None
        return (
            f"{100 * repetition.now:.3g} % of a sample's bigrams were in it before, {100 * repetition.start:.3g} % at "
            "the start of rl. The reward may pay for repeated tokens. Read the table of samples; penalise "
            "repetition in the reward (task.reward has neg_repetition for text), or hold the policy near mle with "
            "rl.kl or rl.cross_entropy"
        )


class TruncationMonitor(Monitor):
    """Samples reach the length limit without END: over half of them, or a tenth of all more than at the start."""

    name = "truncation"
    tags = ("rollout/truncated_frac",)

    def look(self) -> str | None:
        """See the base class."""
        (truncated,) = self.read()
        if truncated.now <= 0.5 and not truncated.rose(truncated.start + 0.1):
            return None
        return (
            f"{100 * truncated.now:.3g} % of the samples reach the length limit without END, "
            f"{100 * truncated.start:.3g} % at the start of rl. Their rewards are those of unfinished outputs. Raise "
            "the task's length limit if right outputs are that long; otherwise make the reward of an unfinished output "
            "lower, or hold the policy near mle with rl.kl or rl.cross_entropy"
        )
