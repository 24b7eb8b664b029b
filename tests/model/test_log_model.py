"""The log against a list of batches: any order of appends, rolls, cuts, deletions, stops and torn tails."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.log.logs import NOW_MS, batch, config, headers, open_log, read_all
from tierlog.errors import ErrorCode
from tierlog.log.log import Log
from tierlog.records.batch import BatchHeader, Compression, parse_header
from tierlog.records.records import read_records

SIZES = st.integers(0, 400)
SHARES = st.floats(0, 1)


class LogMachine(RuleBasedStateMachine):
    """``batches``: what the local log must hold, as (header, bytes)."""

    log: Log

    def __init__(self) -> None:
        super().__init__()
        self.log_dir = Path(tempfile.mkdtemp(prefix="log-model-"))
        self.batches: list[tuple[BatchHeader, bytes]] = []
        self.end_offset = 0
        self.leader_epoch = 0
        self.sequences: dict[int, int] = {}

    @initialize(segment_bytes=st.integers(800, 6000), interval=st.sampled_from([0, 100, 1000]))
    def start(self, segment_bytes: int, interval: int) -> None:
        self.config = config(segment_bytes=segment_bytes, index_interval_bytes=interval)
        self.log = open_log(self.log_dir, self.config)

    def teardown(self) -> None:
        shutil.rmtree(self.log_dir)

    def remember(self, data: bytes) -> None:
        header = parse_header(data, 0)
        self.batches.append((header, data))
        self.end_offset = header.next_offset

    @rule(
        count=st.integers(1, 5),
        value_bytes=SIZES,
        age_ms=st.integers(-1000, 1000),
        codec=st.sampled_from([Compression.NONE, Compression.LZ4]),
        producer_id=st.sampled_from([-1, -1, 7, 8]),
        raise_epoch=st.booleans(),
    )
    def append(
        self,
        count: int,
        value_bytes: int,
        age_ms: int,
        codec: Compression,
        producer_id: int,
        raise_epoch: bool,
    ) -> None:
        if raise_epoch:
            self.leader_epoch += 1
            self.log.assign_epoch(self.leader_epoch)
        sequence = self.sequences.get(producer_id, 0)
        records = batch(
            count,
            value_bytes=min(value_bytes, 500 // count),
            timestamp=NOW_MS - age_ms,
            compression=codec,
            producer_id=producer_id,
            sequence=sequence,
        )
        result = self.log.append_as_leader(records, self.leader_epoch, NOW_MS)
        assert result.error is ErrorCode.NONE
        assert (result.base_offset, result.last_offset) == (self.end_offset, self.end_offset + count - 1)
        if producer_id >= 0:
            self.sequences[producer_id] = sequence + count
        self.remember(bytes(records))

    @rule(producer_id=st.sampled_from([7, 8]))
    def append_again(self, producer_id: int) -> None:
        """The last batch of a producer once more: answered with its offsets, not appended."""
        mine = [data for header, data in self.batches if header.producer_id == producer_id]
        if (
            mine
            and parse_header(mine[-1], 0).base_sequence + parse_header(mine[-1], 0).records_count
            == self.sequences[producer_id]
        ):
            duplicate = bytearray(mine[-1])
            first = parse_header(duplicate, 0)
            duplicate[0:8] = bytes(8)
            result = self.log.append_as_leader(memoryview(duplicate), self.leader_epoch, NOW_MS)
            assert result.is_duplicate, result
            assert (result.base_offset, result.last_offset) == (first.base_offset, first.last_offset)

    @rule(gap=st.integers(0, 0), count=st.integers(1, 4))
    def append_as_follower(self, gap: int, count: int) -> None:
        records = b"".join(
            bytes(batch(base_offset=self.end_offset + gap + i, leader_epoch=self.leader_epoch))
            for i in range(count)
        )
        cut_off = bytes(batch(base_offset=self.end_offset + count))[:40]
        result = self.log.append_as_follower(memoryview(bytearray(records + cut_off)), NOW_MS)
        assert result.error is ErrorCode.NONE
        size = len(records) // count
        for at in range(0, len(records), size):
            self.remember(records[at : at + size])

    @rule()
    def roll(self) -> None:
        self.log.roll(NOW_MS)

    @rule(start=SHARES, end=SHARES, max_bytes=st.integers(1, 5000))
    def read(self, start: float, end: float, max_bytes: int) -> None:
        boundaries = [header.next_offset for header, _ in self.batches] or [self.end_offset]
        end_offset = boundaries[int(end * (len(boundaries) - 1))]
        first = self.log.local_log_start_offset
        offset = first + int(start * (self.end_offset - first))
        located = self.log.locate(offset, max_bytes, end_offset)
        wanted = [
            data
            for header, data in self.batches
            if header.last_offset >= offset and header.next_offset <= end_offset
        ]
        if not wanted:
            assert located is None
            return
        assert located is not None
        data = self.log.read(located)
        assert data == bytes(self.log.read_nowait(located) or data)
        assert len(data) <= max_bytes or data == wanted[0]
        found = headers(data)
        assert data == b"".join(wanted[: len(found)])

    @rule(start=SHARES, max_bytes=st.integers(1, 3000))
    def read_on(self, start: float, max_bytes: int) -> None:
        first = self.log.local_log_start_offset
        offset = first + int(start * (self.end_offset - first))
        wanted = b"".join(data for header, data in self.batches if header.last_offset >= offset)
        assert read_all(self.log, offset, max_bytes) == wanted

    @rule(age_ms=st.integers(-1100, 1100))
    def search_by_time(self, age_ms: int) -> None:
        timestamp = NOW_MS - age_ms
        records = [
            (record.timestamp, record.offset, header.partition_leader_epoch)
            for header, data in self.batches
            for record in read_records(data, 0, header)
            if record.offset >= self.log.local_log_start_offset
        ]
        wanted = next((row for row in records if row[0] >= timestamp), None)
        assert self.log.offset_for_timestamp(timestamp) == wanted

    @rule(share=SHARES)
    @precondition(lambda self: self.batches)
    def truncate(self, share: float) -> None:
        index = int(share * len(self.batches))
        if index >= len(self.batches):
            return
        offset = self.batches[index][0].base_offset
        assert self.log.truncate_to(offset, NOW_MS)
        del self.batches[index:]
        self.end_offset = offset
        self.sequences_from_batches()

    def sequences_from_batches(self) -> None:
        """What is no longer in the log may be sent again; nothing known: any sequence is taken."""
        known = {entry.producer_id: entry for entry in self.log.producers.entries()}
        for producer_id in list(self.sequences):
            entry = known.get(producer_id)
            if entry is None or not entry.batches:
                del self.sequences[producer_id]
            else:
                self.sequences[producer_id] = entry.batches[-1].last_sequence + 1

    @rule(share=SHARES)
    def delete_below(self, share: float) -> None:
        offset = int(share * self.end_offset)
        for due in self.log.delete_segments_below(offset, NOW_MS):
            due.path.unlink()
        first = self.log.local_log_start_offset
        assert first <= max(offset, first)
        self.batches = [pair for pair in self.batches if pair[0].last_offset >= first]

    @rule(torn=st.booleans(), cut=st.integers(1, 90), known=st.booleans())
    def stop_unclean(self, torn: bool, cut: int, known: bool) -> None:
        start = self.log.log_start_offset
        path = self.log.segments.active.path(".log")
        recovery_point = self.log.recovery_point if known else 0
        self.log.close_abruptly()
        if torn:
            with path.open("ab") as file:
                file.write(bytes(batch(2, base_offset=self.end_offset))[:cut])
        self.log = open_log(self.log_dir, self.config, recovery_point=recovery_point, log_start_offset=start)
        self.sequences_from_batches()

    @rule()
    def flush(self) -> None:
        self.log.flush()
        assert self.log.recovery_point == self.end_offset

    @rule()
    def stop_clean(self) -> None:
        start = self.log.log_start_offset
        epochs = self.log.epochs.entries
        self.log.close_clean()
        assert self.log.recovery_point == self.end_offset
        self.log = open_log(
            self.log_dir, self.config, was_clean=True, recovery_point=self.end_offset, log_start_offset=start
        )
        assert self.log.epochs.entries == epochs

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "log"):
            return
        log = self.log
        assert log.log_end_offset == self.end_offset
        assert not log.is_lossy, log.lossy_reason
        assert 0 <= log.log_start_offset <= log.local_log_start_offset <= log.log_end_offset
        local = [
            data for header, data in self.batches if header.base_offset >= log.segments.first.base_offset
        ]
        assert log.size_bytes == sum(map(len, local))
        assert log.segment_count == len(log.sealed_segments()) + 1
        assert read_all(log) == b"".join(data for _, data in self.batches)


LogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLogModel = LogMachine.TestCase
