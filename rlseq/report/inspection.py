"""What ``rlseq inspect`` prints, from the form of its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_USES = {"decode": "to decode", "score": "to score", "train": "to train"}


def inspection_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing that is known; characters that a terminal would obey are escaped."""
    for label, value in _rows(found):
        if value not in (None, "", {}, []):
            yield f"{label:<12} {_printable(str(value))}"


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "checkpoint", found["checkpoint"]
    yield "format", found["format"]
    if found["phase"] is not None:
        yield "phase", f"{found['phase']}, update {found['update']} ({found['phase_update']} of the phase)"
    selected = found["selected"]
    if selected["best"] is not None:
        what = f" in {selected['metric']}" if selected["metric"] else ""
        yield (
            "selected",
            f"{'the best when written' if selected['best'] else 'not the best when written'}; "
            f"best until then{what}: {selected['best_value']} at update {selected['best_update']}",
        )
    yield "task", _pairs(found["task"])
    yield "network", _pairs(found["network"])
    signature = found["signature"]
    yield "signature", signature["recorded"]
    for line in (signature["differences"] or "").splitlines():
        yield "  differs", line.strip()
    yield "files", _pairs({name: f"{size:,} bytes" for name, size in found["files"].items()})
    made_with = found["made_with"]
    yield "versions", _pairs(made_with["versions"])
    for key in ("commit", "command", "time", "forked_from"):
        yield key.replace("_", " "), made_with[key]
    for code in found["code"]:
        where = code["file"] or ("found nowhere now" if code["key"] != "compute.address" else "a Ray cluster")
        asks = "one of your trainings named it" if code["trusted"] else "asks for --trust"
        yield "code", f"{code['key']}: {code['path']}, {_USES[code['use']]}; {where}; {asks}"
    if not found["code"]:
        yield "code", "it names none"
    resumes = "it can be resumed" if found["resume_error"] is None else "it cannot be resumed"
    yield "sound", "no" if found["error"] else f"yes, it can be decoded with; {resumes}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value not in (None, [], {}))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
