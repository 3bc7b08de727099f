"""``rlseq generate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlseq.cli.common import Debug, Device, blaming_input, check_device, check_writable, guarded, refuse
from rlseq.cli.evaluate import Beam, LengthPenalty, beam_problems, greedy_or_beam
from rlseq.config.errors import UserError

if TYPE_CHECKING:
    from rlseq.evaluation.decoding import Output


EXAMPLES = [
    "echo '3:45 PM' | rlseq generate runs/translation-20260101-120000",
    "rlseq generate runs/mine --input sources.txt --beam 5 --n-best 3 --scores",
]


@guarded
def generate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run for its best one.")],
    input: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="FILE", help="Sources, one a line; default: standard input.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Results; default: standard output.")
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="The most likely token each time (the default).")] = False,
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    sample: Annotated[bool, typer.Option("--sample", help="Draw instead.")] = False,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="Of --sample; default: 1.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of --sample; default: 0.")] = None,
    n_best: Annotated[int, typer.Option(min=1, metavar="N", help="Results a source, from a beam or samples.")] = 1,
    scores: Annotated[bool, typer.Option("--scores", help="Put each result's log-probability before it.")] = False,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Read sources, one a line, and write a result for each.

    Columns are separated by tabs: the source's number from 1 (with --n-best above 1), the log-probability (with
    --scores), the result. A beam's results are ranked by log-probability divided by length.
    """
    wrong = _problems(greedy, beam, length_penalty, sample, temperature, seed, n_best)
    if input is not None and not input.is_file():
        wrong.append(f"--input {input}: no such file")
    refuse(wrong + check_writable(output) + check_device(device))

    from rlseq.evaluation.decoding import DecodingOptions, generate_outputs
    from rlseq.evaluation.loading import load_policy

    with blaming_input():
        loaded = load_policy(checkpoint, device)
        lines = _read(input)
        if lines:
            loaded.task.parse_sources(lines)
    options = greedy_or_beam(beam, length_penalty)
    if sample:
        options = DecodingOptions("sample", temperature=1.0 if temperature is None else temperature, seed=seed or 0)
    rows = generate_outputs(loaded, lines, options, n_best) if lines else []
    text = "".join(f"{line}\n" for line in _format(rows, numbered=n_best > 1, scores=scores))
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


def _problems(
    greedy: bool,
    beam: int | None,
    length_penalty: float | None,
    sample: bool,
    temperature: float | None,
    seed: int | None,
    n_best: int,
) -> list[str]:
    """Options that do not go together, all of them."""
    wrong = []
    if greedy + sample + (beam is not None) > 1:
        wrong.append("--greedy, --beam and --sample exclude each other: give one")
    wrong += beam_problems(beam, length_penalty)
    wrong += [
        f"{name} is for sampling: give --sample too"
        for name, value in (("--temperature", temperature), ("--seed", seed))
        if value is not None and not sample
    ]
    if temperature is not None and temperature <= 0:
        wrong.append(f"--temperature {temperature:g}: give a number above 0")
    if n_best > 1 and not sample and n_best > (beam or 1):
        wrong.append(f"--n-best {n_best}: there are only {beam or 1}; give --beam {n_best} or --sample")
    return wrong


def _read(path: Path | None) -> list[str]:
    """The lines of a file or of standard input; only a line feed ends one."""
    if path is None and sys.stdin.isatty():
        print("sources, one a line; Ctrl-D ends them", file=sys.stderr)
    data = sys.stdin.buffer.read() if path is None else path.read_bytes()
    lines = data.split(b"\n")
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
