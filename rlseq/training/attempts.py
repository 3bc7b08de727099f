"""A training that is begun again where it was saved, should its process be killed or fail: what a submitted job runs.

python -m rlseq.training.attempts RETRIES RUN CONFIG [a.b=c …]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from rlseq.config.errors import UserError
from rlseq.training.remote import discard, exists, fetched

# Exit codes of `rlseq train` after which nothing is tried again: done, the input is wrong, stopped.
FINAL = (0, 2, 130)
RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set inside a job of Ray's


def attempt(arguments: list[str], run: Path, retries: int) -> int:
    """Train in ``run``, and resume it up to ``retries`` times.

    Args:
        arguments: A configuration and keys to change.
        run: The run directory, or its URI; one with a checkpoint is resumed by the first attempt, too.
        retries: How often a training that was killed or failed is begun again.

    Returns:
        The last exit code of ``rlseq train``.

    Raises:
        UserError: It is a URI that cannot be read.
    """
    stopping: list[int] = []
    began_here = not exists(run)

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.append(number)
        if RAY_JOB not in os.environ:  # Ray signals every process of a job by itself, and twice would be "at once"
            process.terminate()

    for left in range(retries, -1, -1):
        if exists(run) and any(fetched(run).glob("checkpoints/*/*/manifest.json")):
            what = ["--resume", str(run), *(key for key in arguments[1:] if key.startswith("compute."))]
        else:
            if began_here:  # by an attempt that saved nothing
                discard(run)
            what = [*arguments, "--run", str(run)]
        process = subprocess.Popen([sys.executable, "-m", "rlseq", "train", *what])
        signal.signal(signal.SIGTERM, stop)
        code = process.wait()
        if code in FINAL or stopping or not left:
            return code if code >= 0 else 128 - code
        print(f"the training ended with exit code {code}; {left} retries left", file=sys.stderr, flush=True)
    raise AssertionError("there is at least one attempt")


def main() -> None:
    """See the module."""
    retries, run, *arguments = sys.argv[1:]
    try:
        sys.exit(attempt(arguments, Path(run), int(retries)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
