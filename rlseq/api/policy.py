"""A trained policy: outputs for sources, figures on a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from rlseq.api.checks import Naming, blaming_input, check_checkpoint, check_device, data_problems, in_python, refuse
from rlseq.api.decoding import Decoding, decoding_methods, decoding_options, decoding_problems

if TYPE_CHECKING:
    from rlseq.evaluation.decoding import Output
    from rlseq.evaluation.evaluate import Evaluation, Outputs
    from rlseq.evaluation.loading import LoadedPolicy
    from rlseq_envs.task import SplitName

MOST_OUTPUTS = 10_000  # of a source
SPLITS = ("train", "validation", "test")


def load(
    path: Path | str, overrides: Sequence[str] = (), *, device: str = "auto", trust: bool = False
) -> TrainedPolicy:
    """Load the policy of a checkpoint, or of a run's best one.

    Args:
        path: The checkpoint, the run, or one of the run's phases.
        overrides: Data files that lie elsewhere now, ``task.test_file=FILE`` each.
        device: "cpu", "cuda", or "auto" for a GPU if there is one.
        trust: Whether code that the checkpoint names may be executed though no training of the user's has named it.

    Raises:
        UserError: There is none, it is damaged, not trusted, or this version cannot use it.
    """
    refuse(check_checkpoint(Path(path)) + data_problems(overrides) + check_device(device, in_python("device")))

    from rlseq.config.load import data_files
    from rlseq.evaluation.loading import load_policy  # torch: once nothing is wrong
    from rlseq.training.trust import Trust

    with blaming_input():
        given = Trust.given(trust)
        return TrainedPolicy(load_policy(path, device, trust=given, data=data_files(overrides), scores=False))


class TrainedPolicy:
    """A policy ready to decode.

    Attributes:
        loaded: The network (``policy``), its ``task``, the run's ``config``, the checkpoint's directory and ``meta``.
    """

    def __init__(self, loaded: LoadedPolicy) -> None:
        self.loaded = loaded

    def generate(self, sources: Sequence[str], *, n_best: int = 1, **decoding: Unpack[Decoding]) -> list[list[Output]]:
        """Outputs for sources, as ``rlseq generate`` gives them.

        Args:
            sources: Lines, as the task reads them.
            n_best: Outputs of each, from a search or samples.
            decoding: See ``Decoding``; default: the task's own way.

        Returns:
            Of each source its outputs, with ``text``, ``score`` (the log-probability) and ``tokens`` (END counted),
            best first if they come from a search, which may find fewer than asked for.

        Raises:
            UserError: A source cannot be read, or options do not go together.
        """
        wrong = decoding_problems(decoding, in_python) + n_best_problems(n_best, decoding, in_python)
        if isinstance(sources, str) or not all(isinstance(line, str) for line in sources):
            wrong.append("sources: give a list of texts, one a source")
        refuse(wrong)

        from rlseq.evaluation.decoding import generate_outputs

        if not sources:
            return []
        with blaming_input():
            parsed = self.loaded.task.parse_sources(list(sources))
        return generate_outputs(self.loaded, parsed, decoding_options(decoding), n_best)

    def evaluate(
        self,
        split: SplitName = "test",
        *,
        max_instances: int | None = None,
        exposure_bias: bool = False,
        likelihood: bool = False,
        **decoding: Unpack[Decoding],
    ) -> Evaluation:
        """Decode a split and score it, as ``rlseq evaluate`` does.

        Args:
            split: "train", "validation" or "test".
            max_instances: Only the first ones; an endless split needs it.
            exposure_bias: Also count the tokens that are the reference's, see ``rlseq.evaluation.exposure``.
            likelihood: Also say how likely the references are, see ``rlseq.evaluation.likelihood``.
            decoding: See ``Decoding``; default: the task's own way.

        Raises:
            UserError: The task has no such data, or options do not go together.
        """
        wrong = decoding_problems(decoding, in_python)
        if split not in SPLITS:
            wrong.append(f"{in_python('split', split)}: give one of {', '.join(SPLITS)}")
        refuse(wrong)

        from rlseq.evaluation import exposure
        from rlseq.evaluation import likelihood as of_references
        from rlseq.evaluation.evaluate import evaluate

        self.loaded.check_reward()
        with blaming_input():
            self.loaded.task.instances(split)
        also: dict[str, Any] = {"split": split, "max_instances": max_instances}
        found, more = evaluate(self.loaded, decoding=decoding_options(decoding), **also), {}
        if exposure_bias:
            more["exposure_bias"] = exposure.exposure_bias(self.loaded, **also).to_json()
        if likelihood:
            more["likelihood"] = of_references.likelihood(self.loaded, **also).to_json()
        return replace(found, more=more)

    def texts(self, outputs: Outputs) -> list[str]:
        """What was decoded of a split, one line an instance."""
        return self.loaded.task.format_outputs(outputs.sequences, outputs.lengths)


def evaluate(
    path: Path | str,
    split: SplitName = "test",
    *,
    max_instances: int | None = None,
    exposure_bias: bool = False,
    likelihood: bool = False,
    overrides: Sequence[str] = (),
    device: str = "auto",
    trust: bool = False,
    **decoding: Unpack[Decoding],
) -> Evaluation:
    """Load a policy and score it on a split; see ``load`` and ``TrainedPolicy.evaluate``."""
    return load(path, overrides, device=device, trust=trust).evaluate(
        split, max_instances=max_instances, exposure_bias=exposure_bias, likelihood=likelihood, **decoding
    )


def n_best_problems(n_best: int, decoding: Decoding, called: Naming) -> list[str]:
    """Why a method does not have as many outputs of a source."""
    if not 1 <= n_best <= MOST_OUTPUTS:
        return [f"{called('n_best', n_best)}: give 1 or more, at most {MOST_OUTPUTS:,}"]
    if not set(decoding_methods(decoding)) - {"greedy", "beam"} and n_best > (most := decoding.get("beam") or 1):
        more = f"give {called('beam', n_best)} or {called('sample')}"
        return [f"{called('n_best', n_best)}: there are only {most}; {more}"]
    return []
