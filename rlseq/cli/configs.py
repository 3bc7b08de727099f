"""``rlseq configs``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlseq.api.checks import refuse
from rlseq.cli.common import Debug, check_writable, examples, guarded

if TYPE_CHECKING:
    from rlseq.config.reference import Key

app = typer.Typer(help="List, show or copy the shipped configurations, or explain their keys.", no_args_is_help=False)
EXAMPLES = [
    "rlseq configs",
    "rlseq configs show hull --resolved",
    "rlseq configs copy hull mine.yaml",
    "rlseq configs explain rl.baseline",
]
Name = Annotated[str, typer.Argument(help="Of a shipped configuration.")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """List, show or copy the shipped configurations, or explain their keys."""
    if context.invoked_subcommand is None:
        list_shipped(debug=False)


@app.command("list", epilog=examples(EXAMPLES[:1]))
@guarded
def list_shipped(debug: Debug = False) -> None:
    """List the shipped configurations by task."""
    from rlseq.config.load import list_configs

    found = list_configs()
    width = max(len(config.name) for config in found)
    by_task = sorted(((config.task, config) for config in found), key=lambda pair: pair[0].type)
    for task, configs in groupby(by_task, key=lambda pair: pair[0]):
        typer.echo(f"{task.type}: {task.__doc__}")
        for _, config in configs:
            typer.echo(f"  {config.name:<{width}}  {config.description}")


@app.command(epilog=examples(EXAMPLES[1:2]))
@guarded
def show(
    name: Name,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="a.b=c", help="Keys to change.")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default written out.")] = False,
    debug: Debug = False,
) -> None:
    """Print a configuration: as it is shipped, or with overrides and every default."""
    from rlseq.config.load import dump_config, load_config, shipped_config

    if resolved or overrides:
        typer.echo(dump_config(load_config(name, overrides or [])), nl=False)
    else:
        typer.echo(shipped_config(name).text, nl=False)


@app.command(epilog=examples(EXAMPLES[2:3]))
@guarded
def copy(
    name: Name,
    destination: Annotated[
        Path | None, typer.Argument(metavar="DEST", help="File or directory; default: NAME.yaml here.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Copy a configuration, to change it and train with it."""
    from rlseq.config.load import shipped_config

    text = shipped_config(name).text
    target = destination or Path()
    target = target / f"{name}.yaml" if target.is_dir() else target
    exists = [f"{target} exists and is not overwritten: give another name"] if target.exists() else []
    refuse(exists or check_writable(target))
    target.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {target}; train with: rlseq train {target if target.parent != Path() else f'./{target}'}")


@app.command(epilog=examples(EXAMPLES[3:]))
@guarded
def explain(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="A key or a section; default: the sections there are.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Print what a key means: type, default and meaning; of a section, those of all its keys."""
    from rlseq.config.reference import find, sections

    if key is None:
        typer.echo("\n".join(line for top in sections()[0].keys for line in _lines(top, "")))
        return
    keys, below = find(key)
    for section, found in keys:
        typer.echo("\n".join(_lines(found, section.condition)))
    for section in below:
        condition = f", if {section.condition}" if section.condition else ""
        typer.echo("\n" + _wrapped(f"{section.path}{condition}: {section.meaning}", ""))
        for found in section.keys:
            typer.echo("\n".join(_lines(found, "")))


def _lines(key: Key, condition: str) -> Iterator[str]:
    yield key.path + (f", if {condition}" if condition else "")
    yield _wrapped(f"{key.type}; {'must be given' if key.default is None else f'default: {key.default}'}")
    if key.meaning:
        yield _wrapped(key.meaning)


def _wrapped(text: str, indent: str = "    ") -> str:
    return textwrap.fill(text, 110, initial_indent=indent, subsequent_indent="    ", break_on_hyphens=False)
