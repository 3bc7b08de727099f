"""Runs under a URI, such as s3://bucket/runs/hull: any storage that fsspec knows.

A training works in a directory of this machine, the URI's copy, and brings what changed to the URI with every
checkpoint. So a storage that does not answer for an hour costs nothing, and no code but this knows of URIs: whoever
reads or goes on with a run has its copy brought up to date, and reads that.

```
COPIES/s3/bucket/runs/hull/   RLSEQ_COPIES, or rlseq/copies in the user's cache
  …                           the run
  .remote.json                what of each file is the same there, and whether this copy is the one that is written
```

What a URI has besides is ``writer.json``: who writes the run. Whoever goes on with it puts its own name there, and a
training that finds another one's stops. So two machines never mix one run.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar

from rlseq.config.errors import StorageError, UserError
from rlseq.training.files import TEMPORARY, unique, write_text

VARIABLE = "RLSEQ_COPIES"
RECORD, WRITER = ".remote.json", "writer.json"
MOST_LOOKS = 20  # at a listing that changes while its files are fetched
Found = TypeVar("Found")
P = ParamSpec("P")
# As a path spells it, too, which has one slash after the scheme, or none.
_URI = re.compile(r"([a-z][a-z0-9+.-]+):(?:/+(.*)|)", re.DOTALL)
_PAUSES = (0.0, 0.2, 0.8, 2.0)  # seconds
_INSIDE = re.compile(r"/checkpoints(/.*)?$")


class RemoteError(StorageError):
    """A storage that cannot be read or written at this time."""


class TakenError(UserError):
    """Another process goes on with the run."""


# ------------------------------------------------------------------------------------------------- URIs and copies
def copies() -> Path:
    """Where the copies of URIs lie on this machine."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(VARIABLE) or Path(cache) / "rlseq" / "copies").absolute()


def is_uri(path: Path | str) -> bool:
    """Whether a path is a URI."""
    return _URI.fullmatch(str(path)) is not None


def uri_of(path: Path | str) -> str | None:
    """The URI that is meant: by itself, or by the copy of it; None for other paths."""
    given, place = _URI.fullmatch(str(path)), Path(path).absolute()
    if not given and place.is_relative_to(copies()) and len(parts := place.relative_to(copies()).parts) > 1:
        given = _URI.fullmatch(f"{parts[0]}:/{'/'.join(parts[1:])}")
    if not given:
        return None
    scheme, rest = given.groups()
    return f"{scheme}://{'/' if scheme in ('file', 'local') else ''}{rest or ''}"


def local(path: Path | str) -> Path:
    """Where the files of a path are on this machine: itself, or the copy of a URI.

    Raises:
        UserError: It is a URI that leads nowhere, such as s3://bucket/../run.
    """
    given = _URI.fullmatch(str(path))
    if not given:
        return Path(path)
    scheme, rest = given.groups()
    parts = PurePosixPath(rest or "").parts
    if not parts or any(part == ".." or part.startswith(".") or "\0" in part for part in parts):
        raise UserError(f"{path}: is no URI of a run; give one such as s3://bucket/runs/hull")
    return copies().joinpath(scheme, *parts)


def display_path(path: Path) -> str:
    """What messages call a path: the URI of a copy, and relative to the working directory what lies inside."""
    here = Path.cwd()
    return uri_of(path) or str(path.relative_to(here) if path.is_relative_to(here) else path)


def fetched(path: Path | str) -> Path:
    """``local``, and the copy of a URI is brought up to date: of the whole run, if it leads into one.

    Raises:
        RemoteError: The storage cannot be read.
        UserError: There is no run, or no such storage.
    """
    refreshed(path)
    place = local(path)
    if is_uri(path) and not _run_of(place).is_dir():
        raise UserError(f"{uri_of(path)}: there is no run or checkpoint")
    return place


def refreshed(path: Path | str) -> bool:
    """Whether the copy of a URI was not up to date, and is now; never for other paths. Raises as ``fetched``."""
    if not is_uri(path):
        return False
    run = _run_of(local(path))
    with _alone(run):
        return Remote(run).pull()


def changes_soon(path: Path | str) -> bool:
    """Whether what a URI has changes within seconds: a file there may be seen before all of it is. Raises likewise."""
    for seconds in _PAUSES if is_uri(path) else ():
        time.sleep(seconds)
        if refreshed(path):
            return True
    return False


