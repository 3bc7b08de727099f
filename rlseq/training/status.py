"""How a run stands, for whoever looks at it from outside: report/status.json."""

from __future__ import annotations

import json
import os
import platform
import shlex
from datetime import datetime
from pathlib import Path
from typing import Literal

from rlseq.config.phases import Phase
from rlseq.training.files import write_text
from rlseq.training.remote import uri_of

State = Literal["training", "finished", "interrupted", "failed"]


def go_on_command(run: Path) -> str:
    """What goes on with a run."""
    return f"rlseq train --resume {shlex.quote(uri_of(run) or str(run))}"


def write_status(
    run: Path, state: State, phase: Phase, saved: int | None, reason: str = "", go_on: str | None = None
) -> None:
    """Say how a run stands.

    Args:
        run: Its directory.
        state: Of the training.
        phase: The one in progress, or the last.
        saved: The last update that a checkpoint holds; None before the first.
        reason: Why it ended.
        go_on: The command that goes on with it; None: there is nothing to go on from, or to do.
    """
    status = {
        "state": state,
        "reason": reason,
        "phase": phase,
        "saved_update": saved,
        "go_on": go_on,
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": platform.node(),
        "pid": os.getpid(),
    }
    (run / "report").mkdir(exist_ok=True)
    write_text(run / "report" / "status.json", json.dumps(status, indent=1) + "\n")
