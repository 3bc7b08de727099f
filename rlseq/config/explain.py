"""Pydantic's errors in the user's words: the key's path, what is wrong, what would be right, what was meant.

Names and types are read from the JSON schema of ``Config``, so nothing here repeats the schema.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rlseq.config.errors import closest, did_you_mean
from rlseq.config.schema import Config
from rlseq.config.upgrade import MOVED

Node = dict[str, Any]  # a node of the JSON schema
TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "null": "null",
}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


# ---------------------------------------------------------------------------------------- walking the JSON schema
@cache
def root() -> Node:
    """The JSON schema of ``Config``."""
    return Config.model_json_schema()


def resolve(node: Node, data: Any) -> Node:
    """Follow references, and the discriminator of a union where ``data`` says which member is meant."""
    while True:
        if "$ref" in node:
            node = root()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        elif "discriminator" in node:
            mapping = node["discriminator"]["mapping"]
            kind = data.get("type", node.get("default_type")) if isinstance(data, dict) else None
            if not isinstance(kind, str) or kind not in mapping:
                return node
            node = {"$ref": mapping[kind]}
        else:
            return node


def with_section_defaults(data: Any, node: Node) -> Any:
    """Fill sections that are given in part from the default of their place, unless that is of another type.

    ``rl.optimizer: {clip_norm: 0.5}`` keeps the learning rate that ``rl`` gives its optimiser, which is not the one a
    bare optimiser section would have. A section whose ``type`` may be left out gets the type that is meant then.
    """
    union, node = node, resolve(node, data)
    if not isinstance(data, dict) or "properties" not in node:
        return data
    filled = {"type": union["default_type"]} | data if "default_type" in union else dict(data)
    for key, child in node["properties"].items():
        if key in data and isinstance(data[key], dict):
            default = child.get("default")
            kind = default.get("type") if isinstance(default, dict) else None
            given = data[key] if kind is None else {"type": kind} | data[key]
            fills = "properties" in resolve(child, given) and given.get("type") == kind
            filled[key] = with_section_defaults(_merge(default, given) if fills else given, child)
    return filled


def _merge(default: Any, given: Any) -> Any:
    if not isinstance(default, dict) or not isinstance(given, dict):
        return given
    return {**default, **{key: _merge(default.get(key), value) for key, value in given.items()}}


@cache
def every_path() -> tuple[str, ...]:
    """Every dotted key there is, the members of unions taken together."""
    return tuple(dict.fromkeys(_paths(root(), "")))


def _paths(node: Node, prefix: str) -> Iterator[str]:
    members = node["discriminator"]["mapping"].values() if "discriminator" in node else []
    for reference in members:
        yield from _paths(resolve({"$ref": reference}, None), prefix)
    for key, child in node.get("properties", {}).items():
        yield prefix + key
        yield from _paths(resolve(child, None), f"{prefix}{key}.")


# ------------------------------------------------------------------------------------------- describing what is right
def describe(node: Node, limits: bool = False) -> str:
    """What a value there has to be, in words; ``limits``: and how large at most, if only a slip is larger."""
    node = resolve(node, None)
    if "anyOf" in node:
        return " or ".join(describe(member, limits) for member in node["anyOf"])
    if "discriminator" in node:
        return f"a section whose type is {_choices(node['discriminator']['mapping'])}"
    if "const" in node or "enum" in node:
        return _choices(node.get("enum", [node.get("const")]))
    if node.get("type") == "array":
        return _describe_array(node, limits)
    if node.get("type") == "object":
        return "a section of keys and values"
    bounds = [f"{words} {node[bound]:g}" for bound, words in BOUNDS.items() if bound in node]
    bounds += [node["limit"]] if limits and "limit" in node else []
    pattern = [f"matching {node['pattern']}"] if "pattern" in node else []
    return " ".join([TYPES.get(node.get("type", ""), "a value"), " and ".join(bounds + pattern)]).strip()


def _describe_array(node: Node, limits: bool) -> str:
    if "prefixItems" not in node:
        return f"a list, each {describe(node['items'], limits)}"
    parts = dict.fromkeys(describe(item, limits) for item in node["prefixItems"])
    return f"a list of {len(node['prefixItems'])}, each {' / '.join(parts)}"


def _choices(values: Any) -> str:
    names = [str(value) for value in values]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


# ------------------------------------------------------------------------------------------------ explaining errors
@dataclass(frozen=True)
class Place:
    """Where an error is.

    Attributes:
        path: Keys and indices within the data.
        node: The JSON schema of the value there; empty if the key is unknown.
        siblings: The keys that may stand beside it.
    """

    path: tuple[int | str, ...]
    node: Node
    siblings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``rl.optimizer.betas[1]``."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return "".join(parts).removeprefix(".")


def explain(error: ValidationError, data: Any) -> list[str]:
    """A line for each problem, in the order of the schema; the branches of a union count as one."""
    lines: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        place = _locate(detail["loc"], data)
        lines.setdefault(str(place), _lines(detail, place))
    return [line for found in lines.values() for line in found]


def _locate(loc: tuple[int | str, ...], data: Any) -> Place:
    """The place of pydantic's ``loc``, which also names the members of unions that were tried: those are left out."""
    place = Place((), root())
    for part in loc:
        node = resolve(place.node, data)
        if isinstance(data, dict) and isinstance(part, str):
            if part == data.get("type") and part not in data:
                continue
            place, data = _child(place, node, part), data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            place = Place((*place.path, part), _item(node, part))
            data = data[part] if part < len(data) else None
    return place


