"""A look at a directory as an object store, most of all at one that comes over a network.

What the store relies on is tried for real, in a scratch directory beside the objects: exclusive creation, links and renames
that are atomic, fsync, and locks that other processes see.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

from tiering.doctor.clock import skew_finding
from tiering.doctor.mounts import mount_findings
from tiering.doctor.neighbours import neighbours, owner
from tiering.doctor.trial import merged, tried
from tiering.doctor.wanted import Wanted
from tiering.errors import NotFound, ObjectStoreError
from tiering.objects.classes import StorageClass
from tiering.objects.directory import DirectoryStore
from tiering.objects.findings import Finding

SPACE_BYTES_MIN = 10 << 30
LEFTOVER_AGE_MS = 24 * 3_600_000
MOUNTS = Path("/proc/self/mounts")
_LOCK_S = 30
_TRY_LOCK = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(7)
"""


async def examine(root: Path, wanted: Wanted) -> list[Finding]:
    """A directory that is not there yet is looked for in the nearest one that is."""
    root = root.absolute()
    base = root
    while not await asyncio.to_thread(base.is_dir):
        if await asyncio.to_thread(base.exists):
            message = f"{base} is no directory"
            return [Finding("directory", "error", message, "name another path in tierlog.object.store")]
        base = base.parent
    findings = [Finding("directory", "ok", f"{root} is there" if base == root else f"{root} will be made")]
    findings += await asyncio.to_thread(_file_system, base)
    if base == root:
        findings += await _contents(root, wanted)
    return merged([*findings, *_classes(wanted)], await _tried(base))


def _file_system(base: Path) -> list[Finding]:
    mounts = MOUNTS.read_text() if MOUNTS.exists() else ""
    space = os.statvfs(base)
    free_bytes = space.f_bavail * space.f_frsize
    findings = mount_findings(mounts, str(base.resolve()))
    free = f"{free_bytes / (1 << 30):.1f} GiB are free"
    if free_bytes >= SPACE_BYTES_MIN:
        return [*findings, Finding("space", "ok", free)]
    return [*findings, Finding("space", "warning", f"only {free}", "make room, or take a larger file system")]


async def _contents(root: Path, wanted: Wanted) -> list[Finding]:
    """Whose it is, who lies around and in it, and what was never finished."""
    store = DirectoryStore(root, writes=False)
    outer = {str(each): DirectoryStore(each, writes=False) for each in root.parents}
    try:
        found = await owner(store, wanted.cluster_id)
        found += await neighbours(store, outer)
        return found + await _leftovers(store, root)
    finally:
        for each in (store, *outer.values()):
            await each.close()


async def _leftovers(store: DirectoryStore, root: Path) -> list[Finding]:
    now_ms = int(time.time() * 1_000)
    try:
        files = await store.list_uploads("")
    except NotFound:
        files = []
    except ObjectStoreError as error:
        return [_refused(str(error), root)]
    old = [each for each in files if each.begun_ms <= now_ms - LEFTOVER_AGE_MS]
    if not old:
        return [Finding("leftovers", "ok", "no unfinished file is older than a day")]
    message = f"{len(old)} unfinished files in {root / '.tmp'} are older than a day"
    return [Finding("leftovers", "warning", message, "start a broker on it, which removes them")]


def _classes(wanted: Wanted) -> list[Finding]:
    cold = [each.label for each in wanted.classes if each != StorageClass.STANDARD]
    if not cold:
        return []
    message = f"a directory has no storage class {', '.join(cold)}"
    return [Finding("classes", "error", message, "take it out of tierlog.tiers, or use a bucket")]


async def _tried(base: Path) -> list[Finding]:
    """All that is made here is below one directory of its own, which is removed."""
    scratch = base / f".doctor-{uuid.uuid4().hex}"
    try:
        findings = await asyncio.to_thread(_primitives, scratch)
        if any(each.level == "error" for each in findings):
            return findings
        store = DirectoryStore(scratch)
        try:
            return [*findings, *await tried(store, _nothing_more)]
        finally:
            await store.close()
    except OSError as error:
        return [_refused(error.strerror or str(error), base)]
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


async def _nothing_more(key: str) -> list[Finding]:
    return []


def _refused(why: str, base: Path) -> Finding:
    remedy = f"let this user (id {os.geteuid()}) read and write {base}; on NFS look at root_squash and the export's options"
    return Finding("permissions", "error", f"{base} cannot be written: {why}", remedy)


def _primitives(scratch: Path) -> list[Finding]:
    """Raises OSError where nothing can be written."""
    scratch.mkdir()
    one, two = scratch / "one", scratch / "two"
    fd = os.open(one, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        skew = skew_finding(int(time.time() * 1_000), os.fstat(fd).st_mtime_ns // 1_000_000)
        os.write(fd, b"bytes")
        two.write_bytes(b"other")
        wrong = [
            *(["creates a file that is there"] if not _is_exclusive(one) else []),
            *_not_durable(fd, scratch),
            *(["replaces a file by a link"] if not _is_link_exclusive(one, two) else []),
            *(["does not show its locks to other processes"] if not _are_locks_seen(fd, one) else []),
        ]
        os.rename(two, one)
    finally:
        os.close(fd)
    if one.read_bytes() != b"other":
        wrong.append("does not replace a file by a rename")
    if not wrong:
        return [
            skew,
            Finding("file system", "ok", "exclusive creation, links, renames, fsync and locks hold"),
        ]
    message = f"the file system {', '.join(wrong)}"
    return [
        skew,
        Finding("file system", "error", message, "use a local one, or NFS 4 with its locks (no nolock)"),
    ]


def _is_exclusive(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return True
    return False


def _is_link_exclusive(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        return True
    except OSError:
        return False
    return False


def _not_durable(fd: int, directory: Path) -> list[str]:
    try:
        os.fsync(fd)
        of_directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(of_directory)
        finally:
            os.close(of_directory)
    except OSError as error:
        return [f"cannot be synced ({error.strerror})"]
    return []


def _are_locks_seen(fd: int, path: Path) -> bool:
    """NFS keeps locks per process, so that another one has to look."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    command = [sys.executable, "-c", _TRY_LOCK, str(path)]
    done = subprocess.run(command, capture_output=True, timeout=_LOCK_S, check=False)
    return done.returncode == 7
