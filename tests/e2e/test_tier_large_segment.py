"""One segment of 1 GiB: it goes to the object store in parts, so the broker's memory does not grow with it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.e2e.tiered import create, figure, hurried, is_tiered, storage, until
from tests.servers.raw_client import RawClient, one_batch, produce_request
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.records.batch import walk_whole
from tierlog.records.records import read_records
from tierlog.wire.messages.produce import ProduceResponse

GIB = 1 << 30
MIB = 1 << 20
VALUE_BYTES = 1_000_000
DIFFERENT = 8
IN_FLIGHT = 8
PART_BYTES = 8 * MIB
SLACK_BYTES = 24 * MIB


class ResidentMemory:
    """Samples a process's resident memory until the block ends."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.begin_bytes = self.peak_bytes = self.now_bytes()

    def now_bytes(self) -> int:
        rows = (line.split() for line in self._status.read_text().splitlines())
        return next(int(row[1]) * 1024 for row in rows if row[0] == "VmRSS:")

    def _sample(self) -> None:
        while not self._over.wait(0.01):
            self.peak_bytes = max(self.peak_bytes, self.now_bytes())

    def __enter__(self) -> ResidentMemory:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()


def values() -> list[bytes]:
    return [bytes([number]) * VALUE_BYTES for number in range(DIFFERENT)]


def fill(client: RawClient, topic: str, first: int, count: int) -> None:
    """One record per batch: record n holds value n modulo DIFFERENT."""
    requests = [produce_request(topic, {0: one_batch(value)}, acks=1) for value in values()]
    received = 0
    for sent in range(count):
        client.send(requests[(first + sent) % DIFFERENT], 12)
        if sent - received >= IN_FLIGHT:
            receive(client)
            received += 1
    for _ in range(count - received):
        receive(client)


def receive(client: RawClient) -> None:
    _, answer = client.receive(ProduceResponse, 12)
    row = answer.responses[0].partition_responses[0]
    assert row.error_code == ErrorCode.NONE, row.error_message


def stalls(broker: BrokerProcess) -> dict[str, float]:
    prefix = "tierlog_loop_stall_seconds_bucket"
    return {name.split('"')[1]: value for name, value in broker.metrics().items() if name.startswith(prefix)}


@pytest.mark.slow
def test_a_segment_of_one_gib_streams_to_the_store(tmp_path: Path) -> None:
    topic = "large"
    with hurried(tmp_path, flush_mode="os") as broker, RawClient(broker.port) as client:
        create(broker, topic, segment_bytes=str(GIB), internal_segment_bytes=str(GIB))
        count = GIB // (VALUE_BYTES + 200)
        fill(client, topic, 0, count)
        assert storage(broker, topic)[0]["local"]["segments"] == 1
        assert broker.process is not None
        before = stalls(broker)
        with ResidentMemory(broker.process.pid) as memory:
            began = time.monotonic()
            fill(client, topic, count, 2)  # the first of them seals the segment
            until(lambda: is_tiered(broker, topic), timeout_s=60)
            seconds = time.monotonic() - began
        slow = {le: value - before[le] for le, value in stalls(broker).items()}
        (row,) = storage(broker, topic)
        assert row["remote"]["segments"] == 1
        assert row["remote"]["bytes"] > 0.99 * GIB
        grown_bytes = memory.peak_bytes - memory.begin_bytes
        figure(
            f"{row['remote']['bytes'] / MIB:.0f} MiB in {seconds:.1f} s, memory {memory.begin_bytes / MIB:.0f} MiB"
            f" and {grown_bytes / MIB:.1f} MiB more; loop stalls over 50 ms: {slow['+Inf'] - slow['0.05']:.0f}"
        )
        assert grown_bytes <= 2 * PART_BYTES + SLACK_BYTES
        for offset in (0, 1, 357, 1000, row["tiered_end_offset"] - 1):
            check(client, topic, offset)


def check(client: RawClient, topic: str, offset: int) -> None:
    """What a fetch from ``offset`` on brings are the right records, in order."""
    got = client.fetch(topic, offset, max_wait_ms=10_000, partition_max_bytes=3 * MIB)
    records = bytes(got.records or b"")
    found = [
        (record.offset, bytes(record.value or b"") == bytes([record.offset % DIFFERENT]) * VALUE_BYTES)
        for position, header in walk_whole(records)
        for record in read_records(records, position, header)
    ]
    assert found
    assert found == [(offset + n, True) for n in range(len(found))]
