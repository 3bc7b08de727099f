"""The command line: one file a command, heavy imports only once a command runs."""

from __future__ import annotations

import typer

from rlseq.cli import compare, configs, evaluate, generate, train
from rlseq.cli.common import examples

app = typer.Typer(
    name="rlseq",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(["rlseq train hull"]),
)
for module in (train, evaluate, compare, generate):
    name = module.__name__.rsplit(".", 1)[-1]
    app.command(name, epilog=examples(module.EXAMPLES))(getattr(module, name))
app.add_typer(configs.app, name="configs", epilog=examples(configs.EXAMPLES))


@app.callback()
def describe() -> None:
    """Train sequence generators on the metric they are judged by.

    Cross-entropy first, then self-critical reinforcement learning; both checkpoints are compared in the end.
    """


def main() -> None:
    """Run the command line."""
    app(prog_name="rlseq")
