"""Where the user's modules are looked for: a task, a reward, a network named by its import path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

_added: set[str] = set()


def search_working_directory() -> None:
    """Search the working directory for modules, too, after all other places.

    Whatever looks up a module of the user's calls this, and nothing else: libraries try to import optional modules
    by common names, and a file of such a name that merely lies there is not to be executed. The directory stays on
    the path, since the user's module may import others later.
    """
    directory = _working_directory()
    if directory is not None and directory not in sys.path and "" not in sys.path:
        sys.path.append(directory)
        _added.add(directory)


def library_path() -> list[str]:
    """The import path without what ``search_working_directory`` added."""
    return [place for place in sys.path if place not in _added]


def find_module(name: str) -> Path | None:
    """The file that importing a module would execute, found without executing anything, packages above it included.

    None: it is found nowhere, or it has no file, as ``sys`` and a directory without ``__init__.py``.
    """
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        spec = _find(name.split("."))
    except (ImportError, ValueError):  # no name of a module
        spec = None
    origin = None if spec is None else spec.origin
    return Path(origin).resolve() if origin and Path(origin).is_file() else None


def _find(parts: list[str]) -> ModuleSpec | None:
    spec: ModuleSpec | None = None
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if (imported := getattr(sys.modules.get(name), "__spec__", None)) is not None:
            spec = imported
        elif depth == 1:
            directory = _working_directory()
            spec = importlib.util.find_spec(name) or (_find_in(name, [directory]) if directory else None)
        else:
            spec = _find_in(name, list(spec.submodule_search_locations or ()) if spec else [])
        if spec is None:
            return None
    return spec


def _find_in(name: str, places: list[str]) -> ModuleSpec | None:
    """As ``PathFinder.find_spec``, which for namespace packages demands that the package above is imported."""
    portions: list[str] = []
    for finder in filter(None, map(pkgutil.get_importer, places)):
        spec = finder.find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        portions += (spec.submodule_search_locations or ()) if spec is not None else ()
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace if portions else None


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None  # it was deleted: nothing can be found in it