def exists(path: Path | str) -> bool:
    """Whether there is anything at a path, here or at the URI it is. Raises as ``fetched``."""
    place = local(path)
    return place.exists() or (is_uri(path) and Remote(place).exists())


def discard(path: Path | str) -> None:
    """Remove a run, here and at the URI that it is kept under. Raises as ``fetched``."""
    place = local(path)
    if remote := remote_of(place):
        remote.remove()
    shutil.rmtree(place, ignore_errors=True)


def remote_of(run: Path) -> Remote | None:
    """Where the run is brought to, None if it is no copy of a URI.

    Raises:
        UserError: There is no such storage.
    """
    return Remote(run) if uri_of(run) else None


def _run_of(place: Path) -> Path:
    return Path(_INSIDE.sub("", str(place)))


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process at a time brings a copy up to date."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ----------------------------------------------------------------------------------------------- one copy and its URI
@dataclass
class _Record:
    """Of each file, by name: its size and time here, and what the storage says of it, if it was fetched from there."""

    files: dict[str, tuple[list[int], str | None]] = field(default_factory=dict)
    token: str | None = None  # by which this copy is the one that is written


class Remote:
    """A copy and the URI it is a copy of.

    Args:
        place: The copy's directory, which need not exist.

    Raises:
        UserError: There is no such storage, or what speaks to it is not installed.
    """

    def __init__(self, place: Path) -> None:
        import fsspec  # a fifth of a second, for whom it concerns

        uri = uri_of(place)
        assert uri is not None
        self.place, self.uri = place, uri
        try:
            self._storage, self._root = fsspec.url_to_fs(uri)
        except Exception as error:  # whatever a storage's own library raises
            known = "; install what it names, such as pip install 'rlseq[s3]', or give one such as file:///shared/run"
            raise UserError(f"{uri}: there is no such storage ({_one_line(error)}){known}") from error

    def exists(self) -> bool:
        """Whether the storage has a run there.

        Raises:
            RemoteError: It cannot be read.
        """
        return bool(self._writer() or self._listing())

    def take(self) -> None:
        """Become the one who writes there, with the copy up to date.

        Raises:
            RemoteError: The storage cannot be written.
        """
        if self._is_ours():
            return
        self._fetch()
        token = os.urandom(16).hex()
        said = {"token": token, "host": platform.node(), "pid": os.getpid()}
        self._ask("written", self._put_text, WRITER, json.dumps(said))
        self._fetch()  # what the one before brought meanwhile; it brings nothing from now on
        record = self._record()
        record.token = token
        self._write(record)

    def push(self) -> None:
        """Bring there what has changed here, so that a reader finds each checkpoint whole, and remove what is gone.

        Raises:
            RemoteError: The storage cannot be written; what is here is whole.
            TakenError: Another process has become the one who writes there.
        """
        record, writer = self._record(), self._writer()
        if writer.get("token") not in (None, record.token):
            raise TakenError(
                f"{self.uri} is gone on with by another process (pid {writer.get('pid')} on {writer.get('host')}), so "
                f"this one ends; what it did lies in {self.place}"
            )
        here = self._here()
        try:
            for name in sorted(here, key=_last_what_names_others):
                if record.files.get(name, ([], None))[0] != here[name]:
                    self._ask("written", self._put, name)
                    record.files[name] = (here[name], None)
            for name in sorted(set(record.files) - set(here), key=_last_what_names_others, reverse=True):
                self._ask("written", self._remove, name)
                del record.files[name]
        finally:  # a kill comes before it: then the next time does again what was done
            self._write(record)

    def pull(self) -> bool:
        """Bring here what has changed there; nothing, if this copy is the one that is written.

        Returns:
            Whether anything has.

        Raises:
            RemoteError: The storage cannot be read, or changes all the time.
        """
        return not self._is_ours() and self._fetch()

    def _is_ours(self) -> bool:
        token = self._record().token
        return token is not None and self._writer().get("token") == token

    def _fetch(self) -> bool:
        files, there = self._record().files, self._listing()
        known = dict(files)
        if not there:
            return False  # a copy of what was never brought there, or is gone: it is all that there is
        for _ in range(MOST_LOOKS):
            for name in sorted(there, key=_last_what_names_others):
                if files.get(name) != (_state(self.place / name), there[name]) and self._ask("read", self._get, name):
                    files[name] = (_state(self.place / name), there[name])
            before, there = there, self._listing()
            if there == before:
                break
        else:
            raise RemoteError(f"{self.uri}: changes all the time while it is read; try again later")
        for name in set(self._here()) - set(there):
            (self.place / name).unlink()
        for directory in sorted((path for path in self.place.rglob("*") if path.is_dir()), reverse=True):
            if not any(directory.iterdir()):
                directory.rmdir()
        files = {name: files[name] for name in there if name in files}
        self._write(_Record(files))
        return files != known

    def remove(self) -> None:
        """Remove what was brought there.

        Raises:
            RemoteError: The storage cannot be written.
        """
        for name in [*self._record().files, WRITER]:
            self._ask("written", self._remove, name)

    # ----------------------------------------------------------------------------------------------------- the copy
    def _here(self) -> dict[str, list[int]]:
        """The copy's files with their size and time; not what is hidden, and no links."""
        found = {}
        for directory, names, files in os.walk(self.place):
            names[:] = [name for name in names if not name.startswith(".") and not Path(directory, name).is_symlink()]
            for path in (Path(directory, name) for name in files if not name.startswith(".")):
                if not path.is_symlink():
                    found[path.relative_to(self.place).as_posix()] = _state(path)
        return found

    def _record(self) -> _Record:
        try:
            said = json.loads((self.place / RECORD).read_bytes())
            files = {str(name): (list(map(int, here)), there) for name, (here, there) in said["files"].items()}
            return _Record(files, said["token"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _Record()

    def _write(self, record: _Record) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        write_text(self.place / RECORD, json.dumps({"token": record.token, "files": record.files}))

    # -------------------------------------------------------------------------------------------------- the storage
    def _listing(self) -> dict[str, str]:
        """The storage's files, with what tells one from another of its name."""
        return self._ask("read", self._find)

    def _find(self) -> dict[str, str]:
        self._storage.invalidate_cache()
        found = {}
        for path, info in self._storage.find(self._root, detail=True).items():
            name = PurePosixPath(path.removeprefix(self._root).lstrip("/"))
            if name.parts and str(name) != WRITER and not any(part.startswith(".") for part in name.parts):
                marks = (info.get(key) for key in ("ETag", "etag", "mtime", "LastModified", "updated", "created"))
                found[str(name)] = f"{info.get('size')} {next((each for each in marks if each is not None), '')}"
        return found

    def _writer(self) -> dict[str, Any]:
        """Who writes there; nothing, if nobody does."""
        return self._ask("read", self._read_writer)

    def _read_writer(self) -> dict[str, Any]:
        self._storage.invalidate_cache()
        try:
            said = json.loads(self._storage.cat_file(f"{self._root}/{WRITER}"))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def _get(self, name: str) -> bool:
        """Fetch a file; whether it was still there."""
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = unique(TEMPORARY, path)
        try:
            self._storage.get_file(f"{self._root}/{name}", str(temporary))
            temporary.replace(path)
        except FileNotFoundError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _put(self, name: str) -> None:
        self._make_parents(name)
        self._storage.put_file(str(self.place / name), f"{self._root}/{name}")

    def _put_text(self, name: str, text: str) -> None:
        self._make_parents(name)
        self._storage.pipe_file(f"{self._root}/{name}", text.encode())

    def _make_parents(self, name: str) -> None:
        self._storage.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._storage.rm_file(f"{self._root}/{name}")

    def _ask(self, what: str, ask: Callable[P, Found], *args: P.args, **kwargs: P.kwargs) -> Found:
        try:
            return ask(*args, **kwargs)
        except Exception as error:  # whatever a storage's own library raises
            remedy = "look at the address, at the network and at your credentials"
            raise RemoteError(f"{self.uri}: cannot be {what} ({_one_line(error)}); {remedy}") from error


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _state(path: Path) -> list[int]:
    """A file's size, and when it was written; nothing of one that is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _last_what_names_others(name: str) -> tuple[int, str]:
    """An order in which manifests come after their files, and indices after the checkpoints that they name."""
    return {"manifest.json": 1, "index.json": 2}.get(PurePosixPath(name).name, 0), name