def _child(place: Place, node: Node, key: str) -> Place:
    properties = node.get("properties", {})
    child = properties.get(key, node.get("additionalProperties"))
    siblings = list(properties) or node.get("propertyNames", {}).get("enum", [])
    return Place((*place.path, key), child if isinstance(child, dict) else {}, tuple(siblings))


def _item(node: Node, index: int) -> Node:
    arrays = [member for member in node.get("anyOf", [node]) if member.get("type") == "array"]
    items = arrays[0] if arrays else {}
    return items["prefixItems"][index] if index < len(items.get("prefixItems", [])) else items.get("items") or {}


def _lines(detail: ErrorDetails, place: Place) -> list[str]:
    """A rule of ours may tell of several problems, a line each."""
    if detail["type"] == "value_error" and detail["loc"][-1:] != ("[key]",):
        problems = detail["msg"].removeprefix("Value error, ").split("\n")
        return [f"{place}: {problem}" if place.path else problem for problem in problems]
    return [_line(detail, place)]


def _line(detail: ErrorDetails, place: Place) -> str:
    kind, value = detail["type"], detail["input"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument") or detail["loc"][-1:] == ("[key]",):
        return _unknown(place)
    if kind == "missing":
        return f"{place}: missing; give {describe(place.node)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _bad_tag(place, value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{place}: {value} is not a finite number"
    meant = did_you_mean(value, place.node.get("enum", [])) if isinstance(value, str) else _meant(value, kind)
    below = kind == "greater_than_equal" and detail["ctx"]["ge"] < 0  # a negative bound is a limit
    return f"{place}: {_show(value)} is not {describe(place.node, kind == 'less_than_equal' or below)}{meant}"


def _meant(value: Any, kind: str) -> str:
    """How to write what YAML read as something else."""
    if kind == "string_type" and isinstance(value, bool | int | float):
        word = {True: "on", False: "no"}[value] if isinstance(value, bool) else value
        return f"; if a text is meant, put it in quotes, which a shell must leave: '\"{word}\"'"
    if kind == "int_type" and isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"; write {int(value)}"
    return ""


def _unknown(place: Place) -> str:
    name = str(place.path[-1])
    if str(place) in MOVED:
        return f"{place}: moved; write {MOVED[str(place)]}"
    meant = closest(name, place.siblings) or _elsewhere(str(place), name)
    if meant == str(place):
        return f"{place}: a key of another type; the keys here are {', '.join(place.siblings)}"
    if meant:
        return f"{place}: unknown key; did you mean {meant!r}?"
    return f"{place}: unknown key; the keys here are {', '.join(place.siblings)}"


def unknown_key(path: str) -> str:
    """What to say about a dotted path that no key has."""
    known, parts = every_path(), path.split(".")
    depth = next(depth for depth in range(len(parts), -1, -1) if not depth or ".".join(parts[:depth]) in known)
    parent = "".join(f"{part}." for part in parts[:depth])
    siblings = dict.fromkeys(name.removeprefix(parent).split(".")[0] for name in known if name.startswith(parent))
    if not siblings:
        return f"{path}: unknown key; {parent.removesuffix('.')} is a value and has no keys"
    return _unknown(Place((*parts[: depth + 1],), {}, tuple(siblings)))


def _elsewhere(path: str, name: str) -> str | None:
    """The full path of a key of this name, or of one much like it, in another section."""
    names = {known.rsplit(".", 1)[-1] for known in every_path()}
    like = closest(name, names, likeness=0.8)
    same = [known for known in every_path() if known.rsplit(".", 1)[-1] == like]
    return closest(path, same, likeness=0.0)


def _bad_tag(place: Place, value: Any) -> str:
    tags = list(place.node["discriminator"]["mapping"])
    if not isinstance(value, dict) or "type" not in value:
        return f"{place}.type: missing; give {_choices(tags)}"
    kind = value["type"]
    if moved := MOVED.get(f"{place}.type={kind}"):
        return f"{place}.type={kind}: moved; write {moved}"
    return f"{place}.type: {_show(kind)} is not {_choices(tags)}{did_you_mean(str(kind), tags)}"


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"
