"""Walking the batches of a segment file, in chunks of bounded size.

``walk_headers`` trusts checksums and reads as little as it can; ``walk_verified`` reads every byte. Both stop at
the first position where no whole batch begins, and the caller sees where that is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from tierlog.kernel import compiled
from tierlog.records.batch import (
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    MAGIC_AT,
    BatchHeader,
    InvalidBatch,
    parse_header,
    verify_crc,
)
from tierlog.types import Buffer

HEADER_CHUNK_BYTES = 8192
VERIFY_CHUNK_BYTES = 1 << 20
RUN_CHUNK_BYTES = 1 << 16
RUN_BATCHES_MAX = 512


class FoundBatch(NamedTuple):
    """A batch found in a file; ``buffer[at:]`` begins with it, but holds all of it only in a verified walk."""

    position: int
    header: BatchHeader
    buffer: Buffer
    at: int


class Run(NamedTuple):
    """Batches that follow each other from ``position`` of a file on, and from ``buffer[at]`` on. Several are whole there, as
    is a verified one."""

    position: int
    headers: list[BatchHeader]
    buffer: Buffer
    at: int


def walk_headers(
    fd: int, position: int, end: int, chunk_bytes: int = HEADER_CHUNK_BYTES
) -> Iterator[FoundBatch]:
    """Batches that lie wholly in ``[position, end)``, each header with its first bytes."""
    buffer, start = b"", position
    while end - position >= HEADER_BYTES:
        at = position - start
        if len(buffer) - at < HEADER_BYTES:
            buffer, start, at = os.pread(fd, min(chunk_bytes, end - position), position), position, 0
        try:
            header = parse_header(buffer, at)
        except InvalidBatch:
            return
        following = position + LOG_OVERHEAD_BYTES + header.batch_length
        if following > end:
            return
        yield FoundBatch(position, header, buffer, at)
        position = following


def walk_verified(fd: int, position: int, end: int) -> Iterator[FoundBatch]:
    """As ``walk_headers``, but with the whole batch in the buffer and its checksum verified."""
    for run in runs(fd, position, end, verify=True):
        position, at = run.position, run.at
        for header in run.headers:
            yield FoundBatch(position, header, run.buffer, at)
            position += LOG_OVERHEAD_BYTES + header.batch_length
            at += LOG_OVERHEAD_BYTES + header.batch_length


def runs(fd: int, position: int, end: int, *, verify: bool) -> Iterator[Run]:
    """The batches of ``walk_verified`` or of ``walk_headers``, as many together as the kernel finds in one call. Memory: the
    largest batch that the file can hold, and only to verify one whose well-formed header claims that size."""
    chunk_bytes = VERIFY_CHUNK_BYTES if verify else RUN_CHUNK_BYTES
    buffer, start = b"", position
    while end - position >= HEADER_BYTES:
        at = position - start
        if len(buffer) - at < HEADER_BYTES:
            buffer, start, at = os.pread(fd, min(chunk_bytes, end - position), position), position, 0
        if compiled is not None:
            headers, stop = compiled.headers(buffer, at, len(buffer), verify, RUN_BATCHES_MAX, BatchHeader)
            if headers:
                yield Run(position, headers, buffer, at)
                position = start + stop
                continue
        try:
            header = parse_header(buffer, at)
        except InvalidBatch:
            return
        size = LOG_OVERHEAD_BYTES + header.batch_length
        if position + size > end:
            return
        if verify:
            if len(buffer) - at < size:
                wanted = min(max(chunk_bytes, size), end - position)
                buffer, start, at = os.pread(fd, wanted, position), position, 0
            if not verify_crc(buffer, at, header):
                return
        yield Run(position, [header], buffer, at)
        position += size


def holds_valid_batch(fd: int, position: int, end: int, lowest_offset: int) -> bool:
    """Whether ``next_valid_batch`` would find one."""
    return next_valid_batch(fd, position, end, lowest_offset) >= 0


def next_valid_batch(fd: int, position: int, end: int, lowest_offset: int) -> int:
    """The position in ``[position, end)`` of the first whole batch with a good checksum and an offset >= ``lowest_offset``;
    -1 when there is none.

    Tells damage in the middle of a log from the torn tail of a crash. Looks at every byte that could be a magic byte;
    checks of offset and length reject nearly all of them before a checksum is computed.
    """
    while end - position >= HEADER_BYTES:
        window = os.pread(fd, min(VERIFY_CHUNK_BYTES, end - position), position)
        if len(window) < HEADER_BYTES:
            return -1
        found = window.find(b"\x02", MAGIC_AT)
        while found >= 0 and found - MAGIC_AT + HEADER_BYTES <= len(window):
            if _is_batch(fd, window, found - MAGIC_AT, position, end, lowest_offset):
                return position + found - MAGIC_AT
            found = window.find(b"\x02", found + 1)
        position += max(1, len(window) - HEADER_BYTES + 1)
    return -1


def _is_batch(fd: int, window: bytes, at: int, window_position: int, end: int, lowest_offset: int) -> bool:
    try:
        header = parse_header(window, at)
    except InvalidBatch:
        return False
    start = window_position + at
    if not lowest_offset <= header.base_offset < lowest_offset + 2**31 or start + header.size_bytes > end:
        return False
    return verify_crc(os.pread(fd, header.size_bytes, start), 0, header)
