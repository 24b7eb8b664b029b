"""Many readers of a distant store: what is fetched, in how many GETs, and how fast, of tierlog alone.

The store is a directory behind a delay and a bandwidth per GET, so that no server of objects takes part of the processor.
Each run starts cold. Bytes fetched and GETs are counted by the broker; they do not depend on the machine's speed, the
throughput does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bars import Bar, least, most
from benchmarks.measure import Client, Figures, Sample, guarded, measure, raw, run_client
from benchmarks.rows import Sizes
from benchmarks.sides import OS, Side, running, tierlog_side
from benchmarks.tiered_rows import SEGMENT_BYTES
from benchmarks.wire import EARLIEST_LOCAL

LOCAL = "cold: one partition, local"
ONE = "cold: one partition, distant store"
READER = "cold: 1 librdkafka consumer, distant store"
READERS = "cold: 100 librdkafka consumers of 24 partitions, distant store"
SHARED = "cold: 10 librdkafka consumers of one range, distant store"
PARTITIONS = 24
RECORD_BYTES = 16_000
DISTANT = "get.delay.ms=30&get.stream.bytes.per.second=90000000"
_COPY_TIMEOUT_S = 600.0
_FETCHED = "tierlog_remote_fetched_bytes_total"
_GETS = 'tierlog_object_requests_total{verb="get_range"}'
_SERVED = "kafka_server_brokertopicmetrics_remotefetchbytes_total"

_ONCE = most("fetched_per_byte_served", 1.1, against=None)
BARS: dict[str, list[Bar]] = {
    LOCAL: [],
    ONE: [
        least("mb_per_s", 200, against=None),
        least("mb_per_s", 0.8, against_row=LOCAL),
        most("broker_cpu_s_per_gb", 1.5, against_row=LOCAL),
        _ONCE,
    ],
    READER: [_ONCE],
    READERS: [_ONCE, most("gets_per_gib", 300, against=None), least("mb_per_s", 0.9, against_row=READER)],
    SHARED: [_ONCE, most("gets_per_gib", 30, against=None)],
}


class ColdRows:
    """Owns its broker; see ``rows`` for what it measures."""

    rows = BARS

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.failures: list[str] = []

    def run(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        if any(map(wanted, self.rows)):
            yield from guarded("reading a distant store", self._measure(directory, wanted), self.failures)

    def _measure(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        side = tierlog_side(
            directory / "cold",
            {
                "remote.log.manager.task.interval.ms": "1000",
                "log.retention.check.interval.ms": "2000",
                "tierlog.object.store": f"dir:{directory / 'cold' / 'objects'}?{DISTANT}",
            },
        )
        with running(side):
            self._fill(side)
            for row, client in clients().items():
                if wanted(row):
                    yield from guarded(row, self._runs(row, side, client), self.failures)

    def _fill(self, side: Side) -> None:
        tiered = {"remote.storage.enable": "true", "local.retention.bytes": "1"}
        one_bytes = max(self.sizes.read_bytes, 16 * SEGMENT_BYTES)
        many_bytes = max(self.sizes.read_bytes, 3 * SEGMENT_BYTES * PARTITIONS)
        topics: dict[str, tuple[int, dict[str, str], int]] = {
            "local": (1, {}, one_bytes),
            "one": (1, tiered, one_bytes),
            "many": (PARTITIONS, tiered, many_bytes),
        }
        for topic, (partitions, extra, size_bytes) in topics.items():
            config = {"segment.bytes": str(SEGMENT_BYTES), "flush.mode": "os", **extra}
            side.create_topic(topic, partitions, config)
            requests = size_bytes // (4 * RECORD_BYTES * partitions)
            shape = {"records": 4, "bytes": RECORD_BYTES, "spread": partitions}
            run_client(raw("raw_produce", side, topic, requests=requests, acks=1, in_flight=5, **shape))
        deadline = time.monotonic() + _COPY_TIMEOUT_S
        while side.segments("one") > 1 or side.segments("many") > PARTITIONS:
            if time.monotonic() > deadline:
                raise RuntimeError("segments are still local")
            time.sleep(0.5)

    def _runs(self, row: str, side: Side, client: Callable[[Side], Client]) -> Iterator[Sample]:
        for run in range(self.sizes.runs + 1):
            side.go_cold(("local", "one", "many"))
            figures = measure(side, client(side)) | remote_figures(side)
            if run:
                yield row, OS.label, figures


def clients() -> dict[str, Callable[[Side], Client]]:
    return {
        LOCAL: lambda side: raw("raw_fetch", side, "local"),
        ONE: lambda side: raw("raw_fetch", side, "one", until=EARLIEST_LOCAL),
        READER: lambda side: _consumers(side, "one", consumers=1, share=True),
        READERS: lambda side: _consumers(side, "many", consumers=100),
        SHARED: lambda side: _consumers(side, "one", consumers=10, share=True),
    }


def _consumers(side: Side, topic: str, *, consumers: int, share: bool = False) -> Client:
    client = raw("cold_consumers", side, topic, consumers=consumers, bytes=RECORD_BYTES)
    return Client([*client.command, "--share"], client.parse) if share else client


def remote_figures(side: Side) -> Figures:
    """What the broker has read from the store since its start, by what it has served; empty if nothing was remote."""
    found = side.metrics()
    served = found.get(_SERVED, 0.0)
    if not served:
        return {}
    return {
        "fetched_per_byte_served": found[_FETCHED] / served,
        "gets_per_gib": found[_GETS] / (served / (1 << 30)),
        "mb_remote": served / 1e6,
    }
