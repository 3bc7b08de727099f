"""A training that fails or is killed is begun again where it was saved; one that is stopped or refused is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rlseq.training import attempts

POPEN = subprocess.Popen
# In place of `rlseq train`: notes what it was called with, saves where it is told to, and ends as the first key says.
TRAINING = """
import pathlib, signal, sys, time
place = pathlib.Path({place!r})
calls = place / "calls"
with calls.open("a") as file:
    print(*sys.argv[1:], file=file)
number = len(calls.read_text().splitlines())
run = place / "run"
saved = run / "checkpoints/mle/10"
def save(): saved.mkdir(parents=True, exist_ok=True); (saved / "manifest.json").touch()
run.mkdir(exist_ok=True)
exec({behaviour!r})
"""


def attempt(place: Path, behaviour: str, retries: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """The exit code, and what each attempt was called with."""
    script = place / "training.py"
    script.write_text(TRAINING.format(place=str(place), behaviour=behaviour))
    command = [sys.executable, str(script)]
    monkeypatch.setattr(subprocess, "Popen", lambda theirs, **more: POPEN([*command, *theirs[4:]], **more))
    before = signal.getsignal(signal.SIGTERM)
    try:
        code = attempts.attempt(["hull", "mle.updates=3", "compute.runners=1"], place / "run", retries)
    finally:
        signal.signal(signal.SIGTERM, before)
    return code, [line.replace(str(place), "") for line in (place / "calls").read_text().splitlines()]


ANEW, RESUMED = "hull mle.updates=3 compute.runners=1 --run /run", "--resume /run compute.runners=1"


@pytest.mark.parametrize(
    ("behaviour", "retries", "code", "calls"),
    [
        ("sys.exit(0)", 3, 0, [ANEW]),
        ("sys.exit(2)", 3, 2, [ANEW]),
        ("sys.exit(130)", 3, 130, [ANEW]),
        ("save(); sys.exit(0 if number == 3 else 1)", 3, 0, [ANEW, RESUMED, RESUMED]),
        ("sys.exit(1)", 1, 1, [ANEW, ANEW]),
        ("save(); signal.raise_signal(9)", 1, 137, [ANEW, RESUMED]),
    ],
)
def test_what_is_tried_again(
    behaviour: str, retries: int, code: int, calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attempt(tmp_path, behaviour, retries, monkeypatch) == (code, calls)


def test_a_run_with_a_checkpoint_is_resumed_and_one_of_somebody_else_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "theirs").touch()
    assert attempt(tmp_path, "sys.exit(2)", 1, monkeypatch) == (2, [ANEW])
    assert (tmp_path / "run" / "theirs").exists()
    (tmp_path / "calls").unlink()
    assert attempt(tmp_path, "save(); sys.exit(1)", 0, monkeypatch) == (1, [ANEW])
    (tmp_path / "calls").unlink()
    assert attempt(tmp_path, "sys.exit(0)", 0, monkeypatch) == (0, [RESUMED])


@pytest.mark.parametrize(("inside", "signals"), [(False, 1), (True, 0)])
def test_a_stop_is_passed_on_once(inside: bool, signals: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray signals every process of a job; twice would have the training end without saving."""
    monkeypatch.delenv(attempts.RAY_JOB, raising=False)
    if inside:
        monkeypatch.setenv(attempts.RAY_JOB, "{}")
    behaviour = (
        "got = []; signal.signal(15, lambda *_: got.append(1)); (place / 'ready').touch(); time.sleep(2); "
        "(place / 'got').write_text(str(len(got))); sys.exit(1)"
    )

    def stop() -> None:
        while not (tmp_path / "ready").exists():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    assert attempt(tmp_path, behaviour, 3, monkeypatch) == (1, [ANEW])
    thread.join()
    assert (tmp_path / "got").read_text() == str(signals)
