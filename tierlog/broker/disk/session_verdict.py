"""Whether the data of this broker is as whole as its last session left it: a small file in each log directory.

What was appended lies in the page cache before it lies on the disk. So a broker that starts after an unclean stop has all
of it while the machine has not been booted and the file system not mounted anew, and may have lost any of it otherwise.
The file says under which boot and mount the last session ran, its broker epoch, and since which broker epoch nothing is
known to be lost (``lossless_since``, see ``BrokerRegistration``).

Rules:

* It is written, durably, at each registration, before anything is appended on that broker epoch.
* An unclean start casts doubt on it before logs are recovered: recovery cuts off what is damaged, so that a start after
  it would find nothing wrong. Once all are recovered, the file says what was found.
* A directory whose file is older than the session that the controller knows is a restored copy: it lacks what came after.
* A directory that cannot be used at a start says nothing: its replicas are offline. Once it is back its file is older than
  the session that went without it, so it is taken for a restored copy.
* In doubt, data may be lost. That costs a replica its place among those eligible for leadership, and nothing else.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from tierlog.errors import StorageError, UserError
from tierlog.log.files import checkpoints
from tierlog.log.files.filesystem import REAL, translated

if TYPE_CHECKING:
    from tierlog.broker.disk.log_dirs import LogDir

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
    """The content of the file. ``mount``: see ``mount_identity``; "" where the system cannot tell. ``dirs``: uuids of all
    log directories of the session, also of those that it had to do without."""

    boot_id: str
    mount: str
    broker_epoch: int
    lossless_since: int
    is_doubtful: bool = False
    dirs: tuple[str, ...] = ()


class Evidence(NamedTuple):
    """One log directory as this start finds it. ``clean_epoch``: broker epoch of the mark of a clean stop, None without."""

    session: Session | None
    clean_epoch: int | None
    boot_id: str
    mount: str


class Verdict(NamedTuple):
    """``lossless_since`` of the registration to come. ``is_lossy``: something is known to be missing, so that no
    clean-stop marker in the metadata store may say otherwise."""

    lossless_since: int
    is_lossy: bool


def survived(evidence: Evidence) -> bool:
    """Whether everything that the session of the file had written is still there to be found."""
    session = evidence.session
    if session is None:
        return False
    if evidence.clean_epoch is not None:
        return evidence.clean_epoch == session.broker_epoch
    if session.is_doubtful or not evidence.boot_id or not evidence.mount:
        return False
    return (session.boot_id, session.mount) == (evidence.boot_id, evidence.mount)


def judge(directories: Sequence[Evidence], handled_epoch: int, lossy_count: int) -> Verdict:
    """``handled_epoch``: the broker's last session that the controller has dealt with; ``lossy_count``: hosted logs that
    have lost something, as their recovery found."""
    sessions = [evidence.session for evidence in directories]
    is_old_copy = any(s is not None and s.broker_epoch < handled_epoch for s in sessions)
    if lossy_count or is_old_copy:
        return Verdict(UNKNOWN, True)
    if not all(map(survived, directories)):
        return Verdict(UNKNOWN, False)
    known = [s.lossless_since for s in sessions if s is not None]
    return Verdict(UNKNOWN if UNKNOWN in known else max(known, default=UNKNOWN), False)


class SessionMarkers:
    """The files of all log directories of one broker that can be used; ``begin`` before the logs are recovered."""

    def __init__(self, log_dirs: Iterable[LogDir], boot_id: str) -> None:
        self._log_dirs = list(log_dirs)
        self._boot_id = boot_id
        self._dirs: tuple[str, ...] = ()
        # A directory of the last session is not among ``log.dirs`` any more.
        self.has_lost_dirs = False
        self._found: dict[LogDir, Evidence] = {}

    def begin(self) -> None:
        """Reads what the last run left. Raises UserError for a file of a newer version."""
        for log_dir in self._log_dirs:
            if not log_dir.is_online:
                continue
            path = log_dir.path
            session = read_session(path)
            try:
                clean_epoch = checkpoints.clean_shutdown_broker_epoch(path)
            except StorageError as error:
                log_dir.fail(error)
                continue
            self._found[log_dir] = Evidence(session, clean_epoch, self._boot_id, mount_identity(path))
            if session is not None and clean_epoch is None:
                keep_session(path, replace(session, is_doubtful=True), durable=False)

        self._compare_dirs()

    def _compare_dirs(self) -> None:
        """One that cannot be read may be any of those that are not found."""
        known = {log_dir.directory_id for log_dir in self._log_dirs if log_dir.directory_id}
        unread = sum(not log_dir.directory_id for log_dir in self._log_dirs)
        named = {each for found in self._found.values() if found.session for each in found.session.dirs}
        missing = named - known
        self.has_lost_dirs = len(missing) > unread
        self._dirs = tuple(sorted(named | known if unread else known))

    def judge(self, handled_epoch: int, lossy_count: int) -> Verdict:
        """After the logs were recovered. What was found is kept, should this start end before its registration."""
        online = {log_dir: found for log_dir, found in self._found.items() if log_dir.is_online}
        verdict = judge(list(online.values()), handled_epoch, lossy_count)
        for log_dir, found in online.items():
            if found.session is not None:
                epoch = found.session.broker_epoch
                dirs = found.session.dirs
                kept = Session(self._boot_id, found.mount, epoch, verdict.lossless_since, dirs=dirs)
                keep_session(log_dir.path, kept, durable=False)
        return verdict

    def trusted_dirs(self, handled_epoch: int) -> list[LogDir]:
        """Those that are what their last session left on the disk, whatever the page cache lost: not failed while they were
        in use, nor in the middle of a recovery, and no restored copy."""
        found = (
            (log_dir, evidence.session) for log_dir, evidence in self._found.items() if log_dir.is_online
        )
        return [
            d for d, s in found if s is not None and not s.is_doubtful and s.broker_epoch >= handled_epoch
        ]

    def registered(self, broker_epoch: int, lossless_since: int) -> None:
        """A session begins."""
        for log_dir, found in self._found.items():
            session = Session(self._boot_id, found.mount, broker_epoch, lossless_since, dirs=self._dirs)
            if log_dir.is_online:
                keep_session(log_dir.path, session, durable=True)


def cast_doubt(log_dir: Path) -> None:
    """The directory failed while it was in use: the page cache may have dropped what could not be written. As far as it
    still lets itself be written."""
    session = read_session(log_dir)
    if session is not None:
        keep_session(log_dir, replace(session, is_doubtful=True), durable=False)


def keep_session(log_dir: Path, session: Session, *, durable: bool) -> None:
    """Writes the file, or removes it where there is no room: what is not said counts as lost."""
    try:
        write_session(log_dir, session, durable=durable)
    except StorageError as error:
        logger.error("cannot write the session", log_dir=str(log_dir), why=str(error))
        with suppress(OSError):
            (log_dir / FILE_NAME).unlink(missing_ok=True)


def mount_identity(path: Path) -> str:
    """Device and mount of the directory, as long as the machine runs; "" where the system cannot tell.

    The kernel gives the number of a mount (``mnt_id``) to the next one once it is free, so a file system that was taken
    away and mounted anew often has the same: what names it once and for all is asked of ``statx``, from Linux 6.8 on."""
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
    """None without a file, and for one that is no such file (a power loss may leave anything). Raises UserError for an
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
        )
    except (ValueError, TypeError, KeyError):
        return None


@translated
def check_readable(log_dir: Path) -> None:
    """Raises StorageError where there is a file that cannot be read."""
    with suppress(FileNotFoundError):
        (log_dir / FILE_NAME).read_bytes()


@translated
def write_session(log_dir: Path, session: Session, *, durable: bool) -> None:
    """Raises StorageError."""
    text = json.dumps({"format_version": FORMAT_VERSION, **asdict(session)}, separators=(",", ":"))
    REAL.write_file(log_dir / FILE_NAME, text.encode(), durable=durable)
