"""What is said of a training whose process was ended before it could say so itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# It reads until the training's end of the pipe closes, which the system does whatever the training died of.
SPEAKER = """
import sys, time
text, log = sys.argv[1:]
if not sys.stdin.read():
    with open(log, "a", encoding="utf-8") as file:
        file.write(time.strftime("%Y-%m-%dT%H:%M:%S+00:00 ERROR ", time.gmtime()) + text + "\\n")
    print("error: " + text, file=sys.stderr)
"""


@contextmanager
def last_words(text: str, log: Path) -> Iterator[None]:
    """Have another process say ``text`` on standard error and in ``log``, should this one be ended meanwhile.

    Ray's client ends its process on the spot, without an exception, once Ray's daemon on this machine is gone.
    """
    speaker = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SPEAKER, text, str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not meant for it
    )
    try:
        yield
    finally:
        speaker.communicate(b"it ended by itself")
