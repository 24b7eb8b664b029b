"""The file ``.tierlog-session`` of a log directory, and which mount the directory lies on."""

from __future__ import annotations

import ctypes
import json
import os
import struct
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from tierlog.errors import StorageError, UserError
from tierlog.log.files.filesystem import REAL, translated

FILE_NAME = ".tierlog-session"
FORMAT_VERSION = 1
UNKNOWN = 0
# Of statx(2).
_AT_EMPTY_PATH = 0x1000
_STATX_MNT_ID_UNIQUE = 0x4000
_STATX_MNT_ID_AT = 0x90
_STATX_BYTES = 256
logger = structlog.get_logger()
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Session:
    """The content of the file. ``mount``: see ``mount_identity``; "" where the system cannot tell. ``lossless_since``: the
    broker epoch since which nothing is known to be lost, or ``UNKNOWN``. ``is_doubtful``: a recovery has begun and not
    ended, or the directory failed in use. ``dirs``: uuids of all log directories of the session, unusable ones included.
    ``is_lossy``: a start has found that data is missing, and no registration has said so yet."""

    boot_id: str
    mount: str
    broker_epoch: int
    lossless_since: int
    is_doubtful: bool = False
    dirs: tuple[str, ...] = ()
    is_lossy: bool = False


def cast_doubt(log_dir: Path) -> None:
    """Marks the session doubtful, as far as the file can still be written: the directory failed while it was in use, and the
    page cache may have dropped what could not be written."""
    session = read_session(log_dir)
    if session is not None:
        keep_session(log_dir, replace(session, is_doubtful=True), durable=False)


def keep_session(log_dir: Path, session: Session, *, durable: bool) -> None:
    """Writes the file, or removes it where that fails: without a file, data counts as possibly lost."""
    try:
        write_session(log_dir, session, durable=durable)
    except StorageError as error:
        logger.error(
            "cannot write .tierlog-session: the next start counts data as possibly lost",
            log_dir=str(log_dir),
            why=str(error),
        )
        with suppress(OSError):
            (log_dir / FILE_NAME).unlink(missing_ok=True)


def mount_identity(path: Path) -> str:
    """Device and mount of the directory, for as long as the machine runs; "" where the system cannot tell.

    The kernel reuses mount numbers (``mnt_id``), so a file system that was unmounted and mounted again often has the same
    one. From Linux 6.8 on, ``statx`` gives a number that is never reused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        device = os.fstat(descriptor).st_dev
        mount = _unique_mount(descriptor) or _mount_number(descriptor)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return f"{os.major(device)}:{os.minor(device)}/{mount}" if mount else ""


def _unique_mount(descriptor: int) -> str:
    """ "" before Linux 6.8, and where there is no such call."""
    statx = getattr(_libc, "statx", None)
    if statx is None:
        return ""
    found = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_MNT_ID_UNIQUE, found) != 0:
        return ""
    (mask,) = struct.unpack_from("=I", found, 0)
    (mount,) = struct.unpack_from("=Q", found, _STATX_MNT_ID_AT)
    return f"u{mount}" if mask & _STATX_MNT_ID_UNIQUE else ""


def _mount_number(descriptor: int) -> str:
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.startswith("mnt_id:")), "")


def read_session(log_dir: Path) -> Session | None:
    """None without a file, or where its content is invalid (a power loss may leave anything). Raises UserError for an
    unknown version."""
    path = log_dir / FILE_NAME
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["format_version"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {version}, this tierlog knows {FORMAT_VERSION}; upgrade tierlog"
        )
    try:
        return Session(
            boot_id=str(fields["boot_id"]),
            mount=str(fields["mount"]),
            broker_epoch=int(fields["broker_epoch"]),
            lossless_since=int(fields["lossless_since"]),
            is_doubtful=bool(fields["is_doubtful"]),
            dirs=tuple(map(str, fields.get("dirs", ()))),
            is_lossy=bool(fields.get("is_lossy", False)),
        )
    except (ValueError, TypeError, KeyError):
        return None


@translated
def check_readable(log_dir: Path) -> None:
    """Raises StorageError where the file exists and cannot be read."""
    with suppress(FileNotFoundError):
        (log_dir / FILE_NAME).read_bytes()


@translated
def write_session(log_dir: Path, session: Session, *, durable: bool) -> None:
    """Raises StorageError."""
    text = json.dumps({"format_version": FORMAT_VERSION, **asdict(session)}, separators=(",", ":"))
    REAL.write_file(log_dir / FILE_NAME, text.encode(), durable=durable)
