"""Reading back what has left the local disk: tierlog's directory store against Kafka's LocalTieredStorage.

Each run starts cold: tierlog restarts (empty chunk cache) and all files leave the page cache; the first run of
each row only warms up. The same data in a topic without remote storage is read in the same way, for comparison.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bars import Bar, least, most
from benchmarks.measure import Client, Sample, consumer_perf, guarded, measure, raw, run_client
from benchmarks.own_brokers import OwnBrokers
from benchmarks.rows import filler
from benchmarks.sides import APACHE, OS, Side, kafka_side, running, tierlog_side
from benchmarks.wire import EARLIEST_LOCAL, LATEST
from tests.servers.tierlog import BrokerProcess

LOCAL = "read local, cold, discarding client"
REMOTE = "read remote, discarding client"
REMOTE_JAVA = "read remote, ConsumerPerformance"
DELAYED = "read remote, 30 ms added to each GET"
GET_DELAY_MS = 30
PARTITIONS = 6
SEGMENT_BYTES = 16 << 20
_COPY_TIMEOUT_S = 600.0

BARS: dict[str, list[Bar]] = {
    LOCAL: [],
    REMOTE: [
        least("mb_per_s", 1.2),
        least("mb_per_s", 0.8, against_row=LOCAL),
        most("broker_cpu_s_per_gb", 0.7),
        most("fetched_per_byte_served", 1.1, against=None),
    ],
    REMOTE_JAVA: [],
    DELAYED: [
        least("mb_per_s", 0.5, against_row=LOCAL),
        most("fetched_per_byte_served", 1.1, against=None),
    ],
}


class TieredRows(OwnBrokers):
    """Owns its pair of brokers; see ``rows`` for what it measures."""

    rows = BARS
    name = "reading the tier"

    def _measure(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        often = {"remote.log.manager.task.interval.ms": "1000", "log.retention.check.interval.ms": "2000"}
        ours = tierlog_side(directory / "tierlog", often)
        theirs = kafka_side(directory / "kafka", tiered=True)
        with running(ours, theirs):
            remote_records = {}
            for side in (ours, theirs):
                self._fill(side)
                remote_records[side.name] = self._await_copied(side)
            for row, client in self._clients(remote_records).items():
                if wanted(row):
                    yield from guarded(row, self._runs(row, client, (ours, theirs)), self.failures)
            if wanted(DELAYED):
                assert isinstance(ours.process, BrokerProcess)
                store = f"dir:{ours.process.objects}?get.delay.ms={GET_DELAY_MS}"
                ours.process.overrides["tierlog.object.store"] = store
                yield from self._runs(DELAYED, self._clients(remote_records)[REMOTE], (ours,))

    def _fill(self, side: Side) -> None:
        flush = {"flush.mode": "os"} if side.name == OS.side else {}
        local = {"segment.bytes": str(SEGMENT_BYTES), **flush}
        side.create_topic("local", PARTITIONS, local)
        remote = {"remote.storage.enable": "true", "local.retention.bytes": "1"}
        side.create_topic("remote", PARTITIONS, {**local, **remote})
        for topic in ("local", "remote"):
            run_client(filler(self.sizes.read_bytes, PARTITIONS)(side, topic))

    def _await_copied(self, side: Side) -> int:
        """Waits until only active segments are local; returns the records that are remote."""
        deadline = time.monotonic() + _COPY_TIMEOUT_S
        while side.segments("remote") > PARTITIONS:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{side.name}: {side.segments('remote')} segments are still local")
            time.sleep(0.5)
        figures, _ = run_client(self._discard(side, "remote", EARLIEST_LOCAL))
        return int(figures["records"])

    @staticmethod
    def _discard(side: Side, topic: str, until: int) -> Client:
        return raw("raw_fetch", side, topic, until=until)

    def _clients(self, remote_records: dict[str, int]) -> dict[str, Callable[[Side], Client]]:
        return {
            LOCAL: lambda side: self._discard(side, "local", LATEST),
            REMOTE: lambda side: self._discard(side, "remote", EARLIEST_LOCAL),
            REMOTE_JAVA: lambda side: consumer_perf(side, "remote", remote_records[side.name], 1000),
        }

    def _runs(self, row: str, client: Callable[[Side], Client], sides: tuple[Side, ...]) -> Iterator[Sample]:
        for run in range(self.sizes.runs + 1):
            for side in sides:
                side.go_cold(("local", "remote"))
                figures = measure(side, client(side))
                fetched = fetched_bytes(side)
                if fetched is not None and row != LOCAL:
                    figures["fetched_per_byte_served"] = fetched / figures["bytes"]
                if run:
                    yield row, OS.label if side.name == OS.side else APACHE.label, figures


def fetched_bytes(side: Side) -> float | None:
    """Bytes that the broker has read from its object store since it started; None where it does not say."""
    rows = [
        value
        for name, value in side.metrics().items()
        if name.startswith("tierlog_object_bytes_total") and "received" in name
    ]
    return sum(rows) if rows else None
