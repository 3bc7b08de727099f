"""Compare checkpoints, runs, studies and the outputs of other systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from rlseq.api.checks import Naming, blaming_input, check_checkpoint, check_device, data_problems, in_python, refuse
from rlseq.api.decoding import Decoding, decoding_options, decoding_problems

if TYPE_CHECKING:
    from rlseq.evaluation.arms import ArmSpec
    from rlseq.evaluation.compare import Comparison
    from rlseq_envs.task import SplitName

Place = Path | str
Arms = Mapping[str, Sequence[Place]]  # of each name its checkpoints or runs, one a seed


def compare(
    checkpoints: Sequence[Place] = (),
    *,
    arms: Arms | None = None,
    controls: Arms | None = None,
    hypotheses: Mapping[str, Place] | None = None,
    names: Sequence[str] = (),
    split: SplitName = "test",
    metric: str | None = None,
    max_instances: int | None = None,
    curves: bool = False,
    resamples: int = 1000,
    resampling_seed: int = 12345,
    overrides: Sequence[str] = (),
    device: str = "auto",
    trust: bool = False,
    **decoding: Unpack[Decoding],
) -> Comparison:
    """Decode arms on the same instances and say what the reward brought, as ``rlseq compare`` does.

    Args:
        checkpoints: Checkpoints or runs, each an arm; or one study's directory.
        arms: Further arms, of each name its checkpoints or runs, one a seed.
        controls: Likewise, arms that show what happens without the reward.
        hypotheses: Outputs of other systems: of each name a file with one line an instance.
        names: What to call ``checkpoints``, one each; default: the shortest that tell them apart.
        split: "train", "validation" or "test".
        metric: The one that decides; default: the one that selects checkpoints.
        max_instances: Only the first ones; an endless split needs it.
        curves: Also beams of 1 to 16, and the best of 1 to 64.
        resamples: Of the bootstrap and the randomisation.
        resampling_seed: Of both.
        overrides: Data files of all arms that lie elsewhere now, ``task.test_file=FILE`` each.
        device: "cpu", "cuda", or "auto" for a GPU if there is one.
        trust: Whether code that checkpoints name may be executed though no training of the user's has named it.
        decoding: See ``Decoding``; default: the task's own way.

    Raises:
        UserError: What is given cannot be compared; all that is wrong is told at once.
    """
    wrong = arm_problems(checkpoints, names, arms or {}, controls or {}, hypotheses or {}, in_python)
    refuse(
        wrong
        + data_problems(overrides)
        + decoding_problems(decoding, in_python)
        + check_device(device, in_python("device"))
    )

    from rlseq.config.load import data_files
    from rlseq.evaluation.compare import compare
    from rlseq.training.trust import Trust

    with blaming_input():
        return compare(
            _specs(checkpoints, names, arms or {}, controls or {}, hypotheses or {}),
            split=split,
            decoding=decoding_options(decoding),
            max_instances=max_instances,
            primary=metric,
            seed=resampling_seed,
            resamples=resamples,
            curves=curves,
            device=device,
            trust=Trust.given(trust),
            data=data_files(overrides),
        )


def arm_problems(
    checkpoints: Sequence[Place],
    names: Sequence[str],
    arms: Arms,
    controls: Arms,
    hypotheses: Mapping[str, Place],
    called: Naming,
) -> list[str]:
    """All that can be seen to be wrong with arms before anything is loaded."""
    if isinstance(checkpoints, str | Path):
        return ["checkpoints: give a list of paths"]
    studies = [path for path in checkpoints if _is_study(path)]
    wrong = [problem for path in checkpoints if path not in studies for problem in check_checkpoint(Path(path))]
    for option, named in (("arms", arms), ("controls", controls)):
        for name, places in named.items():
            if isinstance(places, str | Path):
                wrong.append(f"{called(option)} {name}: give a list of paths")
                continue
            found = [problem for place in places for problem in check_checkpoint(Path(place))]
            wrong += [f"{called(option)} {name}: {problem}" for problem in found]
    missing = [(name, file) for name, file in hypotheses.items() if not Path(file).is_file()]
    wrong += [f"{called('hypotheses')} {name}: {file}: no such file" for name, file in missing]
    if names and len(names) != len(checkpoints):
        one = "give one for each" if called is in_python else f"give one {called('names')} for each"
        wrong.append(f"{len(names)} names for {len(checkpoints)} checkpoints: {one}")
    count = len(checkpoints) + len(arms) + len(controls) + len(hypotheses)
    if count < 2 and not studies:
        which = "one checkpoint is no comparison" if count else "nothing to compare"
        wrong.append(f"{which}: give two or more, {called('arms')} NAME=CKPT,..., or a study's directory")
    if studies and len(checkpoints) > 1:
        further = f"{called('arms')} or {called('controls')}"
        wrong.append(f"{studies[0]} is a study, which has several arms: give further ones with {further}")
    return wrong


def _is_study(path: Place) -> bool:
    from rlseq.training.remote import fetched

    return (fetched(path) / "study.json").is_file()


def _specs(
    checkpoints: Sequence[Place], names: Sequence[str], arms: Arms, controls: Arms, hypotheses: Mapping[str, Place]
) -> list[ArmSpec]:
    from rlseq.evaluation.arms import ArmSpec, arms_of_checkpoints, study_arms
    from rlseq.training.remote import local

    is_study = any(map(_is_study, checkpoints))
    specs = study_arms(local(checkpoints[0])) if is_study else arms_of_checkpoints(checkpoints, names)
    specs += [ArmSpec(name, tuple(map(Path, places))) for name, places in arms.items()]
    specs += [ArmSpec(name, tuple(map(Path, places)), "control") for name, places in controls.items()]
    return specs + [ArmSpec(name, hypotheses=Path(file)) for name, file in hypotheses.items()]
