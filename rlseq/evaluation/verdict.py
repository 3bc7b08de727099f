"""What follows from a preflight's figures: is rl advisable, what is to be known first, which settings promise more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rlseq.config.schema import Config
from rlseq.evaluation.plateau import MleTrend
from rlseq.evaluation.preflight import Lengths, Preflight
from rlseq.training.preflight import (
    FAR_BELOW,
    FLAT,
    LEAST_BETTER,
    LEAST_DIFFERING,
    LEAST_REWARD,
    LEAST_SPREAD,
    MOST_TRUNCATED,
    SATURATED,
    Finding,
    judge_samples,
)

BEYOND_HELP = ("untrained", "saturated")  # findings against rl, whatever its settings
CLOSE = 0.02  # of the range: samples so little below the greedy output are as good as it
SPREAD_KEPT = 0.5  # of the instances that differ at temperature 1, those that still have to
ENOUGH_SAMPLES = 0.75  # of the instances that differ among all samples drawn, those that have to among K
SAMPLES_FACTOR = 2  # a number of samples within this factor of the recommended one is left alone
LONG_PHASE, LEAST_RATE = 2000, 0.25  # updates from which rl takes mle's learning rate; the least fraction of it
RATE_FACTOR = 2.5  # a learning rate within this factor of the recommended one is left alone
LENGTH_MARGIN, LENGTH_EXCESS = 1.25, 2.0  # of the references' 99th percentile; of the recommended limit


def judge(measured: Preflight) -> list[Finding]:
    """What speaks against rl, what is to be known before it, and what other settings promise more."""
    findings = judge_samples(measured.figures, measured.config.rl)
    if measured.config.rl.updates == 0:
        text = "rl.updates is 0, so the rl phase has no length to judge: give rl.updates=N"
        findings.append(Finding("no_updates", "warning", text))
    if measured.trend is not None and measured.trend.rising:
        findings.append(Finding("mle_rising", "warning", _rising(measured.trend)))
    return [*findings, *_advice(measured)]


def refused(findings: Sequence[Finding]) -> bool:
    """Whether rl is not advisable."""
    return any(finding.verdict == "against" for finding in findings)


def _rising(trend: MleTrend) -> str:
    why = " although its learning rate had run out" if trend.run_out else ""
    return (
        f"mle is still rising{why}: {_last_updates(trend)} of its {trend.updates:,} updates brought {trend.gain:+.4f} "
        f"reward (up to {trend.needed:.4f} is a plateau). Part of rl's gain will be that of training longer, as a "
        f"control of equal time shows; train mle longer, its schedule as long (mle.updates={2 * trend.updates})"
    )


def _last_updates(trend: MleTrend) -> str:
    return "the second half" if trend.fresh else "the last quarter"


def recommendations(measured: Preflight) -> dict[str, float]:
    """The settings that these figures speak for, by their keys; none if no setting of rl could help."""
    rl = measured.config.rl
    if any(finding.key in BEYOND_HELP for finding in judge_samples(measured.figures, rl)):
        return {}
    found = {"rl.temperature": _best_temperature(measured)}
    if rl.samples > 1:
        found["rl.samples"] = _enough_samples(measured)
    if rl.updates:
        found["rl.optimizer.learning_rate"] = _rate(measured.config)
    if hasattr(measured.config.task, "max_length"):
        found["task.max_length"] = _length(measured.lengths)
    return found


def _best_temperature(measured: Preflight) -> float:
    """The configured one if its samples are close to the greedy output, else the highest for which this holds.

    If it holds for none, the one that comes closest. At least half of the instances whose samples differ at temperature
    1 have to differ still.
    """
    tried, figures, configured = measured.temperatures, measured.figures, measured.config.rl.temperature
    kept = SPREAD_KEPT * next(1 - one.alike for one in tried if math.isclose(one.temperature, 1.0))
    able = [one for one in tried if 1 - one.alike >= kept]
    close = [one.temperature for one in able if one.sampled >= figures.greedy - CLOSE * figures.range]
    if close:
        return configured if configured in close else max(close)
    return max(able, key=lambda one: one.sampled).temperature


def _enough_samples(measured: Preflight) -> int:
    """The fewest among which most of the instances differ that differ among all samples drawn."""
    most = 1 - min(measured.alike.values())
    return next(count for count, alike in sorted(measured.alike.items()) if 1 - alike >= ENOUGH_SAMPLES * most)


def _rate(config: Config) -> float:
    """The peak of mle's learning rate in a long phase, a quarter of it in a short one.

    Large steps displace the greedy output at first, and what is lost comes back as they shrink; small ones move
    nothing. A phase of thousands of updates has the time for it, one of hundreds has not.
    """
    fraction = min(1.0, max(LEAST_RATE, config.rl.updates / LONG_PHASE))
    return fraction * config.mle.optimizer.learning_rate


def _length(lengths: Lengths) -> int:
    """With a margin over nearly all references; twice the limit if that cuts them."""
    if lengths.reference_p99 >= lengths.limit:
        return 2 * lengths.limit
    return math.ceil(LENGTH_MARGIN * lengths.reference_p99)


def _advice(measured: Preflight) -> list[Finding]:
    """Recommended settings that are not the configured ones, each with its reason."""
    rl, found = measured.config.rl, recommendations(measured)
    advice = []
    temperature, samples = found.get("rl.temperature", rl.temperature), found.get("rl.samples")
    if not math.isclose(temperature, rl.temperature):
        best = next(one for one in measured.temperatures if one.temperature == temperature)
        reason = (
            f"its samples are worth {best.sampled:.3f} (greedy {measured.figures.greedy:.3f}), and those of "
            f"{100 * (1 - best.alike):.0f} % of the instances differ"
        )
        advice.append(("rl.temperature", temperature, reason))
    if samples is not None and max(samples, rl.samples) >= SAMPLES_FACTOR * min(samples, rl.samples):
        differ = 100 * (1 - measured.alike[int(samples)])
        advice.append(("rl.samples", samples, f"the samples of {differ:.0f} % of the instances differ then"))
    rate, now = found.get("rl.optimizer.learning_rate", math.nan), rl.optimizer.learning_rate
    if rate > RATE_FACTOR * now or rate * RATE_FACTOR < now:
        reason = (
            f"mle's peak is {measured.config.mle.optimizer.learning_rate:g}, and a phase of {rl.updates:,} updates has "
            f"{'the time' if rl.updates >= LONG_PHASE else 'less time'} to recover from large steps"
        )
        advice.append(("rl.optimizer.learning_rate", rate, reason))
    length, lengths = found.get("task.max_length", math.nan), measured.lengths
    if length > lengths.limit or length * LENGTH_EXCESS < lengths.limit:
        reason = f"99 % of the references have at most {lengths.reference_p99:.0f} tokens, the limit is {lengths.limit}"
        advice.append(("task.max_length", length, reason))
    return [Finding(key, "advice", f"{key}={value:g}: {reason}") for key, value, reason in advice]


# --------------------------------------------------------------------------------------------------------- showing
def verdict(measured: Preflight) -> dict[str, Any]:
    """JSON-ready: the verdict, its findings, what each figure was judged by, and the recommended settings."""
    findings = judge(measured)
    return {
        "verdict": "not advisable" if refused(findings) else "sound",
        "findings": [asdict(finding) for finding in findings],
        "measures": measures(measured),
        "recommended": recommendations(measured),
    }


def measures(measured: Preflight) -> dict[str, dict[str, Any]]:
    """Every figure by name, with what it is judged by; a figure that nothing is concluded from says so by ''."""
    figures, config, cost, lengths = measured.figures, measured.config, measured.cost, measured.lengths
    size, samples = figures.range, max(config.rl.samples, 2)
    rows: dict[str, tuple[float, str]] = {
        "greedy reward": (figures.greedy, f"at least {LEAST_REWARD * size:.3g} above the worst, {figures.worst:.3g}"),
        "sampled reward": (figures.sampled, f"at most {FAR_BELOW * size:.3g} below greedy; {FLAT:.0%} of it at least"),
        f"best of {samples}": (measured.best_of[samples], f"above greedy, {figures.greedy:.4f}"),
        f"best of {figures.samples}": (figures.best, f"above greedy, {figures.greedy:.4f}"),
        "references' reward": (figures.reference, ""),
        "instances with a sample above greedy": (figures.better, f"at least {LEAST_BETTER:g}"),
        "reward spread within an instance": (figures.spread, f"at least {LEAST_SPREAD * size:.3g}"),
        "instances with samples alike": (figures.alike, f"at most {1 - LEAST_DIFFERING:g}"),
        "of these all right": (figures.right, f"below {SATURATED:g}"),
        "of these all wrong": (figures.wrong, ""),
        f"alike with {samples} samples": (measured.alike[samples], ""),
        "truncated samples": (figures.truncated, f"below {MOST_TRUNCATED:.2g}"),
        "truncated greedy outputs": (figures.greedy_truncated, f"below {MOST_TRUNCATED:.2g}"),
        "length of samples": (figures.tokens, f"limit {lengths.limit}"),
        "references' length, 99th percentile": (lengths.reference_p99, f"limit {lengths.limit}"),
        "entropy, nats a token": (figures.entropy, ""),
        "references' -log p, nats a token": (measured.validation_nll, ""),
        "samples a CPU second": (cost.samples_per_cpu_second, ""),
        "tokens a CPU second": (cost.tokens_per_cpu_second, ""),
        "CPU seconds an update": (cost.update_cpu_seconds, ""),
        "seconds an update": (cost.update_seconds, ""),
        f"seconds of {config.rl.updates:,} updates": (measured.projected_seconds, ""),
        "peak memory, MiB": (cost.peak_memory / 2**20, ""),
    }
    if measured.training_nll is not None:
        rows["training references' -log p"] = (measured.training_nll, "")
    if measured.trend is not None:
        trend = measured.trend
        rows[f"mle's gain in {_last_updates(trend)}"] = (trend.gain, f"at most {trend.needed:.3g} is a plateau")
    return {name: {"value": value, "judged_by": judged_by} for name, (value, judged_by) in rows.items()}
