"""Every key of the configuration: its type, its default and what it means, read from where each is written.

Types and defaults come from the JSON schema of ``Config``, meanings from the comments beside the keys: one above a key
and one behind it both belong to it. Nothing here repeats the schema.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from rlseq.config.errors import UserError
from rlseq.config.explain import Node, describe, every_path, resolve, root, unknown_key
from rlseq.config.schema import Config


@dataclass(frozen=True)
class Key:
    """One key of a section.

    Attributes:
        path: Its dotted path.
        type: What a value has to be, in words.
        default: Its value if it is left out, as YAML, ``{}`` for a section; None: it has to be given.
        meaning: The comments beside it; empty if there are none.
    """

    path: str
    type: str
    default: str | None
    meaning: str


@dataclass(frozen=True)
class KeySection:
    """A section, or one member of a union of sections.

    Attributes:
        path: Its dotted path; empty for the whole configuration.
        kind: The ``type`` that chooses it in its union; None if it is in none.
        meaning: What its class says about it.
        keys: Its keys in the order of the schema, without ``type``.
    """

    path: str
    kind: str | None
    meaning: str
    keys: tuple[Key, ...]

    @property
    def condition(self) -> str:
        """What has to be set for the keys to be there: ``rl.baseline.type is critic``; empty if nothing."""
        return "" if self.kind is None else f"{self.path}.type is {self.kind}"


# --------------------------------------------------------------------------------------------- walking the JSON schema
@cache
def sections() -> tuple[KeySection, ...]:
    """Every section there is, each before the sections in it."""
    return tuple(_sections(root(), "", {}))


def find(path: str) -> tuple[list[tuple[KeySection, Key]], list[KeySection]]:
    """What there is at a path.

    Args:
        path: A dotted key; one that ends in ``.type`` is that of the union.

    Returns:
        The keys of that path, each with its section: members of a union may have keys of one name. And the sections
        that are there, each before the sections in it.

    Raises:
        UserError: There is no such key.
    """
    if path not in every_path():
        raise UserError(unknown_key(path))
    place = path if any(key.path == path for section in sections() for key in section.keys) else path[: -len(".type")]
    keys = [(section, key) for section in sections() for key in section.keys if key.path == place]
    return keys, [s for s in sections() if s.path == place or s.path.startswith(f"{place}.")]


def _sections(node: Node, path: str, default: dict[str, Any]) -> Iterator[KeySection]:
    """The section of a node, or each member of its union, with those below; ``default`` has the values of its place."""
    for kind, member in _members(node):
        made_by = _classes()[member["title"]]
        values = default if kind is None or default.get("type") == kind else {}
        prefix, said = f"{path}.".removeprefix("."), meanings(made_by)
        children = [(key, child) for key, child in member["properties"].items() if kind is None or key != "type"]
        found = {key: _default(key, child, member, made_by, values) for key, child in children}
        keys = (
            Key(prefix + key, describe(child, limits=True), _shown(found[key], child), said.get(key, ""))
            for key, child in children
        )
        yield KeySection(path, kind, _summary(made_by), tuple(keys))
        for key, child in children:
            given = found[key]
            yield from _sections(child, prefix + key, given if isinstance(given, dict) else {})


def _members(node: Node) -> Iterator[tuple[str | None, Node]]:
    node = resolve(node, None)
    if "discriminator" in node:
        for kind, reference in node["discriminator"]["mapping"].items():
            yield kind, resolve({"$ref": reference}, None)
    elif "properties" in node:
        yield None, node


_REQUIRED = object()


def _default(key: str, child: Node, section: Node, made_by: type[Any], values: dict[str, Any]) -> Any:
    """The default at this place: that of the section around it, if it has one; ``_REQUIRED`` if there is none."""
    if key in values:
        return values[key]
    if "default" in child:
        return child["default"]
    if key in section.get("required", []):
        return _REQUIRED
    made = next(field for field in dataclasses.fields(made_by) if field.name == key).default_factory
    assert made is not dataclasses.MISSING
    return made()


def _shown(value: Any, node: Node) -> str | None:
    if value is _REQUIRED:
        return None
    if isinstance(value, dict) and "discriminator" in resolve(node, None):
        defaults = {key: child.get("default") for key, child in resolve(node, value)["properties"].items()}
        if value.items() <= defaults.items():
            return str(value["type"])
    if "properties" in resolve(node, None):
        return "{}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@cache
def _classes() -> dict[str, type[Any]]:
    """The class of each section, by its name, which is its title in the JSON schema."""
    found: dict[str, type[Any]] = {}
    waiting: list[Any] = [Config]
    while waiting:
        hint = waiting.pop()
        waiting += get_args(hint)
        if not isinstance(hint, type) or hint.__name__ in found:
            continue
        if issubclass(hint, BaseModel) or dataclasses.is_dataclass(hint):
            found[hint.__name__] = hint
            waiting += get_type_hints(hint, include_extras=True).values()
    return found


# --------------------------------------------------------------------------------------------- reading what classes say
def _summary(made_by: type[Any]) -> str:
    """The docstring of a section, without what it says about attributes."""
    return " ".join((inspect.getdoc(made_by) or "").split("\nAttributes:")[0].split())


def meanings(made_by: type[Any]) -> dict[str, str]:
    """The meaning of each key; a class that repeats a key to change its default need not repeat what it means."""
    found: dict[str, str] = {}
    for parent in reversed(made_by.__mro__):
        if parent not in BaseModel.__mro__:
            found |= _comments(parent)
    return found


@cache
def _comments(made_by: type[Any]) -> dict[str, str]:
    """The comments beside the keys that a class writes itself: those above, then those behind."""
    source = textwrap.dedent(inspect.getsource(made_by))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    found = {}
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        first, last = node.lineno, node.end_lineno or node.lineno
        while first - 1 in comments and not comments[first - 1].line[: comments[first - 1].start[1]].strip():
            first -= 1
        above = " ".join(_words(comments[line]) for line in range(first, node.lineno))
        behind = " ".join(_words(comments[line]) for line in range(node.lineno, last + 1) if line in comments)
        if text := _joined(above, behind):
            found[node.target.id.removesuffix("_")] = text  # a word of Python's, such as class, has it in its class
    return found


def _words(token: tokenize.TokenInfo) -> str:
    return token.string.lstrip("#").strip()


def _joined(above: str, behind: str) -> str:
    if not above or not behind:
        return above or behind
    return f"{above} {behind}" if above.endswith(".") else f"{above}; {behind}"
