"""``python -m rlseq``."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the working directory: it is searched only for what the user names

from rlseq.cli import main

main()
