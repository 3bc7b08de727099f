"""Archives of arrays, ``.npz``."""

from __future__ import annotations

from zipfile import BadZipFile
from zlib import error as ZlibError

# What numpy makes of a file that is none, or is damaged.
BROKEN_ARCHIVE = (ValueError, TypeError, OSError, EOFError, BadZipFile, ZlibError, OverflowError, MemoryError)
