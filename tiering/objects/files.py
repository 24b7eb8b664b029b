"""The synchronous half of the directory store: objects as plain files under one root.

``<root>/<key>`` is the object. ``<root>/.tmp`` holds files being written. ``<root>/.lock`` is held while a
name changes hands, which makes compare-and-replace atomic across processes; it is never held over an fsync.

Every method blocks and may be called from any thread. Errors are those of ``tiering.errors``.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tiering.errors import (
    InvalidKey,
    InvalidRange,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
    Unavailable,
)
from tiering.objects.file_errors import info_of, translated
from tiering.objects.open_files import OpenFiles
from tiering.objects.port import ObjectInfo, UploadInfo, check_whole
from tiering.objects.staged_files import StagedFile, leftovers, remove_leftover

COPY_BYTES = 1 << 20
_PUBLISH_ATTEMPTS = 8  # A delete may remove the emptied folder between our mkdir and our link.


class ObjectFiles:
    """The verbs of the port on a directory, blocking."""

    def __init__(self, root: Path, *, durable: bool = True, writes: bool = True) -> None:
        self._root = root
        self._tmp = root / ".tmp"
        self._durable = durable
        self._open_files = OpenFiles()
        if writes:
            with translated():
                self._tmp.mkdir(parents=True, exist_ok=True)
                for each in leftovers(self._tmp):
                    remove_leftover(self._tmp, each.upload_id)

    def path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def stage(self, key: str, size_bytes: int) -> StagedFile:
        return StagedFile(self._tmp, key, size_bytes, self._durable)

    def publish(
        self, staged: StagedFile, *, if_absent: bool = False, if_match: str | None = None
    ) -> ObjectInfo:
        """Give the staged file its name, durably; afterwards the staged file is used up, whatever the outcome."""
        key = staged.key
        try:
            source, info = staged.seal()
            with translated(key):
                self._give_name(source, key, if_absent=if_absent, if_match=if_match)
                self._sync_directory(os.path.dirname(self.path(key)))
            return info
        finally:
            staged.discard()
            self._open_files.forget(key)

    def copy(self, source: str, target: str, version: str) -> ObjectInfo:
        """Raises ``PreconditionFailed`` unless the source has this version. The bytes are those that were compared, whatever
        takes the source's name meanwhile."""
        with translated(source):
            fd = os.open(self.path(source), os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = info_of(source, os.fstat(fd))
                if found.version != version:
                    raise PreconditionFailed("the object has another version", key=source)
                staged = self.stage(target, found.size_bytes)
                try:
                    position = 0
                    while position < found.size_bytes:
                        piece = os.pread(fd, COPY_BYTES, position)
                        if not piece:
                            raise Unavailable(
                                f"ends after {position} of {found.size_bytes} bytes", key=source
                            )
                        staged.write([piece])
                        position += len(piece)
                    return self.publish(staged, if_match=version if source == target else None)
                finally:
                    staged.discard()
            finally:
                os.close(fd)

    def uploads(self) -> list[UploadInfo]:
        with translated():
            return leftovers(self._tmp)

    def abort_upload(self, upload_id: str) -> None:
        with translated():
            remove_leftover(self._tmp, upload_id)

    def _give_name(self, source: Path, key: str, *, if_absent: bool, if_match: str | None) -> None:
        target = self.path(key)
        for attempt in range(_PUBLISH_ATTEMPTS):
            try:
                self._make_directories(os.path.dirname(target), key)
                with self._name_lock():
                    if if_match is not None:
                        self._compare(key, if_match)
                    if if_absent:
                        os.link(source, target)
                    else:
                        os.rename(source, target)
                return
            except FileExistsError:
                if os.path.isdir(target):
                    raise InvalidKey("the key is a folder of other keys", key=key) from None
                raise PreconditionFailed("the object exists", key=key) from None
            except FileNotFoundError:
                if attempt == _PUBLISH_ATTEMPTS - 1:
                    raise

    def _compare(self, key: str, version: str) -> None:
        try:
            found = info_of(key, os.stat(self.path(key))).version
        except FileNotFoundError:
            raise PreconditionFailed("the object is gone", key=key) from None
        if found != version:
            raise PreconditionFailed("the object has another version", key=key)

    @contextmanager
    def _name_lock(self) -> Iterator[None]:
        fd = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _make_directories(self, directory: str, key: str) -> None:
        """Create the folders of a key, each made durable in its parent."""
        missing = []
        while not os.path.isdir(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for each in reversed(missing):
            try:
                os.mkdir(each)
            except FileExistsError:
                if not os.path.isdir(each):
                    raise InvalidKey("another key is a folder of this one", key=key) from None
            self._sync_directory(os.path.dirname(each))

    def _sync_directory(self, directory: str) -> None:
        if not self._durable:
            return
        with suppress(FileNotFoundError):  # Emptied and removed meanwhile: nothing to make durable.
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """One pread into fresh bytes: the only copy is the kernel's."""
        with translated(key), self._open_files.opened(key, self.path(key)) as fd:
            length = end - start
            # The whole range becomes one read-ahead; otherwise the kernel would grow it in 128 KiB steps.
            os.posix_fadvise(fd, start, length, os.POSIX_FADV_WILLNEED)
            data = os.pread(fd, length, start)
            while len(data) < length:  # Short after a signal, at the 2 GiB limit, or at the end of the file.
                more = os.pread(fd, length - len(data), start + len(data))
                if not more:
                    size_bytes = os.fstat(fd).st_size
                    raise InvalidRange(f"[{start}, {end}) of {size_bytes} bytes", key=key)
                data += more
            return data

    def read(self, key: str, bytes_max: int) -> tuple[ObjectInfo, bytes]:
        with translated(key):
            fd = os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise NotFound("a folder is not an object", key=key)
                check_whole(key, status.st_size, bytes_max)
                return info_of(key, status), os.pread(fd, status.st_size, 0)
            finally:
                os.close(fd)

    def head(self, key: str) -> ObjectInfo:
        with translated(key):
            status = os.stat(self.path(key))
        if not stat.S_ISREG(status.st_mode):
            raise NotFound("a folder is not an object", key=key)
        return info_of(key, status)

    def delete(self, keys: Sequence[str]) -> dict[str, ObjectStoreError]:
        """Remove names, then folders that this emptied, then make both durable. Returns the keys that the file system
        refuses to remove, with their errors."""
        directories = set()
        refused: dict[str, ObjectStoreError] = {}
        for key in keys:
            path = self.path(key)
            try:
                with translated(key), suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    with self._name_lock():
                        os.unlink(path)
                    directories.add(os.path.dirname(path))
            except ObjectStoreError as error:
                refused[key] = error
            self._open_files.forget(key)
        with translated():
            for directory in sorted(directories):
                self._sync_directory(self._remove_emptied(directory))
        return refused

    def _remove_emptied(self, directory: str) -> str:
        """Remove the emptied folder and its emptied parents. Returns the nearest folder that remains."""
        while directory != str(self._root):
            try:
                os.rmdir(directory)
            except OSError:
                break
            directory = os.path.dirname(directory)
        return directory

    def list(self, prefix: str, start_after: str, limit: int) -> list[ObjectInfo]:
        page: list[ObjectInfo] = []
        with translated(prefix):
            for key, path in self._walk(prefix, start_after):
                with suppress(FileNotFoundError):  # Deleted since its folder was read.
                    page.append(info_of(key, os.stat(path)))
                if len(page) == limit:
                    break
        return page

    def _walk(self, prefix: str, start_after: str) -> Iterator[tuple[str, str]]:
        """Keys below a folder in byte order. A folder sorts as its name plus the ``/`` that follows it in
        keys."""
        try:
            with os.scandir(self.path(prefix)) as entries:
                names = [
                    entry.name + "/" if entry.is_dir() else entry.name
                    for entry in entries
                    if entry.name[0] != "."
                ]
        except (FileNotFoundError, NotADirectoryError):
            return
        names.sort()
        for name in names:
            key = prefix + name
            if name[-1] != "/":
                if key > start_after:
                    yield key, self.path(key)
            elif key > start_after or start_after.startswith(key):
                yield from self._walk(key, start_after)

    def close(self) -> None:
        self._open_files.close()
