"""Where the user's modules are looked for: a task, a reward, a network named by its import path."""

from __future__ import annotations

import os
import sys

_added: set[str] = set()


def search_working_directory() -> None:
    """Search the working directory for modules, too, after all other places.

    Whatever looks up a module of the user's calls this, and nothing else: libraries try to import optional modules
    by common names, and a file of such a name that merely lies there is not to be executed. The directory stays on
    the path, since the user's module may import others later.
    """
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        return  # it was deleted: nothing can be found in it
    if directory not in sys.path and "" not in sys.path:
        sys.path.append(directory)
        _added.add(directory)


def library_path() -> list[str]:
    """The import path without what ``search_working_directory`` added."""
    return [place for place in sys.path if place not in _added]
