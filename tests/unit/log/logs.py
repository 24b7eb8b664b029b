"""Builders for tests of the local log: batches, logs, and a filesystem that fails where told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tierlog.config.topic import TopicConfig
from tierlog.errors import ErrorCode
from tierlog.log.append import AppendResult
from tierlog.log.files.filesystem import REAL, Filesystem
from tierlog.log.log import Log
from tierlog.records.batch import BatchHeader, Compression, walk
from tierlog.records.records import Record, build_batch
from tierlog.types import Buffer, TopicPartition

TOPIC_ID = bytes(range(16))
PARTITION = TopicPartition("flights", 3)
NOW_MS = 1_700_000_000_000


def config(**fields: object) -> TopicConfig:
    return TopicConfig(**fields)  # type: ignore[arg-type]


def open_log(
    log_dir: Path,
    topic_config: TopicConfig | None = None,
    *,
    was_clean: bool = False,
    recovery_point: int = 0,
    log_start_offset: int = 0,
    high_watermark: int = 0,
    filesystem: Filesystem = REAL,
    now_ms: int = NOW_MS,
) -> Log:
    return Log.open(
        log_dir / str(PARTITION),
        PARTITION,
        TOPIC_ID,
        topic_config or TopicConfig(),
        now_ms=now_ms,
        was_clean=was_clean,
        recovery_point=recovery_point,
        log_start_offset=log_start_offset,
        high_watermark=high_watermark,
        filesystem=filesystem,
    )


def batch(
    count: int = 1,
    *,
    value_bytes: int = 20,
    timestamp: int = NOW_MS,
    key: bytes | None = b"k",
    producer_id: int = -1,
    epoch: int = 0,
    sequence: int = 0,
    base_offset: int = 0,
    leader_epoch: int = -1,
    compression: Compression = Compression.NONE,
    is_transactional: bool = False,
) -> memoryview:
    """A writable batch of ``count`` records, one millisecond apart."""
    is_idempotent = producer_id >= 0
    return memoryview(
        build_batch(
            [Record(key, bytes([65 + i % 26]) * value_bytes, timestamp=timestamp + i) for i in range(count)],
            base_offset=base_offset,
            leader_epoch=leader_epoch,
            compression=compression,
            producer_id=producer_id,
            producer_epoch=epoch if is_idempotent else -1,
            base_sequence=sequence if is_idempotent else -1,
            is_transactional=is_transactional,
        )
    )


def append(log: Log, *batches: memoryview, leader_epoch: int = 5, now_ms: int = NOW_MS) -> AppendResult:
    """Append each; the last result. They must be accepted."""
    for one in batches:
        result = log.append_as_leader(one, leader_epoch, now_ms)
        assert result.error is ErrorCode.NONE, result
    return result


def fill(log: Log, batches: int, **kind: object) -> None:
    for _ in range(batches):
        append(log, batch(**kind))  # type: ignore[arg-type]


def headers(data: Buffer) -> list[BatchHeader]:
    return [header for _, header in walk(data)]


def read_all(log: Log, start: int | None = None, max_bytes: int = 1 << 20, end: int | None = None) -> bytes:
    """Everything from ``start`` on as a client would fetch it, slice by slice."""
    offset = log.local_log_start_offset if start is None else start
    end_offset = log.log_end_offset if end is None else end
    parts = []
    while (located := log.locate(offset, max_bytes, end_offset)) is not None:
        data = log.read(located)
        assert data
        parts.append(data)
        assert headers(data)[0].last_offset >= offset
        offset = headers(data)[-1].next_offset
    return b"".join(parts)


class FailingFilesystem(Filesystem):
    """Calls ``decide(name)`` before each system call that changes the disk; it may raise, or return a number of
    bytes after which a write ends short."""

    def __init__(self, decide: Callable[[str], int | None]) -> None:
        self._decide = decide

    def create(self, path: Path) -> int:
        self._decide("create")
        return super().create(path)

    def pwrite(self, fd: int, data: Buffer, position: int) -> int:  # type: ignore[override]
        allowed = self._decide("pwrite")
        return os.pwrite(fd, memoryview(data)[:allowed], position)

    def truncate(self, fd: int, size_bytes: int) -> None:  # type: ignore[override]
        self._decide("truncate")
        os.ftruncate(fd, size_bytes)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._decide("fdatasync")
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        self._decide("fsync")
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:  # type: ignore[override]
        self._decide("rename")
        os.rename(source, target)

    def unlink(self, path: Path) -> None:  # type: ignore[override]
        self._decide("unlink")
        os.unlink(path)

    def mkdir(self, path: Path) -> None:  # type: ignore[override]
        self._decide("mkdir")
        os.mkdir(path)
