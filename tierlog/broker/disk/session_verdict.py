"""Judges whether this broker's data is as complete as its last session left it, by a small file in each log directory.

Appended data lies in the page cache before it is on the disk. So a broker that starts after an unclean stop still has all
of it if since then neither the machine was rebooted nor the file system mounted anew; else it may have lost any of it.
The file says under which boot and mount the last session ran, its broker epoch, and since which broker epoch nothing is
known to be lost (``lossless_since``, see ``BrokerRegistration``).

Rules:

* The file is written durably at each registration, before anything is appended on that broker epoch.
* A start after an unclean stop marks the file doubtful before it recovers logs: recovery cuts off what is damaged, so that
  the next start would find nothing wrong. Once all logs are recovered, the file says what was found. Both are durable: what
  recovery cut off stays cut off after a power loss too.
* A directory without a file, or with one that cannot be read, may have lost what its file had to say.
* What a start has found missing is missing until a registration has said so, however many starts end before that. The
  marker of an earlier clean stop in the metadata store does not vouch for it (M15).
* A directory whose file is older than the session that the controller knows is a restored copy: it lacks what came after.
* A directory that cannot be used at a start says nothing: its replicas are offline. Once it is back its file is older than
  the session that went without it, so it is taken for a restored copy.
* In doubt, data counts as possibly lost. That costs a replica its place among those eligible for leadership, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tierlog.broker.disk.session_file import UNKNOWN, Session, keep_session, mount_identity, read_session
from tierlog.errors import DiskFull, StorageError
from tierlog.log.files import checkpoints

if TYPE_CHECKING:
    from tierlog.broker.disk.log_dirs import LogDir


class Evidence(NamedTuple):
    """One log directory as this start finds it. ``clean_epoch``: broker epoch in the clean-shutdown file, None without."""

    session: Session | None
    clean_epoch: int | None
    boot_id: str
    mount: str


class Verdict(NamedTuple):
    """``lossless_since``: for the coming registration. ``is_lossy``: something is known to be missing, even if a clean-stop
    marker in the metadata store says otherwise."""

    lossless_since: int
    is_lossy: bool


def survived(evidence: Evidence) -> bool:
    """Whether everything that the file's session wrote is still there."""
    session = evidence.session
    assert session is not None
    if evidence.clean_epoch is not None:
        return evidence.clean_epoch == session.broker_epoch
    if session.is_doubtful or not evidence.boot_id or not evidence.mount:
        return False
    return (session.boot_id, session.mount) == (evidence.boot_id, evidence.mount)


def judge(directories: Sequence[Evidence], handled_epoch: int, lossy_count: int) -> Verdict:
    """``handled_epoch``: broker epoch of this broker's last session that the controller has dealt with; ``lossy_count``:
    hosted logs of which recovery found something lost."""
    sessions = [evidence.session for evidence in directories if evidence.session is not None]
    is_old_copy = any(session.broker_epoch < handled_epoch for session in sessions)
    is_doubtful = any(session.is_lossy or session.is_doubtful for session in sessions)
    # A file that cannot be written is removed, whatever it had to say.
    is_file_missing = len(sessions) < len(directories)
    if lossy_count or is_old_copy or is_doubtful or is_file_missing:
        return Verdict(UNKNOWN, True)
    if not all(map(survived, directories)):
        return Verdict(UNKNOWN, False)
    known = [session.lossless_since for session in sessions]
    return Verdict(UNKNOWN if UNKNOWN in known else max(known, default=UNKNOWN), False)


class SessionMarkers:
    """The session files of one broker's usable log directories. Call ``begin`` before the logs are recovered."""

    def __init__(self, log_dirs: Iterable[LogDir], boot_id: str) -> None:
        self._log_dirs = list(log_dirs)
        self._boot_id = boot_id
        self._dirs: tuple[str, ...] = ()
        # Whether a directory of the last session is not among ``log.dirs`` any more.
        self.has_lost_dirs = False
        self._found: dict[LogDir, Evidence] = {}

    def begin(self) -> None:
        """Reads the files, and marks them doubtful after an unclean stop. Raises UserError for a file of another version."""
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
                keep_session(path, replace(session, is_doubtful=True), durable=True)

        self._compare_dirs()

    def _compare_dirs(self) -> None:
        """Looks for lost directories. One of ``log.dirs`` that cannot be read may be any of those that are not found."""
        known = {log_dir.directory_id for log_dir in self._log_dirs if log_dir.directory_id}
        unread = sum(not log_dir.directory_id for log_dir in self._log_dirs)
        named = {each for found in self._found.values() if found.session for each in found.session.dirs}
        missing = named - known
        self.has_lost_dirs = len(missing) > unread
        self._dirs = tuple(sorted(named | known if unread else known))

    def judge(self, handled_epoch: int, lossy_count: int) -> Verdict:
        """Called after recovery. Writes the verdict to the files, should this start end before it registers."""
        online = {log_dir: found for log_dir, found in self._found.items() if log_dir.is_online}
        verdict = judge(list(online.values()), handled_epoch, lossy_count)
        for log_dir, found in online.items():
            epoch, dirs = (found.session.broker_epoch, found.session.dirs) if found.session else (0, ())
            if found.session is not None or verdict.is_lossy:
                since, is_lossy = verdict
                kept = Session(self._boot_id, found.mount, epoch, since, dirs=dirs, is_lossy=is_lossy)
                keep_session(log_dir.path, kept, durable=True)
        return verdict

    def trusted_dirs(self, handled_epoch: int) -> list[LogDir]:
        """Directories that still hold what their last session had synced, whatever the page cache lost: they did not fail
        in use, were not left in the middle of a recovery, and are no restored copy."""
        found = (
            (log_dir, evidence.session) for log_dir, evidence in self._found.items() if log_dir.is_online
        )
        return [
            d for d, s in found if s is not None and not s.is_doubtful and s.broker_epoch >= handled_epoch
        ]

    def registered(self, broker_epoch: int, lossless_since: int) -> None:
        """Writes the files of the session that begins."""
        for log_dir, found in self._found.items():
            session = Session(self._boot_id, found.mount, broker_epoch, lossless_since, dirs=self._dirs)
            if log_dir.is_online:
                keep_session(log_dir.path, session, durable=True)

    def begun(self, on_failed_dir: Callable[[LogDir, StorageError], None]) -> None:
        """A session has begun: notes in each directory that it has had one. Raises DiskFull."""
        for log_dir in self._log_dirs:
            if log_dir.is_online:
                try:
                    log_dir.had_session()
                except DiskFull:
                    raise
                except StorageError as error:
                    on_failed_dir(log_dir, error)
