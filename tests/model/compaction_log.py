"""A log of segment files as compaction sees it, without the Log: written batch by batch, compacted, read back."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from tierlog.config.topic import TopicConfig
from tierlog.log.compaction.plan import CompactionPlan
from tierlog.log.compaction.run import CompactionRun
from tierlog.log.producers.state import ProducerState
from tierlog.records.batch import BatchHeader, Compression, parse_header, verify_crc, walk
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, build_batch, read_records
from tierlog.types import AbortedTransaction

CONFIG = TopicConfig(cleanup_policy=frozenset({"compact"}), delete_retention_ms=1000)


@dataclass
class Source:
    base_offset: int
    end_offset: int
    log_path: Path

    @property
    def size_bytes(self) -> int:
        return self.log_path.stat().st_size


@dataclass
class FileLog:
    directory: Path
    config: TopicConfig = CONFIG
    sources: list[Source] = field(default_factory=list)
    producers: ProducerState = field(default_factory=ProducerState)
    aborted: list[AbortedTransaction] = field(default_factory=list)
    log_end_offset: int = 0

    def roll(self) -> None:
        if self.sources and self.sources[-1].base_offset == self.log_end_offset:
            return
        path = self.directory / f"{self.log_end_offset:020d}.log"
        path.touch()
        self.sources.append(Source(self.log_end_offset, self.log_end_offset, path))

    def append(self, batch: bytearray) -> None:
        if not self.sources:
            self.roll()
        header = parse_header(batch)
        assert header.base_offset == self.log_end_offset
        with self.sources[-1].log_path.open("ab") as file:
            file.write(batch)
        aborted = self.producers.replay(batch, 0, header, 0)
        if aborted is not None:
            self.aborted.append(aborted)
        self.log_end_offset = self.sources[-1].end_offset = header.next_offset

    def put(self, records: list[Record], codec: Compression = Compression.NONE, **fields: int) -> None:
        self.append(build_batch(records, base_offset=self.log_end_offset, compression=codec, **fields))

    def end_transaction(self, producer_id: int, *, is_commit: bool) -> None:
        self.append(
            build_end_transaction_marker(
                EndTransactionMarker(is_commit, 0),
                producer_id=producer_id,
                producer_epoch=0,
                timestamp_ms=0,
                base_offset=self.log_end_offset,
            )
        )

    def compact(
        self,
        first_dirty: int,
        end: int,
        now_ms: int = 0,
        map_limit_bytes: int = 10**6,
        slice_bytes: int = 300,
    ) -> CompactionRun:
        """One round below ``end``, a segment border."""
        run = CompactionRun(
            self.sources,
            CompactionPlan(first_dirty, end, 0, 1, True),
            self.config,
            aborted=self.aborted,
            producers=self.producers.freeze(),
            now_ms=now_ms,
            directory=self.directory,
            map_limit_bytes=map_limit_bytes,
            slice_bytes=slice_bytes,
        )
        for cleaned in run.steps():
            if cleaned is None:
                continue
            old = [source for source in self.sources if source.base_offset in cleaned.old_base_offsets]
            assert [source.base_offset for source in old] == cleaned.old_base_offsets
            borders = (old[0].base_offset, old[-1].end_offset)
            self.aborted = [
                txn for txn in self.aborted if not borders[0] <= txn.last_offset < borders[1]
            ] + cleaned.aborted_transactions
            for source in old:
                source.log_path.unlink()
            path = self.directory / f"{cleaned.base_offset:020d}.log"
            os.rename(cleaned.path, path)
            assert path.stat().st_size == cleaned.size_bytes
            at = self.sources.index(old[0])
            self.sources[at : at + len(old)] = [Source(*borders, path)]
        assert not list(self.directory.glob("*.cleaned"))
        return run

    def batches(self) -> list[tuple[BatchHeader, list[Record]]]:
        """All batches, checksums and order checked."""
        found = []
        last_offset = -1
        for source in self.sources:
            data = source.log_path.read_bytes()
            for pos, header in walk(data):
                assert verify_crc(data, pos, header)
                assert last_offset < header.base_offset
                assert source.base_offset <= header.base_offset <= header.last_offset < source.end_offset
                last_offset = header.last_offset
                found.append((header, read_records(data, pos, header)))
        return found

    def records(self) -> dict[int, tuple[bytes | None, bytes | None, int]]:
        """offset -> (key, value, timestamp) of all data records."""
        return {
            record.offset: (
                None if record.key is None else bytes(record.key),
                None if record.value is None else bytes(record.value),
                record.timestamp,
            )
            for header, records in self.batches()
            if not header.is_control
            for record in records
        }
