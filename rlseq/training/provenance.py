"""What a run was made with: versions, source, machine, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "rlseq",
    "torch",
    "ray",
    "gymnasium",
    "numpy",
    "numba",
    "sacrebleu",
    "sentencepiece",
    "safetensors",
    "pydantic",
)


@cache
def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # rewards do without numba
        return "not installed"


def environment() -> dict[str, Any]:
    """Versions, the source's commit, the host and the command, as JSON values."""
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "directory": os.getcwd(),
        "versions": versions(),
        "commit": commit(),
        "host": {
            "name": platform.node(),
            "system": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "gpus": _gpus(),
        },
    }


def commit() -> str | None:
    """The commit this package runs from, ``+`` behind it where files differ; None outside a checkout."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    identity = _git(source, "rev-parse", "HEAD")
    return identity and identity + ("+" if _git(source, "status", "--porcelain", "--untracked-files=no") else "")


def _git(source: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(source), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
