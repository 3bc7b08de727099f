"""``rlseq configs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlseq.cli.common import Debug, check_writable, examples, guarded, refuse

app = typer.Typer(help="List, show or copy the shipped configurations.", no_args_is_help=False)
EXAMPLES = ["rlseq configs", "rlseq configs show hull --resolved", "rlseq configs copy hull mine.yaml"]
Name = Annotated[str, typer.Argument(help="Of a shipped configuration.")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """List, show or copy the shipped configurations."""
    if context.invoked_subcommand is None:
        list_shipped(debug=False)


@app.command("list", epilog=examples(EXAMPLES[:1]))
@guarded
def list_shipped(debug: Debug = False) -> None:
    """List the shipped configurations."""
    from rlseq.config.load import list_configs

    found = list_configs()
    width = max(len(config.name) for config in found)
    for config in found:
        typer.echo(f"{config.name:<{width}}  {config.description}")


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


@app.command(epilog=examples(EXAMPLES[2:]))
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
