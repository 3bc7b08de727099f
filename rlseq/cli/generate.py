"""``rlseq generate``."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlseq.api.checks import check_checkpoint, check_device, refuse
from rlseq.api.decoding import Decoding, decoding_problems
from rlseq.api.policy import load, n_best_problems
from rlseq.cli.common import Debug, Device, Trusted, check_writable, guarded, option, write_text
from rlseq.cli.decoding import with_decoding
from rlseq.config.errors import UserError

if TYPE_CHECKING:
    from rlseq.evaluation.decoding import Output


EXAMPLES = [
    "echo '3:45 PM' | rlseq generate runs/translation-20260101-120000",
    "rlseq generate runs/mine --input sources.txt --beam 5 --n-best 3 --scores",
    "rlseq generate runs/mine --input sources.txt --sample --top-p 0.9 --n-best 5",
]


@guarded
@with_decoding
def generate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run for its best one.")],
    input: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="FILE", help="Sources, one a line; default: standard input.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Results; default: standard output.")
    ] = None,
    *,
    decoding: Decoding,
    n_best: Annotated[int, typer.Option(min=1, metavar="N", help="Results a source, from a search or samples.")] = 1,
    scores: Annotated[bool, typer.Option("--scores", help="Put each result's log-probability before it.")] = False,
    device: Device = "auto",
    trust: Trusted = False,
    debug: Debug = False,
) -> None:
    """Read sources, one a line, and write a result for each.

    Columns are separated by tabs: the source's number from 1 (with --n-best above 1), the log-probability (with
    --scores), the result. A search's results are ranked by log-probability divided by length, unless options say
    otherwise.
    """
    wrong = check_checkpoint(checkpoint) + decoding_problems(decoding, option)
    wrong += n_best_problems(n_best, decoding, option)
    input = None if str(input) == "-" else input
    if input is not None and (input.is_dir() or not input.exists()):
        wrong.append(f"--input {input}: {'is a directory: give a file' if input.is_dir() else 'no such file'}")
    refuse(wrong + check_writable(output) + check_device(device, "--device"))

    rows = load(checkpoint, device=device, trust=trust).generate(_read(input), n_best=n_best, **decoding)
    text = "".join(f"{line}\n" for line in _format(rows, numbered=n_best > 1, scores=scores))
    write_text(output or Path("-"), text)


def _read(path: Path | None) -> list[str]:
    """The lines of a file or of standard input, without a byte-order mark; only a line feed ends one."""
    if path is None and sys.stdin.isatty():
        print("sources, one a line; Ctrl-D ends them", file=sys.stderr)
    data = sys.stdin.buffer.read() if path is None else path.read_bytes()
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [_decode(line, number, path) for number, line in enumerate(lines, 1)]


def _decode(line: bytes, number: int, path: Path | None) -> str:
    try:
        return line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path or 'standard input'}, line {number}: not UTF-8") from error


def _format(rows: list[list[Output]], *, numbered: bool, scores: bool) -> Iterator[str]:
    for number, outputs in enumerate(rows, 1):
        for output in outputs:
            columns = [str(number)] if numbered else []
            columns += [f"{output.score:.4f}"] if scores else []
            yield "\t".join([*columns, output.text])
