"""The typed configuration of an experiment: one class a section, every key documented beside its default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlseq.config.mle import MLEConfig
from rlseq.config.phases import Phase, PhaseConfig
from rlseq.config.policy import PolicyConfig
from rlseq.config.pretrained import PretrainedConfig
from rlseq.config.rl import RLConfig
from rlseq.config.section import Batch, Section, default_type
from rlseq_envs.settings import TaskSettings
from rlseq_envs.settings.rules import Limit, PositiveInt, Range, Seconds, Seed

Workers = Annotated[int, Range(ge=0), Limit(10_000)]
Threads = Annotated[int, Range(gt=0), Limit(1024)]
GPUs = Annotated[float, Range(ge=0.0), Limit(1024)]
PolicySections = Annotated[PolicyConfig | PretrainedConfig, default_type("parts")]
TaskConfig = Annotated[TaskSettings, Field(discriminator="type")]  # their keys: rlseq_envs/settings


class EvaluationConfig(Section):
    """Validation during training and the final figures."""

    batch_size: Batch = 200  # instances decoded together
    max_instances: PositiveInt | None = None  # of the validation set; default: all
    samples_shown: Annotated[int, Range(ge=0), Limit(10**4)] = 8  # rows in the table of samples, figures in TensorBoard


class ComputeConfig(Section):
    """Where the work is done."""

    runners: Workers = 0  # environment runners; 0: in the driver
    learners: Workers = 0  # learners (data parallel); 0: in the driver
    runner_gpus: GPUs = 0.0  # GPUs of each runner
    learner_gpus: GPUs = 0.0  # GPUs of each learner
    # Of a running Ray cluster, HOST:PORT or auto; local: this machine. Default: RAY_ADDRESS if that is set, as it is
    # inside a Ray job, else this machine.
    address: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"  # of work done in the driver
    threads: Threads | None = None  # torch threads a process; default: the cores divided among the processes
    shard_size: Batch = 32  # instances encoded and decoded together in rl; fixed, whoever the workers are
    timeout: Seconds = 600.0  # seconds before a silent worker counts as lost


class CheckpointConfig(Section):
    """What is kept."""

    every: PositiveInt = (
        1000  # updates between checkpoints that can be resumed; also at each validation's best and at the end
    )
    keep: PositiveInt = 2  # newest ones kept besides best


class ReportConfig(Section):
    """Where figures go, besides the files of the run directory and TensorBoard."""

    loggers: tuple[str, ...] = ()  # some of csv, wandb, mlflow, or package.module:Class of the user's


class Config(Section):
    """One experiment."""

    # Of the experiment; run directories begin with it.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
    seed: Seed = 0  # decides weights, batches and samples
    output: str = "runs"  # run directories are made in it
    log_every: PositiveInt = 20  # updates between log lines and TensorBoard points
    task: TaskConfig  # what is to be generated, and what it is worth
    policy: PolicySections  # the network: an encoder, a decoder, an output, or a pretrained one that has all three
    mle: MLEConfig  # the first phase: cross-entropy
    rl: RLConfig  # the second phase: the reward
    evaluation: EvaluationConfig = EvaluationConfig()  # validation, and the figures in the end
    compute: ComputeConfig = ComputeConfig()  # where the work is done
    checkpoint: CheckpointConfig = CheckpointConfig()  # what is kept
    report: ReportConfig = ReportConfig()  # where figures go

    def phase(self, name: Phase) -> PhaseConfig:
        """The section of a phase."""
        return self.mle if name == "mle" else self.rl

    @model_validator(mode="after")
    def _policy_fits(self) -> Config:
        outline = self.task.outline()  # of a task of the user's the check comes when it is made
        wrong = [] if outline is None else self.policy.misfits(*outline)
        if self.mle.attention_regularization and self.policy.attention_is_output:
            wrong.append(
                "mle.attention_regularization would have every position pointed at alike: the attention of "
                "policy.output is its output; set it to 0"
            )
        if wrong:
            raise ValueError("\n".join(wrong))
        return self
