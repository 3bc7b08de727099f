"""Configurations that cannot be used are refused by key, with what would be right, whatever is wrong with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlseq.config.errors import ConfigError
from rlseq.config.explain import resolve, root
from rlseq.config.load import load_config

SUITE = "Bad configurations"
HOLDS_WHEN = "one error names the key or the line and what would be right; a run is not begun"

MINIMAL = """name: small
task: {type: convex_hull}
policy: {output: pointer}
mle: {updates: 2}
rl: {updates: 1}
"""


def refused(directory: Path, text: str | bytes, overrides: list[str] | None = None) -> list[str]:
    path = directory / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), overrides or [])
    assert caught.value.problems and str(caught.value).startswith(f"{path}:\n")
    return caught.value.problems


# ------------------------------------------------------------------------------------------- every key of the schema
def _values(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key with a value of its own, unions by their default member."""
    for key, child in node.get("properties", {}).items():
        below = resolve(child, {"type": "convex_hull"} if key == "task" else child.get("default"))
        if "properties" in below:
            yield from _values(below, f"{path}{key}.")
        elif key not in ("type", "name") and path != "policy.output.":  # of which MINIMAL has another type
            yield f"{path}{key}", below


KEYS = dict(_values(root(), ""))


def _numbers(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The numbers that a value may be, those in lists and unions among them."""
    inside = [*node.get("anyOf", []), *node.get("prefixItems", [])]
    inside += [each for each in (node.get("items"), node.get("additionalProperties")) if isinstance(each, dict)]
    own = [node] if node.get("type") in ("integer", "number") else []
    return own + [found for member in inside for found in _numbers(resolve(member, None))]


def _sections(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield from [node] if "properties" in node else []
        for child in node.values():
            yield from _sections(child)


def test_every_number_has_a_bound_on_both_sides() -> None:
    for section in _sections(root()):
        for key, child in section["properties"].items():
            for number in _numbers(resolve(child, None)):
                above = number.keys() & {"limit", "maximum", "exclusiveMaximum"}
                below = number.keys() & {"minimum", "exclusiveMinimum"} or "at least" in number.get("limit", "")
                assert above and below, f"{section['title']}.{key}"


WRONG = {"a section": "{nonsense: 1}", "a list of sections": "[{a: 1}]", "an odd text": "'@'", "a date": "2020-01-01"}
TYPES = {
    f"{key} is {name}": (key, value)
    for key, node in KEYS.items()
    for name, value in WRONG.items()
    if "section" in name or ({"type": "string"} not in (node, *node.get("anyOf", [])) and node.get("type") != "string")
}
ABSURD = {
    f"{key} is {value}": (key, value)
    for key, node in KEYS.items()
    if node.get("type") in ("integer", "number") or any(member in _numbers(node) for member in node.get("anyOf", []))
    for value in ("-1e300", "1e300", ".nan", ".inf", "-.inf", "1" * 400)
}


@pytest.mark.cases(TYPES | ABSURD, sample=24)
def test_a_value_that_cannot_be_is_refused_by_its_key(case: tuple[str, str], tmp_path: Path) -> None:
    key, value = case
    found = refused(tmp_path, MINIMAL, [f"{key}={value}"])
    assert all(line.startswith(key) and len(line) < 300 for line in found), found
    assert any(words in found[0] for words in (" is not ", "unknown key", "cannot be read as YAML")), found


@pytest.mark.cases({key: key for key in KEYS}, sample=8)
def test_a_key_with_a_letter_too_many_is_found_again_never_as_itself(case: str, tmp_path: Path) -> None:
    (found,) = refused(tmp_path, MINIMAL, [f"{case}z=1"])
    assert found.startswith(f"{case}z: unknown key; did you mean '"), found
    assert f"'{case}z'" not in found


# --------------------------------------------------------------------------------------------------------- whole files
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
FILES: dict[str, tuple[str | bytes, str]] = {
    "a key twice": (MINIMAL + "seed: 1\nseed: 2\n", "duplicate key seed"),
    "a key twice in a section": (MINIMAL.replace("updates: 2", "updates: 2, updates: 3"), "duplicate key updates"),
    "a tag that makes an object": (MINIMAL + "output: !!python/object/apply:os.system [true]\n", "line 6"),
    "a tag of somebody's": (MINIMAL + "output: !mine x\n", "line 6"),
    "a binary value": (MINIMAL + "output: !!binary aGVsbG8=\n", "output: is binary"),
    "a set": (MINIMAL + "report: {loggers: !!set {a, b}}\n", "report.loggers"),
    "UTF-16": (MINIMAL.encode("utf-16"), "line 1 is not UTF-8: save the file as UTF-8"),
    "Latin-1": ((MINIMAL + "output: é\n").encode("latin-1"), "line 6 is not UTF-8"),
    "NUL": (MINIMAL + "output: a\0b\n", "control characters are not allowed"),
    "half a character, escaped": (MINIMAL + 'output: "\\ud800"\n', "line 6"),
    "two documents": (MINIMAL + "---\nseed: 1\n", "line 6"),
    "a list": ("- 1\n", "must be a mapping of keys to values"),
    "a number": ("5\n", "must be a mapping of keys to values"),
    "a text": ("hello\n", "name: missing"),
    "a word and a colon": ("hello:\n", "hello: unknown key"),
    "null": ("null\n", "name: missing"),
    "a key that is a number": (MINIMAL + "1: 2\n", "1: unknown key"),
    "a key that is null": (MINIMAL + "null: 2\n", "NoneType"),
    "a key that is a list": (MINIMAL + "? [a, b]\n: 2\n", "line 6"),
    "a tab": (MINIMAL + "\tseed: 1\n", "line 6"),
    "a bracket left open": (MINIMAL + "output: [\n", "line 7"),
    "lists nested 2,000 deep": (MINIMAL + "output: " + "[" * 2000 + "]" * 2000, "nested too deeply"),
    "sections nested 5,000 deep": (MINIMAL + "output: " + "{a: " * 5000 + "1" + "}" * 5000, "nested too deeply"),
    "a value that holds itself": (MINIMAL + "output: &x [*x]\n", "recursive aliases"),
    "aliases that grow to 10^8 values": (BOMB + MINIMAL, "expansion exceeds"),
    "a number of 5,000 digits": (MINIMAL + f"seed: {'9' * 5000}\n", "5000 digits"),
    "a name of 100,000 letters": (MINIMAL.replace("small", "a" * 100_000), "name: "),
    "a value that stands for itself": (MINIMAL + "output: ${output}\n", "output: Recursive"),
    "a value that stands for nothing": (MINIMAL + "output: ${nowhere}\n", "output: Interpolation key 'nowhere'"),
    "a variable that is not set": (MINIMAL + "output: ${oc.env:RLSEQ_NOT_SET}\n", "RLSEQ_NOT_SET"),
    "a reference left open": (MINIMAL + "output: ${\n", "output: "),
    "a word that YAML reads as false": (MINIMAL + "output: no\n", "put it in quotes"),
    "a number that YAML reads as a fraction": (MINIMAL + "seed: 1e3\n", "write 1000"),
    "a value to fill in": (MINIMAL + "seed: ???\n", "seed: ??? stands for a value that is missing"),
    "sections that are null": ("name: a\ntask:\npolicy:\nmle:\nrl:\n", "mle: null is not a section"),
}


@pytest.mark.cases(FILES, sample=12)
def test_a_file_that_cannot_be_read_is_refused_by_line_or_key(case: tuple[str | bytes, str], tmp_path: Path) -> None:
    text, problem = case
    found = refused(tmp_path, text)
    assert any(problem in line for line in found), found
    assert all("\n" not in line and len(line) < 500 and "<file>" not in line for line in found)


OVERRIDES = {
    **{
        repr(text): (text, "is not an override")
        for text in ("", "=", "a", "a.b", "a..b=1", ".a=1", "a.=1", "=1", "a:3")
    },
    **{
        text: (text, "cannot be read as YAML")
        for text in ("rl={a", "seed=@3", "seed=%", "seed=`", "seed=*a", "seed=!x y", "seed=${nope}", "output=${")
    },
    "a number of 5,000 digits": (f"seed={'9' * 5000}", "5000 digits"),
    "nested 2,000 deep": (f"output={'[' * 2000}{']' * 2000}", "nested too deeply"),
    "a value that is not UTF-8": ("output=\udcff", "not UTF-8"),
    "a key that is not UTF-8": ("\udcff=1", "not UTF-8"),
    "an option's dashes": ("--mle.updates=3", "did you mean 'mle'?"),
    "a value with keys": ("mle.updates.x=3", "is not a whole number"),
    "a section's place": ("mle=3", "mle: 3 is not a section"),
    "nothing": ("mle.updates=", "mle.updates: null is not a whole number"),
    "two signs": ("mle.updates==3", 'mle.updates: "=3" is not'),
    "to fill in": ("output=???", "output: ??? stands for"),
    "another type's key": ("rl.baseline.shaped=true", "rl.baseline.shaped: "),
}


@pytest.mark.cases(OVERRIDES, sample=10)
def test_an_override_that_cannot_be_used_is_refused(case: tuple[str, str], tmp_path: Path) -> None:
    override, problem = case
    found = refused(tmp_path, MINIMAL, [override, "rl.samples=0"])
    assert any(problem in line for line in found), found
    assert any(line.startswith("rl.samples: 0 ") for line in found) or "UTF-8" in problem, "all mistakes at once"


# -------------------------------------------------------------------------------------------------- what has a type
@pytest.mark.parametrize("given", ["rl.baseline=none", "rl.baseline={type: none}", "rl.baseline.type=none"])
def test_a_section_of_another_type_takes_the_place_of_the_old_one(given: str, tmp_path: Path) -> None:
    text = MINIMAL.replace("rl: {updates: 1}", "rl: {updates: 1, baseline: {type: critic, shaped: true}}")
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(str(tmp_path / "config.yaml"), [given]).rl.baseline.type == "none"


# ---------------------------------------------------------------------------------------------------------- data files
def _pipe(place: Path) -> None:
    os.mkfifo(place)


PLACES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("points.txt", lambda place: None, "no such file"),
    "a directory": ("points.txt", Path.mkdir, "is a directory"),
    "a pipe": ("points.txt", _pipe, "save what it holds to a file"),
    "a device": ("/dev/zero", lambda place: None, "save what it holds to a file"),
    "standard input": ("/dev/stdin", lambda place: None, "save what it holds to a file"),
    "a name that is too long": ("a" * 5000, lambda place: None, "too long"),
    "below a file": ("points.txt/more", lambda place: place.parent.write_text(""), "no such file"),
    "a link that leads to itself": ("points.txt", lambda place: place.symlink_to(place), "cannot be read"),
}


@pytest.mark.cases(
    {f"{name}, {key}": (key, *case) for name, case in PLACES.items() for key in ("train_file", "rl_file")}, sample=6
)
def test_a_data_file_that_cannot_be_read_is_refused_by_its_key(case: Any, tmp_path: Path) -> None:
    key, name, make, problem = case
    make(tmp_path / name)
    (found,) = refused(tmp_path, MINIMAL, [f"task.{key}={tmp_path / name}"])
    assert found.startswith(f"task.{key}: ") and problem in found


def test_a_data_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "points.txt").write_text("0.5 0.5\n")
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: "points" not in str(path) and access(path, mode))
    (found,) = refused(tmp_path, MINIMAL, [f"task.train_file={tmp_path / 'points.txt'}"])
    assert "allow yourself to read it" in found


# ------------------------------------------------------------------------------------------------ the command, refusing
REFUSE = """
import sys
from rlseq.cli import main
sys.argv = ["rlseq", "train", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print(end.code, *{"torch", "ray", "numba", "scipy", "sacrebleu"} & set(sys.modules), file=sys.stderr)
"""
COMMANDS = {
    "a wrong type": ["hull", "mle.updates=x"],
    "an absurd size": ["hull", "policy.hidden_size=1000000000"],
    "a broken file": ["./broken.yaml"],
    "a directory": ["./"],
    "a name that is not UTF-8": [b"hull", b"output=\xff"],
    "a configuration's name that is too long": ["a" * 5000],
}


@pytest.mark.cases(COMMANDS, sample=3)
def test_the_command_refuses_before_anything_heavy_is_imported(case: list[Any], tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [")
    ended = subprocess.run([sys.executable, "-c", REFUSE, *case], cwd=tmp_path, capture_output=True)
    error = ended.stderr.decode("utf-8", "backslashreplace").splitlines()
    assert error[-1] == "2" and error[0].startswith("error: ") and "Traceback" not in "".join(error), error
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yaml"], "nothing was made"
