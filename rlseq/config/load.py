"""Finding, reading, overriding and checking a configuration."""

from __future__ import annotations

import io
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from rlseq.config.errors import ConfigError, did_you_mean
from rlseq.config.explain import explain, root, with_section_defaults
from rlseq.config.pretrained import read_model
from rlseq.config.schema import Config
from rlseq.config.upgrade import upgrade
from rlseq_envs.settings import TaskSettings

UNREADABLE = (YAMLError, OmegaConfBaseException, ValueError, RecursionError)  # of the libraries that read YAML
SUFFIXES = (".yaml", ".yml")
# Keys of the task section that name files to read; each may be one path or a list of them.
DATA_KEYS = tuple(dict.fromkeys(key for settings in get_args(TaskSettings) for key in settings.file_keys()))
_DIRECTORY_KEYS = {key for settings in get_args(TaskSettings) for key in settings.directory_keys()}
DATA_OVERRIDES = tuple(f"task.{key}" for key in DATA_KEYS)


def _settings_of(kind: Any) -> type[TaskSettings] | None:
    """The settings of a type of task, if there is one."""
    return next((settings for settings in get_args(TaskSettings) if settings.type == kind), None)


@dataclass(frozen=True)
class ShippedConfig:
    """A configuration that comes with the package.

    Attributes:
        name: What ``rlseq train`` takes.
        description: The comment on top of the file, without the launch command.
        text: The file.
    """

    name: str
    description: str
    text: str

    @property
    def task(self) -> type[TaskSettings]:
        """The settings of its task."""
        found = _settings_of(yaml.safe_load(self.text)["task"]["type"])
        assert found is not None
        return found


# ------------------------------------------------------------------------------------------------- shipped configs
def shipped_directory() -> Path:
    """The YAML files: inside the package when installed, beside it in a checkout."""
    package = Path(str(resources.files("rlseq")))
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def list_configs() -> list[ShippedConfig]:
    """Every shipped configuration, by name."""
    return [_shipped(path) for path in sorted(shipped_directory().glob("*.yaml"))]


def shipped_config(name: str) -> ShippedConfig:
    """The shipped configuration of that name.

    Raises:
        ConfigError: There is none.
    """
    path = shipped_directory() / f"{name}.yaml"
    if Path(name).name != name or _problem_of_path(path):
        names = [config.name for config in list_configs()]
        raise ConfigError(name, [f"no config of this name is shipped{did_you_mean(name, names)}", _names(names)])
    return _shipped(path)


def _shipped(path: Path) -> ShippedConfig:
    text = path.read_text(encoding="utf-8")
    comments = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("#").strip())
    prose = [line for line in comments if line and not line.startswith(("rlseq ", "make "))]
    return ShippedConfig(path.stem, " ".join(prose), text)


def _names(names: Sequence[str]) -> str:
    return f"shipped are {', '.join(names)}; or give the path of a YAML file"


# --------------------------------------------------------------------------------------------------------- loading
Given = str | Path | Mapping[str, Any] | Config  # a shipped name, a YAML file, or what would stand in one


