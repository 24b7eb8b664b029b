"""Reads partitions back and holds each record against what its offset says it must be."""

from __future__ import annotations

import time

from tests.chaos.load import Target, Violations, key_of, value_of
from tests.servers.raw_client import RawClient
from tierlog.errors import ErrorCode
from tierlog.records.batch import verify_crc, walk_whole
from tierlog.records.records import read_records

STALL_S = 30.0


class Reader:
    """Reads one partition of one broker."""

    def __init__(self, client: RawClient, target: Target, violations: Violations) -> None:
        self._client = client
        self._target = target
        self._violations = violations

    def high_watermark(self) -> int:
        """As soon as the partition has a leader."""
        deadline_s = time.monotonic() + STALL_S
        while True:
            answer = self._client.list_offsets(self._target.topic, -1, self._target.partition)
            if answer.error_code == ErrorCode.NONE:
                return answer.offset
            assert time.monotonic() < deadline_s, f"{self._target}: {ErrorCode(answer.error_code).name}"
            time.sleep(0.02)

    def read(self, start: int, end: int, *, compacted: bool = False) -> dict[bytes, int]:
        """Checks ``[start, end)``; returns the last record number of each key. A compacted log may have gaps."""
        last: dict[bytes, int] = {}
        offset = expected = start
        progressed_s = time.monotonic()
        while offset < end:
            got = self._client.fetch(
                self._target.topic,
                offset,
                self._target.partition,
                max_wait_ms=500,
                partition_max_bytes=1 << 20,
            )
            if got.error_code == ErrorCode.OFFSET_OUT_OF_RANGE and self._target.topic == "aged":
                # Its retention may have caught up meanwhile; no other topic loses anything.
                earliest = self._client.offset(self._target.topic, -2, self._target.partition)
                if earliest > offset:
                    offset = expected = earliest
                    continue
            if got.error_code:
                self._violations.add(f"{self._target}: {ErrorCode(got.error_code).name} at offset {offset}")
                return last
            records = bytes(got.records or b"")
            for position, header in walk_whole(records):
                if not verify_crc(records, position, header):
                    self._violations.add(f"{self._target}: bad checksum at offset {header.base_offset}")
                for record in read_records(records, position, header) if header.records_count else ():
                    if record.offset < start:
                        continue
                    if record.offset < expected or (record.offset > expected and not compacted):
                        self._violations.add(
                            f"{self._target}: offset {record.offset} where {expected} was due"
                        )
                    expected = record.offset + 1
                    key, value = bytes(record.key or b""), bytes(record.value or b"")
                    if value != value_of(self._target, record.offset) or key != key_of(record.offset):
                        self._violations.add(f"{self._target}: offset {record.offset} holds {value[:40]!r}")
                    last[key] = record.offset
                if header.next_offset > offset:
                    offset = header.next_offset
                    progressed_s = time.monotonic()
            if time.monotonic() - progressed_s > STALL_S:
                self._violations.add(f"{self._target}: nothing comes at offset {offset} of {end}")
                return last
        if not compacted and expected < end:
            self._violations.add(f"{self._target}: ends at {expected} instead of {end}")
        return last

    def read_compacted(self, end: int) -> None:
        """The last record of each key is there."""
        last = self.read(0, end, compacted=True)
        for key in {key_of(n) for n in range(min(end, 1000))}:
            newest = next(n for n in range(end - 1, -1, -1) if key_of(n) == key)
            if last.get(key) != newest:
                self._violations.add(f"{self._target}: {key!r} is at {last.get(key)}, written at {newest}")
