"""Logs with the kernel and with its twin: the same answers, states and files after follower appends and recoveries."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.kernel.batches import INPUTS, batch, log_bytes, spoilt
from tests.unit.log.logs import NOW_MS, PARTITION, config, open_log
from tierlog import kernel
from tierlog.broker.following import peer_reads
from tierlog.errors import ErrorCode
from tierlog.log import append, noting, scan
from tierlog.log.log import Log

if kernel.compiled is None:
    pytest.skip("no kernel here", allow_module_level=True)
SMALL = config(segment_bytes=60_000, index_interval_bytes=300)
LOGS = max(4, INPUTS // 20)


def state(log: Log) -> object:
    """All that an append or a recovery changes."""
    segments = [
        {
            name: getattr(segment, name)
            for name in segment.__slots__
            if name
            not in ("_descriptor", "directory", "filesystem", "offset_index", "time_index", "txn_index")
        }
        | {
            "entries": [
                index.entry(n)
                for index in (segment.offset_index, segment.time_index)
                for n in range(index.count)
            ]
        }
        | {"aborted": list(segment.txn_index.entries)}
        for segment in log.segments
    ]
    producers = [
        {name: getattr(entry, name) for name in entry.__slots__} for entry in log.producers.entries()
    ]
    return (
        *(segments, producers, log.producers.map_end_offset, log.epochs.entries, log.log_end_offset),
        *(
            log.log_start_offset,
            log.segments.size_bytes,
            log.bytes_since_writeback,
            (log._positions._appended, log._positions._positions),
        ),
    )


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


class Two:
    """The same done twice: with the kernel, then with the twin."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directories = [directory / "kernel", directory / "twin"]
        for each in self.directories:
            each.mkdir(parents=True)
        self._monkeypatch = monkeypatch
        self.logs: list[Log] = []

    @contextmanager
    def _twin(self) -> Iterator[None]:
        with self._monkeypatch.context() as patched:
            for module in (append, noting, scan):
                patched.setattr(module, "compiled", None)
            yield

    def open(self, recovery_point: int = 0) -> None:
        """Trusts what lies below the recovery point."""
        how = {"was_clean": recovery_point > 0, "recovery_point": recovery_point}
        self.logs = [open_log(self.directories[0], SMALL, **how)]
        with self._twin():
            self.logs.append(open_log(self.directories[1], SMALL, **how))

    def append(self, data: bytearray) -> ErrorCode:
        told = self.logs[0].append_as_follower(memoryview(bytearray(data)), NOW_MS)
        with self._twin():
            assert told == self.logs[1].append_as_follower(memoryview(bytearray(data)), NOW_MS)
        return told.error

    def check(self) -> None:
        assert state(self.logs[0]) == state(self.logs[1])
        one, other = (files(each) for each in self.directories)
        assert one == other

    def close(self) -> None:
        for log in self.logs:
            log.close_abruptly()


def test_follower_appends_and_recoveries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(31)
    told = {True: 0, False: 0}
    for number in range(LOGS):
        two = Two(tmp_path / str(number), monkeypatch)
        two.open()
        for _ in range(6):
            data = log_bytes(rng, two.logs[0].log_end_offset)
            refused = two.append(spoilt(rng, data) if rng.random() < 0.4 else data)
            told[refused is not ErrorCode.NONE] += 1
            two.check()
        two.close()
        logs = sorted((two.directories[0] / str(PARTITION)).glob("*.log"))
        if rng.random() < 0.7:
            chosen = rng.choice(logs)
            damaged = bytearray(chosen.read_bytes())
            if damaged:
                damaged = spoilt(rng, damaged)
            for each in two.directories:
                (each / str(PARTITION) / chosen.name).write_bytes(damaged)
        two.open()
        two.check()
        two.close()
        shutil.rmtree(tmp_path / str(number))
    assert min(told.values()) > LOGS // 2, told


def test_recovery_of_batches_beyond_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that end behind what is read at once, and more of them than one call takes."""
    rng = random.Random(32)
    two = Two(tmp_path, monkeypatch)
    two.open()
    data, offset = bytearray(), 0
    for size in [*range(600), scan.VERIFY_CHUNK_BYTES, *range(0, 9_000, 500), 2 * scan.VERIFY_CHUNK_BYTES, 5]:
        data += batch(rng, offset, 1, 0, size)
        offset += 1
    assert two.append(data) is ErrorCode.NONE
    two.check()
    two.close()
    two.open()
    assert two.logs[0].log_end_offset == offset
    two.check()
    two.close()


def test_rebuilt_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a log that was closed, whose index files are gone."""
    rng = random.Random(33)
    two = Two(tmp_path, monkeypatch)
    two.open()
    for size in (20, 600, 5_000, 70_000):
        for _ in range(8):
            data, offset = bytearray(), two.logs[0].log_end_offset
            for number in range(5):
                data += batch(rng, offset + number, 1, 0, size)
            assert two.append(data) is ErrorCode.NONE
    end_offset = two.logs[0].log_end_offset
    assert end_offset > 100
    two.close()
    for each in two.directories:
        for path in (each / str(PARTITION)).glob("*index"):
            path.unlink()
    two.open(end_offset)
    assert two.logs[0].log_end_offset == end_offset
    two.check()
    two.close()


def test_what_another_replica_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(34)
    refused = 0
    for number in range(INPUTS):
        data = bytes(spoilt(rng, log_bytes(rng)))
        told = sent(data)
        with monkeypatch.context() as twin:
            twin.setattr(peer_reads, "compiled", None)
            assert told == sent(data), f"input {number}"
        refused += isinstance(told, str)
    assert INPUTS // 10 < refused < INPUTS


def sent(data: bytes) -> object:
    try:
        return peer_reads.proved(data)
    except peer_reads.NotThere as refusal:
        return str(refusal)
