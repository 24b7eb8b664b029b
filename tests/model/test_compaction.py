"""Compaction against a dictionary: any history, any segment borders, any codec, several rounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.compaction_log import CONFIG, FileLog
from tierlog.log.producers.state import ProducerState, last_batches
from tierlog.records.batch import Compression, walk
from tierlog.records.records import Record

KEYS = st.sampled_from([b"a", b"b", b"c", b"sixteen bytes ky", b"k" * 100, None])
VALUES = st.none() | st.binary(max_size=30)


@dataclass(frozen=True)
class Put:
    records: tuple[tuple[bytes | None, bytes | None, int], ...]
    codec: Compression
    producer_id: int | None
    is_transactional: bool


@dataclass(frozen=True)
class End:
    producer_id: int
    is_commit: bool


PUTS = st.builds(
    Put,
    st.lists(st.tuples(KEYS, VALUES, st.integers(0, 10_000)), min_size=1, max_size=5).map(tuple),
    st.sampled_from([Compression.NONE, Compression.NONE, Compression.LZ4, Compression.GZIP]),
    st.none() | st.integers(0, 2),
    st.booleans(),
)
HISTORIES = st.lists(
    PUTS | PUTS | st.builds(End, st.integers(0, 2), st.booleans()) | st.just("roll"), max_size=40
)


class Model:
    """What was written, and which of it a transaction took back."""

    def __init__(self) -> None:
        self.records: dict[int, tuple[bytes | None, bytes | None, int]] = {}
        self.open: dict[int, list[int]] = {}
        self.aborted_offsets: set[int] = set()

    def expected(self, end_offset: int, *, with_tombstones: bool) -> set[int]:
        """Offsets of the data records that stay when everything below ``end_offset`` is clean."""
        latest: dict[bytes, int] = {}
        for offset, (key, _, _) in self.records.items():
            if offset < end_offset and key is not None and offset not in self.aborted_offsets:
                latest[key] = offset
        kept = {o for o in latest.values() if with_tombstones or self.records[o][1] is not None}
        return kept | {offset for offset in self.records if offset >= end_offset}


def play(history: list[Put | End | str], log: FileLog) -> Model:
    model = Model()
    sequences = dict.fromkeys(range(3), 0)
    log.roll()
    for action in history:
        if action == "roll":
            log.roll()
        elif isinstance(action, End):
            if action.producer_id in model.open:
                offsets = model.open.pop(action.producer_id)
                if not action.is_commit:
                    model.aborted_offsets.update(offsets)
                log.end_transaction(action.producer_id, is_commit=action.is_commit)
        elif isinstance(action, Put):
            base = log.log_end_offset
            fields = {}
            if action.producer_id is not None:
                is_open = action.producer_id in model.open
                fields = {
                    "producer_id": action.producer_id,
                    "producer_epoch": 0,
                    "base_sequence": sequences[action.producer_id],
                    "is_transactional": action.is_transactional or is_open,
                }
                sequences[action.producer_id] += len(action.records)
                if fields["is_transactional"]:
                    offsets = model.open.setdefault(action.producer_id, [])
                    offsets += range(base, base + len(action.records))
            model.records |= {base + i: record for i, record in enumerate(action.records)}
            log.put([Record(*record) for record in action.records], action.codec, **fields)
    for producer_id, offsets in model.open.items():
        model.aborted_offsets.update(offsets)
        log.end_transaction(producer_id, is_commit=False)
    log.roll()
    return model


def check(log: FileLog, model: Model, expected: set[int]) -> None:
    found = log.records()
    assert set(found) == expected
    assert all(found[offset] == model.records[offset] for offset in expected), "nothing may be altered"


@settings(max_examples=150, deadline=None)
@given(HISTORIES, st.integers(0, 40), st.sampled_from([70, 300, 10**6]))
def test_the_last_value_of_each_key_stays(
    history: list[Put | End | str], end_index: int, slice_bytes: int
) -> None:
    with TemporaryDirectory() as directory:
        log = FileLog(Path(directory))
        model = play(history, log)
        end = log.sources[min(end_index, len(log.sources) - 1)].base_offset
        states = {p.producer_id: (p.last_data_offset, p.producer_epoch) for p in log.producers.entries()}
        log.compact(0, end, now_ms=0, slice_bytes=slice_bytes)
        check(log, model, model.expected(end, with_tombstones=True))
        # All of it, from where the first round ended.
        last = log.sources[-1].base_offset
        log.compact(end, last, now_ms=0)
        check(log, model, model.expected(last, with_tombstones=True))
        nexts = {header.next_offset for header, _ in log.batches()}
        assert last == 0 or last in nexts, "the last batch keeps the end of the log"
        for last_data_offset, _ in states.values():
            assert last_data_offset is None or last_data_offset + 1 in nexts, "a producer's last batch"
        # Tombstones stay for delete.retention.ms after the round that first saw them, then they go.
        log.compact(last, last, now_ms=CONFIG.delete_retention_ms - 1)
        check(log, model, model.expected(last, with_tombstones=True))
        log.compact(last, last, now_ms=CONFIG.delete_retention_ms)
        check(log, model, model.expected(last, with_tombstones=False))


@settings(max_examples=60, deadline=None)
@given(HISTORIES, st.integers(100, 900))
def test_rounds_with_a_small_map_come_to_the_same(
    history: list[Put | End | str], map_limit_bytes: int
) -> None:
    with TemporaryDirectory() as directory:
        log = FileLog(Path(directory))
        model = play(history, log)
        last = log.sources[-1].base_offset
        first_dirty = rounds = 0
        while first_dirty < last:
            run = log.compact(first_dirty, last, map_limit_bytes=map_limit_bytes)
            assert run.end_offset > first_dirty, "each round gets on"
            first_dirty = run.end_offset
            rounds += 1
            assert rounds < 200
        check(log, model, model.expected(last, with_tombstones=True))


@settings(max_examples=40, deadline=None)
@given(HISTORIES)
def test_replayed_producers_and_aborts_are_the_same_after_compaction(history: list[Put | End | str]) -> None:
    """Recovery of a compacted log must not forget who may write next, nor show what was aborted."""
    with TemporaryDirectory() as directory:
        log = FileLog(Path(directory))
        model = play(history, log)
        before = last_batches(log.producers.entries())
        last = log.sources[-1].base_offset
        log.compact(0, last)
        for txn in log.aborted:
            assert 0 <= txn.first_offset <= txn.last_offset < last
        assert not set(log.records()) & model.aborted_offsets
        replayed = ProducerState()
        for source in log.sources:
            data = source.log_path.read_bytes()
            for pos, header in walk(data):
                replayed.replay(data, pos, header, 0)
        after = last_batches(replayed.entries())
        assert {pid: after[pid] for pid, (offset, _) in before.items() if offset is not None} == {
            pid: state for pid, state in before.items() if state[0] is not None
        }
        replayed.advance_high_watermark(log.log_end_offset)
        assert replayed.first_unstable_offset is None, "no transaction lost its marker before its records"
