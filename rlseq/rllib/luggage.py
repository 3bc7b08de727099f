"""What workers on other machines need of the driver's disk: the task's artifacts and the user's modules."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import ray

from rlseq.config.schema import Config

IMPORT_PATH = re.compile(
    r"([A-Za-z_]\w*)[\w.]*:\S"
)  # module:name, as tasks, rewards and networks of the user's have it
INSTALLED = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


@dataclass(frozen=True)
class Luggage:
    """Files by their relative path.

    Attributes:
        artifacts: Of the task, such as a vocabulary.
        modules: Python files of the user's.
    """

    artifacts: dict[str, bytes]
    modules: dict[str, bytes]

    @classmethod
    def of(cls, config: Config, artifacts: Path | None) -> Luggage:
        """What an experiment's workers need.

        The user's modules are those that the configuration names, with all of their package, and what they have
        imported from beside them. Installed packages are expected to be installed everywhere.
        """
        found = {} if artifacts is None else _files(artifacts, "*")
        modules: dict[str, bytes] = {}
        for name in _named(config.model_dump(mode="json")):
            for place in _places(name):
                modules |= _with_neighbours(place)
        return cls(found, modules)

    def unpack(self, name: str) -> Path:
        """Write everything into a directory of this machine, once for all its workers; the directory of the artifacts.

        The modules can be imported afterwards; those that the machine has come first.
        """
        session = Path(ray._private.worker._global_node.get_session_dir_path())  # removed with the cluster
        directory = session / f"rlseq-{name}"
        if not directory.exists():
            made = Path(mkdtemp(dir=session))
            for part, files in (("artifacts", self.artifacts), ("modules", self.modules)):
                (made / part).mkdir()
                for path, content in files.items():
                    (made / part / path).parent.mkdir(parents=True, exist_ok=True)
                    (made / part / path).write_bytes(content)
            try:
                made.rename(directory)
            except OSError:  # another worker was faster
                shutil.rmtree(made)
        if str(directory / "modules") not in sys.path:
            sys.path.append(str(directory / "modules"))
        return directory / "artifacts"


def _named(value: Any) -> Iterator[str]:
    """Top-level modules that a configuration names, in values or keys."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _named(key)
            yield from _named(below)
    elif isinstance(value, list):
        for below in value:
            yield from _named(below)
    elif isinstance(value, str) and (match := IMPORT_PATH.match(value)):
        yield match[1]


def _places(name: str) -> list[Path]:
    """A top-level module's file or directories; none if it is installed, or there is none of this name."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    places = [Path(place) for place in spec.submodule_search_locations or ([spec.origin] if spec.origin else [])]
    return [place for place in places if place.exists() and not _installed(place)]


def _installed(path: Path) -> bool:
    return any(path.is_relative_to(place) for place in INSTALLED)


def _with_neighbours(place: Path) -> dict[str, bytes]:
    """A module, and whatever this process has imported that lies beside it."""
    root = place.parent
    files = {place.name: place.read_bytes()} if place.is_file() else _files(place, "*.py", place.name)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("rlseq", "rlseq_envs"):
            continue
        path = Path(getattr(module, "__file__", None) or "/")
        if path.suffix == ".py" and path.is_relative_to(root) and not _installed(path):
            with suppress(OSError):
                files[path.relative_to(root).as_posix()] = path.read_bytes()
    return files


def _files(directory: Path, pattern: str, prefix: str = "") -> dict[str, bytes]:
    """Contents of the files below a directory, by relative path."""
    return {
        (Path(prefix) / path.relative_to(directory)).as_posix(): path.read_bytes()
        for path in directory.rglob(pattern)
        if path.is_file() and not path.is_symlink()
    }
