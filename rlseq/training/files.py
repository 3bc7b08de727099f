"""Writing that a kill or a power cut cannot leave half done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

TEMPORARY = ".tmp-"
ASIDE = ".old-"


def unique(prefix: str, path: Path) -> Path:
    """A hidden name beside ``path`` that nothing else has."""
    return path.with_name(f"{prefix}{path.name}-{os.getpid()}-{os.urandom(4).hex()}")


def sync(path: Path) -> None:
    """Have a file's contents, or a directory's entries, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """``sync`` everything in a directory, and itself."""
    for path in sorted(directory.rglob("*"), reverse=True):
        sync(path)
    sync(directory)


def write_text(path: Path, text: str) -> None:
    """Replace a file as a whole: whoever reads it finds the old text or the new one."""
    temporary = unique(TEMPORARY, path)
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def link(path: Path, target: str) -> None:
    """Make ``path`` a relative symbolic link, replacing what is there: a copy may have made a directory of the link."""
    if path.is_dir() and not path.is_symlink():
        remove(path)
    temporary = unique(TEMPORARY, path)
    temporary.symlink_to(target)
    temporary.replace(path)
    sync(path.parent)


def publish(temporary: Path, directory: Path) -> None:
    """Give a finished directory its name; one of that name is replaced.

    A directory cannot be renamed over another, so the old one is put aside first: ``recover`` brings it back if a
    kill comes in between.
    """
    sync_tree(temporary)
    aside = unique(ASIDE, directory) if directory.exists() else None
    if aside is not None:
        directory.rename(aside)
    temporary.rename(directory)
    sync(directory.parent)
    if aside is not None:
        shutil.rmtree(aside)


def remove(directory: Path) -> None:
    """Delete a directory; it is out of sight before its first file goes."""
    temporary = unique(TEMPORARY, directory)
    directory.rename(temporary)
    shutil.rmtree(temporary)


def recover(parent: Path) -> None:
    """Clear away what a kill left in a directory: the caller is its only writer."""
    for aside in parent.glob(f"{ASIDE}*"):
        original = parent / aside.name.removeprefix(ASIDE).rsplit("-", 2)[0]
        if original.exists():
            remove(aside)
        else:
            aside.rename(original)
    for leftover in parent.glob(f"{TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
