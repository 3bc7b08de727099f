"""Freed memory is had again without page faults."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import resource
import torch
from rlseq.training.allocator import keep_freed_memory

print(keep_freed_memory())
for turn in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(1 << 21) for _ in range(8)]  # of 8 MiB
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    del blocks
print(faults)
"""


def test_blocks_that_were_freed_are_had_again_without_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    pages = (64 << 20) // 4096
    assert kept == "False" or int(faults) < pages / 100  # without the call an eighth of the pages
