"""A configuration is right, or refused with everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from rlseq.config.errors import ConfigError, closest, did_you_mean
from rlseq.config.explain import every_path
from rlseq.config.load import (
    dump_config,
    list_configs,
    load_config,
    parse_config,
    read_config,
    shipped_config,
    shipped_directory,
)
from rlseq.config.objectives import MixerConfig, ObjectiveConfig, ObjectiveSection, PPOConfig, ReinforceConfig
from rlseq.config.policy import DecoderSection
from rlseq.config.rl import RLConfig
from rlseq.config.schema import Config, TaskConfig

MINIMAL = """
name: small
task: {type: convex_hull}
policy: {output: pointer}
mle: {updates: 2}
rl: {updates: 1}
"""


def types(section: Any) -> str:
    """The types that a union of sections has, as messages list them."""
    names = sorted(
        TypeAdapter(member).json_schema()["properties"]["type"]["const"] for member in get_args(get_args(section)[0])
    )
    return f"{', '.join(names[:-1])} or {names[-1]}"


TASKS, DECODERS, OBJECTIVES = map(types, (TaskConfig, DecoderSection, ObjectiveSection))
TEXT = """
name: text
task: {type: translation}
policy: {}
mle: {updates: 2}
rl: {updates: 1}
"""
SHIPPED = [config.name for config in list_configs()]


def write(directory: Path, text: str) -> str:
    (directory / "config.yaml").write_text(text)
    return str(directory / "config.yaml")


def problems(*arguments: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(*arguments)
    assert str(caught.value).count("\n") == len(caught.value.problems)
    return caught.value.problems


# ----------------------------------------------------------------------------------------------------- what is shipped
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_is_right_but_for_data_that_is_the_users(name: str) -> None:
    try:
        config = load_config(name)
    except ConfigError as error:
        missing = [f": no such {kind}: " for kind in ("file", "directory")]
        assert all(any(words in problem for words in missing) for problem in error.problems), str(error)
    else:
        assert config.name == name
    assert shipped_config(name).text.startswith("# rlseq train "), "the launch command stands on top"
    assert shipped_config(name).description


def test_the_hull_is_shipped_and_data_that_has_to_be_fetched_is_named_with_its_key() -> None:
    assert "hull" in SHIPPED and load_config("hull").task.type == "convex_hull"


# ----------------------------------------------------------------------------------------------------------- overrides
def test_overrides_replace_values_lists_and_sections_kept_otherwise(tmp_path: Path) -> None:
    overrides = ["rl.baseline=none", "rl.optimizer.betas=[0.8, 0.9]", "mle.patience=3", "rl.kl=1", "seed=5"]
    config = load_config(write(tmp_path, MINIMAL), overrides)
    assert (config.rl.baseline.type, config.rl.optimizer.betas, config.mle.patience, config.seed) == (
        "none",
        (0.8, 0.9),
        3,
        5,
    )
    assert config.rl.kl == 1.0 and isinstance(config.rl.kl, float)


def test_cross_entropys_ways_are_reached_from_the_command_line(tmp_path: Path) -> None:
    names = ["schedule=linear", "slope=0.25", "epsilon=0.1", "per=sequence", "own=greedy"]
    overrides = [f"mle.scheduled_sampling.{name}" for name in names]
    sampling = load_config(write(tmp_path, MINIMAL), overrides).mle.scheduled_sampling
    assert (sampling.schedule, sampling.constant, sampling.slope, sampling.per) == ("linear", 1.0, 0.25, "sequence")
    mle = load_config(write(tmp_path, TEXT), ["mle.feed=distribution", "mle.attention_regularization=1"]).mle
    assert (mle.feed, mle.attention_regularization) == ("distribution", 1.0)


def test_the_last_of_two_overrides_wins_and_null_is_a_value(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL), ["mle.patience=3", "mle.patience=4", "rl.optimizer.clip_norm=null"])
    assert config.mle.patience == 4 and config.rl.optimizer.clip_norm is None


@pytest.mark.parametrize("given", ["rl.optimizer.clip_norm=0.5", "rl.optimizer={clip_norm: 0.5}"])
def test_a_section_given_in_part_keeps_the_defaults_of_its_place(tmp_path: Path, given: str) -> None:
    """The learning rate of rl is not the one of a bare optimiser section."""
    config = load_config(write(tmp_path, MINIMAL), [given])
    usual = RLConfig(updates=1).optimizer
    assert config.rl.optimizer == usual.model_copy(update={"clip_norm": 0.5})


def test_a_mixture_of_rewards_replaces_the_default_one(tmp_path: Path) -> None:
    text = MINIMAL.replace("type: convex_hull", "type: convex_hull, reward: {edge_f1: 2}")
    task = load_config(write(tmp_path, text)).task
    assert task.type == "convex_hull" and task.reward == {"edge_f1": 2.0}


def test_a_mixture_is_joined_with_one_on_the_command_line_functions_of_ones_own_among_it(tmp_path: Path) -> None:
    text = TEXT.replace("type: translation", "type: translation, reward: {chrf: 1, my.rewards:worth: 0.5}")
    config = load_config(write(tmp_path, text), ["task.reward={gleu: 2, other:worth: 1}", "task.reward.chrf=0"])
    expected = {"chrf": 0.0, "my.rewards:worth": 0.5, "gleu": 2.0, "other:worth": 1.0}
    assert config.task.type == "translation" and config.task.reward == expected
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert read_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("reward: {blue: 1}", "task.reward.blue: unknown key; did you mean 'bleu'?"),
        ("reward: {chrf: -0.5}", "task.reward.chrf: -0.5 is not a number at least 0"),
        ("reward: {chrf: 0}", "task: reward: give at least one component a weight above 0"),
        ("reward: 1", "task.reward: 1 is not a section of keys and values"),
        ("reward_timeout: 0", "task.reward_timeout: 0 is not a number above 0"),
        (
            "chrf_word_order: 2",
            "task: chrf_word_order is 2, but reward has no chrf: add it, or leave chrf_word_order out",
        ),
        (
            "reward: {gleu: 1}, smoothing: floor",
            "task: smoothing is floor, but reward has no bleu: add it, or leave smoothing out",
        ),
    ],
)
def test_rewards_of_text_that_cannot_be_are_refused(tmp_path: Path, given: str, problem: str) -> None:
    assert problems(write(tmp_path, TEXT.replace("type: translation", f"type: translation, {given}"))) == [problem]


def test_shared_embeddings_need_one_vocabulary(tmp_path: Path) -> None:
    given = ["policy.output.share_embeddings=true", "task.shared_vocabulary=false"]
    assert problems(write(tmp_path, TEXT), given) == [
        "policy.output.share_embeddings needs one vocabulary for source and output (of translation, "
        "task.shared_vocabulary): set policy.output.share_embeddings to false"
    ]
    assert load_config(write(tmp_path, TEXT), given[:1]).policy.output.type == "vocabulary"


def test_an_unknown_key_is_refused_with_what_was_meant(tmp_path: Path) -> None:
    found = problems(write(tmp_path, MINIMAL), ["rl.baselin=greedy", "rl.lr=1", "learning_rate=1", "mel.updates=3"])
    assert "rl.baselin: unknown key; did you mean 'baseline'?" in found
    assert any(line.startswith("rl.lr: unknown key; the keys here are updates, batch_size") for line in found)
    assert "learning_rate: unknown key; did you mean 'rl.optimizer.learning_rate'?" in found
    assert "mel: unknown key; did you mean 'mle'?" in found


def test_what_is_no_override_is_refused_beside_everything_else(tmp_path: Path) -> None:
    found = problems(write(tmp_path, MINIMAL), ["updates", "=3", "rl..x=1", "mle.patience=[", "rl.samples=0"])
    assert [line.split(" ")[0] for line in found[:3]] == ["'updates'", "'=3'", "'rl..x=1'"]
    assert "mle.patience: '[' cannot be read as YAML" in found[3]
    assert found[4] == "rl.samples: 0 is not a whole number above 0"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(every_path()), st.randoms(use_true_random=False))
def test_a_key_with_two_letters_swapped_is_refused_and_found_again(path: str, random: Any) -> None:
    head, _, name = path.rpartition(".")
    place = random.randrange(len(name) - 1)
    typo = name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    if typo == name or len(name) < 5 or path.startswith(("task.", "policy.", "rl.objective.", "rl.baseline.")):
        return
    with pytest.raises(ConfigError) as caught:
        parse_config(load_config("hull").model_dump(mode="json"), overrides=[f"{head}.{typo}".lstrip(".") + "=1"])
    assert f"did you mean '{name}'" in str(caught.value)


@pytest.mark.parametrize(
    ("before", "given", "objective"),
    [
        ("reinforce", [], ReinforceConfig()),
        ("{importance_cap: 3}", ["rl.sampling_precision=bf16"], ReinforceConfig(importance_cap=3.0)),
        ("ppo", ["rl.objective.epochs=2"], PPOConfig(epochs=2)),
        ("ppo", ["rl.objective={epochs: 2}", "rl.objective.clip=0.1"], PPOConfig(epochs=2, clip=0.1)),
        ("reinforce", ["rl.objective=ppo", "rl.objective.epochs=2"], PPOConfig(epochs=2)),
        ("{type: ppo, epochs: 2}", ["rl.objective={type: ppo, clip: 0.1}"], PPOConfig(epochs=2, clip=0.1)),
        ("{type: ppo, epochs: 2}", ["rl.objective=ppo"], PPOConfig()),
        ("{type: ppo, epochs: 2}", ["rl.objective={type: mixer, step: 3}"], MixerConfig(step=3)),
        ("{type: mixer, step: 3}", ["rl.objective=reinforce"], ReinforceConfig()),
    ],
)
def test_a_bare_word_is_a_section_and_another_type_replaces_a_section(
    tmp_path: Path, before: str, given: list[str], objective: ObjectiveConfig
) -> None:
    text = MINIMAL.replace("rl: {updates: 1}", f"rl: {{updates: 1, objective: {before}}}")
    assert load_config(write(tmp_path, text), given).rl.objective == objective


def test_every_problem_of_a_section_is_told_at_once(tmp_path: Path) -> None:
    found = problems(write(tmp_path, MINIMAL), ["rl.objective=mrt", "rl.starts=task", "rl.baseline=mean"])
    assert [line.split(": set ")[1] for line in found] == [
        "samples to 2 or more, baseline to 'none'",
        "samples to 2 or more",
        "objective to 'reinforce' or 'ppo'",
    ]


# --------------------------------------------------------------------------------------------------- what can be wrong
def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = """
name: two words
task: {type: convex_hul}
policy: {output: pointer, decoder: {match: addtive}, hiden_size: 3}
mle: {updates: 1.5, optimizer: {betas: [0.1], eps: .inf}}
rl: {updates: '3', learning_rate: 0.1}
evaluation: null
extra: 1
"""
    assert problems(write(tmp_path, text)) == [
        "mle.optimizer.eps: inf is not a finite number",
        'name: "two words" is not a text matching ^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$',
        f"task.type: \"convex_hul\" is not {TASKS}; did you mean 'convex_hull'?",
        'policy.decoder.match: "addtive" is not additive, bilinear, dot, scaled_dot or cosine; '
        "did you mean 'additive'?",
        "policy.hiden_size: unknown key; did you mean 'hidden_size'?",
        "mle.updates: 1.5 is not a whole number at least 0",
        "mle.optimizer.betas[1]: missing; give a number at least 0 and below 1",
        'rl.updates: "3" is not a whole number at least 0',
        "rl.learning_rate: unknown key; did you mean 'rl.optimizer.learning_rate'?",
        "evaluation: null is not a section of keys and values",
        "extra: unknown key; the keys here are " + ", ".join(Config.model_fields),
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("policy: 3", "policy: 3 is not a section whose type is parts or pretrained"),
        ("policy: {decoder: gru}", f'policy.decoder.type: "gru" is not {DECODERS}'),
        (
            "policy: {}",
            "policy.output.type 'vocabulary' needs a task whose tokens are of a fixed number, but they point into the "
            "source: set policy.output.type to pointer",
        ),
        (
            "policy: {output: pointer, hidden_size: 3}",
            "policy.hidden_size 3 is odd, but each direction of the encoder has half of it: "
            "set policy.hidden_size to 4",
        ),
        (
            "policy: {output: {type: own, class: mine}}",
            "policy.output.class: 'mine' is no import path: give package.module:Class",
        ),
        ("mle: {}", "mle.updates: missing; give a whole number at least 0"),
        ("mle: [1]", "mle: [1] is not a section of keys and values"),
        ("mle: {updates: true}", "mle.updates: true is not a whole number at least 0"),
        ("mle: {updates: 1, patience: x}", 'mle.patience: "x" is not a whole number above 0 or null'),
        ("mle: {updates: 1, average: 1.0}", "mle.average: 1.0 is not a number at least 0 and below 1"),
        (
            "rl: {updates: 1, baseline: mean}",
            "rl: baseline 'mean' compares the samples of an instance: set samples to 2 or more",
        ),
        (
            "rl: {updates: 1, reward_clip: [1.0, 0.0]}",
            "rl: reward_clip [1.0, 0.0]: give [lowest, highest], the first below the second",
        ),
        (
            "rl: {updates: 1, objective: mrt}",
            "rl: objective 'mrt' compares an instance's candidates alone: set samples to 2 or more, baseline to 'none'",
        ),
        (
            "rl: {updates: 1, objective: mrt, samples: 2, baseline: none, normalization: token, "
            "normalize_advantage: batch}",
            "rl: objective 'mrt' compares an instance's candidates alone: set normalize_advantage to 'none', "
            "normalization to 'sequence' or 'constant'",
        ),
        ("rl: {updates: 1, objective: {type: mrt, alpha: 0}}", "rl.objective.alpha: 0 is not a number above 0"),
        (
            "rl: {updates: 1, objective: {type: reinforce, epochs: 2}}",
            "rl.objective.epochs: a key of another type; the keys here are type, importance_cap",
        ),
        (
            "rl: {updates: 1, objective: {epochs: 2}}",
            "rl.objective.epochs: a key of another type; the keys here are type, importance_cap",
        ),
        (
            "rl: {updates: 1, objective: {type: ppo, epoch: 2}}",
            "rl.objective.epoch: unknown key; did you mean 'epochs'?",
        ),
        (
            "rl: {updates: 1, objective: 3}",
            f"rl.objective: 3 is not a section whose type is {OBJECTIVES}",
        ),
        ("rl: {updates: 1, ppo: {epochs: 2}}", "rl.ppo: moved; write rl.objective={type: ppo, …}"),
        (
            "rl: {updates: 1, baseline_decay: 0.5}",
            "rl.baseline_decay: moved; write rl.baseline={type: running_mean, decay: …}",
        ),
        (
            "rl: {updates: 1, objective: mixer, precision: bf16}",
            "rl: objective 'mixer' samples only the ends of sequences, and bf16 weights whole ones: "
            "set precision and sampling_precision to fp32",
        ),
        (
            "rl: {updates: 1, samples: 4, baseline: {type: leave_one_out, gae_lambda: 0.95}}",
            "rl.baseline.gae_lambda: a key of another type; the keys here are type",
        ),
        (
            "rl: {updates: 1, samples: 2, objective: mrt, baseline: {type: critic, shaped: true}}",
            "rl: objective 'mrt' compares an instance's candidates alone: set baseline to 'none'",
        ),
        (
            "rl: {updates: 1, baseline: {type: critic, gae_lambda: 1.5}}",
            "rl.baseline.gae_lambda: 1.5 is not a number at least 0 and at most 1",
        ),
        ("rl: {updates: 1, baseline: {type: critic, shaped: 1}}", "rl.baseline.shaped: 1 is not true or false"),
        (
            "rl: {updates: 1, baseline: critic, normalize_advantage: batch}",
            "rl: baseline 'critic' is known only where an update is done: set normalize_advantage to 'none'",
        ),
        ("rl: {updates: 1, normalize_advantage: 1}", "rl.normalize_advantage: 1 is not none, batch or instance"),
        (
            "rl: {updates: 1, samples: 2, baseline: running_mean, normalize_advantage: instance}",
            "rl: normalize_advantage 'instance' can compare only an instance's samples: "
            "set baseline to 'mean' or 'leave_one_out'",
        ),
        (
            "rl: {updates: 1, samples: 2, baseline: none, objective: mrt, dynamic_sampling: 2, batch_type: token}",
            "rl: dynamic_sampling can compare only an instance's samples: set baseline to 'mean' or 'leave_one_out', "
            "objective to 'reinforce' or 'ppo', batch_type to 'instance'",
        ),
        ("rl: {updates: 1, dynamic_sampling: -1}", "rl.dynamic_sampling: -1 is not a whole number at least 0"),
        (
            "rl: {updates: 1, starts: task, objective: mixer}",
            "rl: starts 'task' gives first tokens that were not sampled: set objective to 'reinforce' or 'ppo'",
        ),
        (
            "rl: {updates: 1, starts: task, sampling_precision: bf16}",
            "rl: starts 'task' gives first tokens that were not sampled: set precision and sampling_precision to fp32",
        ),
        (
            "rl: {updates: 1, objective: {type: ppo, minibatches: 5}, batch_size: 4}",
            "rl: objective.minibatches 5 is more than batch_size 4 has instances: lower it",
        ),
        (
            "rl: {updates: 1, objective: {type: ppo, clip_high: 0}}",
            "rl.objective.clip_high: 0 is not a number above 0 or null",
        ),
        (
            "rl: {updates: 1, objective: mixer, top_k: 5}",
            "rl: top_k cut the distribution, while objective 'mixer' scores tokens of the reference outside, too: "
            "leave top_k out",
        ),
        ("rl: {updates: 1, objective: {type: ppo, epochs: 0}}", "rl.objective.epochs: 0 is not a whole number above 0"),
        (
            "rl: {updates: 1, objective: {type: ppo, clip: 1.5}}",
            "rl.objective.clip: 1.5 is not a number above 0 and below 1",
        ),
        (
            "rl: {updates: 1, objective: ppo, dropout: true}",
            "rl: objective 'ppo' compares probabilities, which dropout would change at random: set dropout to false",
        ),
        (
            "rl: {updates: 1, objective: reinforced}",
            f"rl.objective.type: \"reinforced\" is not {OBJECTIVES}; did you mean 'reinforce'?",
        ),
        ("rl: {updates: 1, dropout: 'yes'}", 'rl.dropout: "yes" is not true or false'),
        ("rl: {updates: 1, temperature: 0}", "rl.temperature: 0 is not a number at least 1e-06 and at most 1e+06"),
        ("rl: {updates: 1, top_k: 1}", "rl.top_k: 1 is not a whole number at least 2 or null"),
        ("rl: {updates: 1, top_p: 0}", "rl.top_p: 0 is not a number above 0 and at most 1"),
        ("rl: {updates: 1, top_p: 1.5}", "rl.top_p: 1.5 is not a number above 0 and at most 1"),
        (
            "rl: {updates: 1, top_k: 5, top_p: 0.9, sampling_precision: bf16}",
            "rl: top_k and top_p cut the distribution, and bf16 would cut it elsewhere when drawing than when scoring: "
            "set precision and sampling_precision to fp32, or leave top_k and top_p out",
        ),
        (
            "mle: {updates: 1, scheduled_sampling: {schedule: exponential}}",
            "mle.scheduled_sampling: constant is 1, and p, its power, has to fall: give less than 1",
        ),
        (
            "mle: {updates: 1, scheduled_sampling: {schedule: inverse_sigmoid, constant: 0.5}}",
            "mle.scheduled_sampling: constant is 0.5, and p = k / (k + exp(update / k)) needs k of 1 or more",
        ),
        (
            "mle: {updates: 1, scheduled_sampling: {schedule: linear, constant: 0.3, epsilon: 0.5}}",
            "mle.scheduled_sampling: epsilon 0.5 is above constant 0.3, where p begins: give at most that",
        ),
        (
            "mle: {updates: 1, scheduled_sampling: {schedule: linear}}",
            "mle.scheduled_sampling: slope is 0, so p stays 1: give slope above 0, or constant below 1",
        ),
        (
            "mle: {updates: 1, scheduled_sampling: {schedule: exponential, constant: 0.9, slope: 1}}",
            "mle.scheduled_sampling: slope given, but schedule is 'exponential': slope and epsilon are of 'linear'",
        ),
        (
            "mle: {updates: 1, scheduled_sampling: {constant: 0.9}}",
            "mle.scheduled_sampling: constant given without a schedule: "
            "set schedule to linear, exponential or inverse_sigmoid",
        ),
        (
            "mle: {updates: 1, scheduled_sampling: {schedule: linear, constant: -1}}",
            "mle.scheduled_sampling.constant: -1 is not a number above 0",
        ),
        (
            "mle: {updates: 1, scheduled_sampling: {schedule: linear, epsilon: 2}}",
            "mle.scheduled_sampling.epsilon: 2 is not a number at least 0 and at most 1",
        ),
        (
            "mle: {updates: 1, scheduled_sampling: {schedule: 3}}",
            "mle.scheduled_sampling.schedule: 3 is not none, linear, exponential or inverse_sigmoid",
        ),
        (
            "mle: {updates: 1, feed: distribution, scheduled_sampling: {schedule: linear, slope: 0.1}}",
            "mle: feed 'distribution' feeds no tokens, and scheduled_sampling chooses among them: "
            "set feed to 'token' or scheduled_sampling.schedule to 'none'",
        ),
        (
            "mle: {updates: 1, attention_regularization: 0.1}",
            "mle.attention_regularization would have every position pointed at alike: the attention of "
            "policy.output is its output; set it to 0",
        ),
        (
            "mle: {updates: 1, attention_regularization: -1}",
            "mle.attention_regularization: -1 is not a number at least 0",
        ),
        ("task: {type: convex_hull, reward: {vald: 1}}", "task.reward.vald: unknown key; did you mean 'valid'?"),
        ("task: {type: convex_hull, reward: {valid: -1}}", "task.reward.valid: -1 is not a number at least 0"),
        ("task: {type: convex_hull, min_points: 30}", "task: min_points 30 is larger than max_points 10"),
        (
            "task: {type: convex_hull, test_points: 3}",
            "task.test_points: 3 is not a list of 2, each a whole number above 0 or null",
        ),
        ("output: ${nowhere}", "output: Interpolation key 'nowhere' not found"),
    ],
)
def test_one_thing_wrong_gives_one_line_saying_what_would_be_right(tmp_path: Path, change: str, problem: str) -> None:
    key = change.split(":")[0]
    lines = [line for line in MINIMAL.splitlines() if not line.startswith(key)]
    assert problems(write(tmp_path, "\n".join([*lines, change]))) == [problem]


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2", "\tx", "- 1\n- 2", "!!python/object:os.system {}"])
def test_a_file_that_is_no_mapping_in_yaml_is_one_problem(tmp_path: Path, text: str) -> None:
    assert len(problems(write(tmp_path, text))) == 1


def test_an_empty_file_lists_what_is_missing(tmp_path: Path) -> None:
    found = problems(write(tmp_path, ""))
    assert [line.split(":")[0] for line in found] == ["name", "task", "policy", "mle", "rl"]
    assert found[1] == f"task: missing; give a section whose type is {TASKS}"


def test_bytes_that_are_no_text_are_one_problem(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"name: \xff\xfe")
    assert len(problems(str(tmp_path / "config.yaml"))) == 1


def test_a_name_or_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert problems("hul")[0] == "no config of this name is shipped; did you mean 'hull'?"
    assert problems(str(tmp_path / "no.yaml")) == ["no such file"]
    assert problems("no.yaml") == ["no such file"]
    assert problems("../hull") == ["no such file"]


# ---------------------------------------------------------------------------------------------------------- data files
def test_missing_data_files_are_all_named_and_relative_ones_are_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("")
    names = {"train_source": "a.txt", "train_target": "[a.txt, b.txt]", "validation_source": "c.txt"}
    names |= {"validation_target": "a.txt", "test_source": "~/no/such", "test_target": "a.txt"}
    overrides = ["task.corpus=files", *(f"task.{key}={name}" for key, name in names.items()), "rl.samples=0"]
    found = problems(write(tmp_path, TEXT), overrides)
    assert found == [
        f"task.train_target: no such file: {tmp_path / 'b.txt'}",
        f"task.validation_source: no such file: {tmp_path / 'c.txt'}",
        f"task.test_source: no such file: {Path.home() / 'no/such'}",
        "rl.samples: 0 is not a whole number above 0",
    ]


def test_data_paths_become_absolute_so_that_a_run_can_go_on_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "points.npy").write_bytes(b"")
    task = load_config(write(tmp_path, MINIMAL), ["task.test_file=points.npy"]).task
    assert task.type == "convex_hull" and task.test_file == str(tmp_path / "points.npy")


# ---------------------------------------------------------------------------------------------------------- round trip
@pytest.mark.parametrize("text", [MINIMAL, TEXT])
def test_what_is_dumped_loads_back_equal_with_every_default_written_out(tmp_path: Path, text: str) -> None:
    config = load_config(write(tmp_path, text), ["rl.optimizer.eps=1e-9", "rl.cross_entropy=0.1", "name=null.x-1e3"])
    dumped = dump_config(config)
    (tmp_path / "again.yaml").write_text(dumped)
    assert read_config(tmp_path / "again.yaml") == config == parse_config(config.model_dump(mode="json"))
    assert "recovery_factor" in dumped


def test_the_shipped_directory_is_found() -> None:
    assert (shipped_directory() / "hull.yaml").is_file()


def test_suggestions() -> None:
    assert closest("bathc_size", ["batch_size", "updates"]) == "batch_size"
    assert closest("to_pk", ["top_p", "top_k"]) == "top_k"
    assert did_you_mean("zzz", ["batch_size"]) == "" and did_you_mean("hul", ["hull"]) == "; did you mean 'hull'?"


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "${task.type}", "a-${oc.env:HOME}-b"])
def test_a_configuration_of_a_checkpoint_or_run_reads_nothing_of_this_users(tmp_path: Path, value: str) -> None:
    (tmp_path / "small.yaml").write_text(MINIMAL)
    data = load_config(str(tmp_path / "small.yaml")).model_dump(mode="json") | {"output": value}
    with pytest.raises(ConfigError, match=r"output: .* stands for another value"):
        parse_config(data, "meta.json")
    (tmp_path / "config.yaml").write_text(MINIMAL + f"output: {value}\n")
    with pytest.raises(ConfigError, match=r"output: .* stands for another value"):
        read_config(tmp_path / "config.yaml")


@pytest.mark.parametrize("key", ["output", "task.seed", "rl.samples", "policy.hidden_size"])
def test_a_value_left_to_fill_in_is_refused_by_its_key(tmp_path: Path, key: str) -> None:
    (tmp_path / "small.yaml").write_text(MINIMAL)
    with pytest.raises(ConfigError) as error:
        load_config(str(tmp_path / "small.yaml"), [f"{key}=???", "log_every=???"])
    assert f"{key}: ??? stands for" in str(error.value)
    assert "log_every: ??? stands for" in str(error.value)