def load_config(given: Given, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration, apply ``a.b=c`` overrides and check it, data files included.

    Relative data paths are taken from the working directory and made absolute, so that a run can be resumed from
    anywhere.

    Args:
        given: A shipped name (``hull``), the path of a YAML file, or the keys themselves.
        overrides: Dotted keys and YAML values; a list replaces a list, a section is merged with one of its type.

    Raises:
        ConfigError: All that is wrong, at once.
    """
    origin = origin_of(given)
    tree = _read(_find(origin), origin) if isinstance(given, str | Path) else _tree(given, origin)
    wrong = [*_override(tree, overrides), *_missing(tree)]
    return _check(_to_plain(tree, origin), origin, wrong)


def origin_of(given: Given) -> str:
    """What messages call a configuration."""
    return str(given) if isinstance(given, str | Path) else "config"


def parse_config(data: dict[str, Any], origin: str = "config", overrides: Sequence[str] = ()) -> Config:
    """Check a resolved configuration, as a checkpoint holds it, after overriding some of it; no file is looked at.

    It may come from somebody else. So an interpolation in it, which could read this user's environment, is refused.

    Raises:
        ConfigError: All that is wrong, at once.
    """
    if found := [(key, text) for key, text in _leaves(data, "") if isinstance(text, str) and "${" in text]:
        remedy = "a run's or checkpoint's configuration must hold the value itself"
        raise ConfigError(origin, [f"{key}: {value!r} stands for another value; {remedy}" for key, value in found])
    tree = OmegaConf.create(upgrade(data))
    wrong = [*_override(tree, overrides), *_missing(tree)]
    return _validate(_to_plain(tree, origin), origin, wrong)


def data_files(overrides: Sequence[str]) -> dict[str, Any]:
    """Data files given anew, ``task.test_file=FILE``, by the task's key; a relative path is made absolute.

    Raises:
        ConfigError: Something else is given, or a file is missing; all that is wrong.
    """
    tree = OmegaConf.create({})
    foreign = [each for each in overrides if "=" in each and not names_data(each)]
    wrong = [f"{each}: only data files can be given anew: {', '.join(DATA_OVERRIDES)}" for each in foreign]
    wrong += _override(tree, [each for each in overrides if each not in foreign])
    plain = _to_plain(tree, "data")
    given = {key: _absolute(value) for key, value in plain.get("task", {}).items()}
    wrong += [
        f"task.{key}: no such file: {path}" for key, path in _data_files({"task": given}) if not Path(path).is_file()
    ]
    if wrong:
        raise ConfigError("data files", wrong)
    return given


def names_data(override: str) -> bool:
    """Whether an override gives a data file of a task."""
    return override.partition("=")[0] in DATA_OVERRIDES


def with_data(config: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration with data files, as ``data_files`` gave them, in the place of those of its task.

    Raises:
        ConfigError: A task of its type has no such files.
    """
    task = config.get("task")
    if not files or not isinstance(task, Mapping):
        return dict(config)
    kind = _settings_of(task.get("type"))
    known = kind.file_keys() if kind else []
    if wrong := [key for key in files if key not in known]:
        remedy = f"give {', '.join(f'task.{key}' for key in known)}" if known else "leave it out"
        told = [f"task.{key}: a task of type {task.get('type')} has no such file; {remedy}" for key in wrong]
        raise ConfigError("data files", told)
    return {**config, "task": {**task, **files}}


def data_files_of(config: Config) -> dict[str, Any]:
    """The data files that a configuration names, by the task's key."""
    found = {key: getattr(config.task, key) for key in config.task.file_keys()}
    return {key: value for key, value in found.items() if value}


def read_config(path: Path) -> Config:
    """Read a configuration that ``dump_config`` wrote; no data file is looked at.

    Raises:
        ConfigError: All that is wrong, at once.
    """
    return parse_config(OmegaConf.to_container(_read(path, str(path))), str(path))  # type: ignore[arg-type]


def dump_config(config: Config) -> str:
    """The configuration as YAML, every default written out; loads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json")))


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path).expanduser()
    if path.suffix in SUFFIXES or path.name != name_or_path:
        if problem := _problem_of_path(path):
            raise ConfigError(name_or_path, [problem])
        return path
    shipped_config(name_or_path)
    return shipped_directory() / f"{name_or_path}.yaml"


def _problem_of_path(path: Path) -> str | None:
    """Why there is nothing to read at a path."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "no such file"
    except (OSError, ValueError) as error:  # such as a name that is too long, or that holds a NUL
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISDIR(mode):
        return "is a directory: give a file"
    return None if os.access(path, os.R_OK) else "cannot be read: allow yourself to read it"


def _read(path: Path, origin: str) -> DictConfig:
    try:
        data = path.read_bytes()
        tree = OmegaConf.load(io.StringIO(data.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(origin, [f"line {line} is not UTF-8: save the file as UTF-8"]) from error
    except UNREADABLE as error:
        raise ConfigError(origin, [f"is not YAML: {_told(error)}"]) from error
    except OSError as error:
        no_mapping = "must be a mapping of keys to values at the top"
        raise ConfigError(origin, [f"cannot be read: {error.strerror}" if error.strerror else no_mapping]) from error
    if not isinstance(tree, DictConfig):
        raise ConfigError(origin, ["must be a mapping of keys to values at the top"])
    return _tree(OmegaConf.to_container(tree), origin)  # type: ignore[arg-type]


def _tree(given: Mapping[str, Any] | Config, origin: str) -> DictConfig:
    data = given.model_dump(mode="json") if isinstance(given, Config) else dict(given)
    try:
        return OmegaConf.create(upgrade(data))
    except UNREADABLE as error:
        raise ConfigError(origin, [_told(error)]) from error


def _told(error: Exception) -> str:
    """An error of the libraries that read YAML, in one line that begins with the key if they know it."""
    if isinstance(error, RecursionError):
        return "values are nested too deeply: no key needs more than a few levels"
    if isinstance(error, UnicodeEncodeError):
        return "it is not UTF-8"
    text, key = " ".join(str(error).split()).partition(" full_key: ")[0], getattr(error, "full_key", None)
    for quoted in ("<file>", "<unicode string>"):  # PyYAML's names for what is in memory
        text = text.replace(f'in "{quoted}", ', "at ")
    text = text.removesuffix("; use sys.set_int_max_str_digits() to increase the limit")
    return f"{key}: {text}" if key else text


def _override(tree: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Apply the overrides in place; what cannot be read as one is returned as problems."""
    wrong = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not all(key.split(".")):
            wrong.append(f"{override!r} is not an override: write a.b=c, such as mle.updates=100")
            continue
        try:
            _merge(tree, key, OmegaConf.from_dotlist([override]))
        except UNREADABLE as error:
            wrong.append(f"{key}: {_show(value)} cannot be read as YAML: {_told(error)}")
    return wrong


def _show(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:59]}…")


def _merge(tree: DictConfig, key: str, given: DictConfig) -> None:
    """Merge an override in place: a bare word becomes a section for its keys, another type replaces a section.

    So does another type alone, ``rl.baseline.type=none``: keys of the old type would be of no use.
    """
    parts = key.split(".")
    for place in (".".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
        old, new = OmegaConf.select(tree, place), OmegaConf.select(given, place)
        if isinstance(old, str) and isinstance(new, DictConfig):
            OmegaConf.update(tree, place, {"type": old})
    section = key.removesuffix(".type") if isinstance(new, str) else key
    old, new = OmegaConf.select(tree, section), OmegaConf.select(given, section)
    if isinstance(new, DictConfig) and "type" in new and isinstance(old, DictConfig) and new.type != old.get("type"):
        OmegaConf.update(tree, section, {}, merge=False)
    tree.merge_with(given)


def _missing(tree: DictConfig) -> list[str]:
    """Problems with values that are left for somebody to fill in."""
    values = _leaves(OmegaConf.to_container(tree), "")
    return [f"{key}: ??? stands for a value that is missing: give one" for key, value in values if value == "???"]


def _leaves(data: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every value that is neither a section nor a list, with its key."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list | tuple) else None
    if items is None:
        yield place, data
        return
    for key, value in items:
        yield from _leaves(value, f"{place}.{key}".removeprefix("."))


def _to_plain(tree: DictConfig, origin: str) -> dict[str, Any]:
    try:
        return OmegaConf.to_container(tree, resolve=True)  # type: ignore[return-value]
    except UNREADABLE as error:
        raise ConfigError(origin, [_told(error)]) from error


# -------------------------------------------------------------------------------------------------------- checking
def _check(data: dict[str, Any], origin: str, wrong: list[str]) -> Config:
    task = data.get("task")
    if isinstance(task, dict):
        placed = {key: _absolute(task[key]) for key in (*DATA_KEYS, *_DIRECTORY_KEYS) if key in task}
        data = {**data, "task": {**task, **placed}}
    policy = data.get("policy")
    if isinstance(policy, dict) and policy.get("type") == "pretrained" and isinstance(policy.get("path"), str):
        path = _absolute(policy["path"])
        model, faults = read_model(Path(path))
        data = {**data, "policy": {**policy, "path": path, "model": model}}
        wrong = [*wrong, *(f"policy.path: {fault}" for fault in faults)]
    problems = ((key, path, _problem_of_data(Path(path))) for key, path in _data_files(data))
    missing = [f"task.{key}: {problem}: {path}" for key, path, problem in problems if problem]
    return _validate(data, origin, [*wrong, *missing])


def _problem_of_data(path: Path) -> str | None:
    if (problem := _problem_of_path(path)) is None and (path.parts[1:2] in (("dev",), ("proc",)) or not path.is_file()):
        return "is no file that a resumed run could read again: save what it holds to a file, and give that"
    return problem


def _validate(data: dict[str, Any], origin: str, wrong: list[str]) -> Config:
    unwritable = [f"{key}: {problem}" for key, value in _leaves(data, "") if (problem := _unwritable(key, value))]
    if unwritable:
        raise ConfigError(origin, [*wrong, *unwritable])
    leaves = ((key, value) for key, value in _leaves(data, "") if isinstance(value, float))
    wrong = [*wrong, *(f"{key}: {value} is not a finite number" for key, value in leaves if not math.isfinite(value))]
    data = with_section_defaults(data, root())
    try:
        # Strict in JSON's sense: lists become tuples and 1 is a number, but "1" is a text and 1.0 is not whole.
        config = Config.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise ConfigError(origin, list(dict.fromkeys([*wrong, *explain(error, data)]))) from error
    if wrong:
        raise ConfigError(origin, wrong)
    return config


def _unwritable(key: str, value: Any) -> str | None:
    """Why JSON could not hold a value or its key."""
    if isinstance(value, bytes):
        return "is binary: give a text, a number or true or false"
    try:
        f"{key}{value if isinstance(value, str) else ''}".encode()
    except UnicodeEncodeError:
        return "is not UTF-8: give text that is"
    return None


def _absolute(value: Any) -> Any:
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    return str(Path(value).expanduser().absolute()) if isinstance(value, str) and value else value


def _data_files(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    task = data.get("task")
    if not isinstance(task, dict):
        return
    for key in DATA_KEYS:
        value = task.get(key)
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and path:
                yield key, path
