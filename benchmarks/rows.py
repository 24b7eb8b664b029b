"""The rows that run on one pair of brokers side by side: produce, one-record requests, local reads, latency.

A row prepares a topic per column and then measures runs that alternate between the columns; the first run of
each column only warms up. Rows that restart brokers or need their own are in ``tiered_rows`` and ``single_rows``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bars import Bar, most
from benchmarks.measure import (
    Client,
    Sample,
    consumer_perf,
    guarded,
    librdkafka,
    measure,
    producer_perf,
    raw,
    run_client,
)
from benchmarks.sides import ACK, APACHE, OS, Side, Variant, kafka_side, running, tierlog_side

COLUMNS = (OS, ACK, APACHE)
MEMORY = "memory after the rows above"
LOCAL_READ = "read local, discarding client"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work a run does; ``quick`` is for development, its figures are noisy."""

    records_100b: int = 3_000_000
    records_1k: int = 600_000
    lz4_records: int = 1_000_000
    requests: int = 20_000
    read_bytes: int = 1_000_000_000
    latency_records: int = 20_000
    commits: int = 1_000_000
    stall_s: float = 60.0
    runs: int = 3
    backfill_bytes: int = 2 << 30


QUICK = Sizes(200_000, 60_000, 80_000, 4_000, 120_000_000, 4_000, 20_000, 10.0, 1, 512 << 20)


@dataclass(frozen=True, slots=True)
class Row:
    """``client(side, topic)`` makes one run; ``fill`` writes what it reads, once per column."""

    name: str
    client: Callable[[Side, str], Client]
    partitions: int = 1
    config: Mapping[str, str] = field(default_factory=dict)
    fill: Callable[[Side, str], Client] | None = None
    columns: Sequence[Variant] = COLUMNS
    bars: Sequence[Bar] = ()

    def measure(self, sides: Mapping[str, Side], runs: int) -> Iterator[Sample]:
        """One run after the other as they come; the warm-up runs are left out."""
        topics = {column.label: self._prepare(sides[column.side], column) for column in self.columns}
        for run in range(runs + 1):
            for column in self.columns:
                side = sides[column.side]
                figures = measure(side, self.client(side, topics[column.label]))
                if run:
                    yield self.name, column.label, figures
        for column in self.columns:
            sides[column.side].delete_topic(topics[column.label])

    def _prepare(self, side: Side, column: Variant) -> str:
        side.topics_made += 1
        topic = f"bench-{side.topics_made}"
        side.create_topic(topic, self.partitions, {**self.config, **column.topic_config})
        if self.fill is not None:
            run_client(self.fill(side, topic))
        return topic


def produce_rows(sizes: Sizes) -> Iterator[Row]:
    gb = most("broker_cpu_s_per_gb", 0.5)
    limits = {(100, 1): 0.3, (1000, 1): 0.4, (100, 100): 0.4, (1000, 100): 0.7}
    for size, records in ((100, sizes.records_100b), (1000, sizes.records_1k)):
        for partitions in (1, 100):
            yield Row(
                f"produce {size} B, default batching, {partitions} partitions",
                lambda side, topic, n=records, b=size: producer_perf(side, topic, n, b),  # type: ignore[misc]
                partitions,
                bars=[most("broker_cpu_s_per_gb", limits[size, partitions])],
            )
    lz4 = {"compression.type": "lz4", "batch.size": "262144", "linger.ms": "20"}
    yield Row(
        "produce 1000 B, 256 KiB batches, lz4",
        lambda side, topic: producer_perf(side, topic, sizes.lz4_records, 1000, lz4),
        bars=[gb],
    )
    for size, records in ((100, sizes.records_1k), (1000, sizes.records_1k)):
        yield Row(
            f"produce {size} B, librdkafka",
            lambda side, topic, n=records, b=size: librdkafka(  # type: ignore[misc]
                "produce", side, topic, records=n, bytes=b
            ),
            bars=[gb],
        )


def request_rows(sizes: Sizes) -> Iterator[Row]:
    limits = {1: (0.33, 0.4), 5: (0.15, 0.2)}
    for version in (7, 13):
        for acks, name in ((1, "1"), (-1, "all")):
            for in_flight in (1, 5):
                million, p50 = limits[in_flight]
                for partitions in (1, 100) if version == 13 else (1,):
                    yield Row(
                        f"one record, v{version} acks={name}, {in_flight} in flight, {partitions} partitions",
                        _one_record(sizes.requests, version, acks, in_flight),
                        partitions,
                        bars=[most("broker_cpu_s_per_million_requests", million), most("p50_ms", p50)],
                    )


def _one_record(requests: int, version: int, acks: int, in_flight: int) -> Callable[[Side, str], Client]:
    def client(side: Side, topic: str) -> Client:
        window = {"version": version, "acks": acks, "in_flight": in_flight}
        return raw("raw_produce", side, topic, requests=requests, **window)

    return client


def filler(total_bytes: int, partitions: int) -> Callable[[Side, str], Client]:
    """Writes 1 KB records in 16 KB batches, one to every partition per request."""
    requests = max(1, total_bytes // (16_000 * partitions))

    def client(side: Side, topic: str) -> Client:
        shape = {"records": 16, "bytes": 1000, "spread": partitions}
        return raw("raw_produce", side, topic, requests=requests, acks=1, in_flight=5, **shape)

    return client


def read_rows(sizes: Sizes) -> Iterator[Row]:
    gb = most("broker_cpu_s_per_gb", 0.8)
    partitions = 6
    records = sizes.read_bytes // (16_000 * partitions) * partitions * 16
    fill = filler(sizes.read_bytes, partitions)
    both = (OS, APACHE)  # How it was flushed makes no difference to a reader.
    clients: dict[str, Callable[[Side, str], Client]] = {
        LOCAL_READ: lambda side, topic: raw("raw_fetch", side, topic),
        "read local, ConsumerPerformance": lambda side, topic: consumer_perf(side, topic, records, 1000),
        "read local, librdkafka": lambda side, topic: librdkafka(
            "consume", side, topic, records=records, bytes=1000
        ),
    }
    for name, client in clients.items():
        yield Row(name, client, partitions, fill=fill, columns=both, bars=[gb])


def latency_rows(sizes: Sizes) -> Iterator[Row]:
    bars = [most("p50_ms", 0.5), most("p99_ms", 0.5)]
    for partitions in (1, 100):
        yield Row(
            f"send to receipt at 1000/s, {partitions} partitions",
            lambda side, topic: raw("raw_latency", side, topic, records=sizes.latency_records),
            partitions,
            bars=bars,
        )
    yield Row(
        "send to receipt at 1000/s, librdkafka",
        lambda side, topic: librdkafka(
            "latency", side, topic, {"acks": "all"}, records=sizes.latency_records, bytes=100
        ),
        bars=bars,
    )


class PairedRows:
    """All rows of this module, on one pair of brokers that runs throughout."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.failures: list[str] = []
        made = [*produce_rows(sizes), *request_rows(sizes), *read_rows(sizes), *latency_rows(sizes)]
        self._rows = {row.name: row for row in made}
        self.rows: dict[str, Sequence[Bar]] = {row.name: row.bars for row in made}
        self.rows[MEMORY] = [most("rss_mib", 350, against=None, column=ACK.label)]

    def run(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        chosen = [row for name, row in self._rows.items() if wanted(name)]
        if not chosen:
            return
        with running(tierlog_side(directory / "tierlog"), kafka_side(directory / "kafka")) as sides:
            for row in chosen:
                yield from guarded(row.name, row.measure(sides, self.sizes.runs), self.failures)
            for side in sides.values():
                memory = side.tree.memory()
                label = ACK.label if side.name == ACK.side else APACHE.label
                yield MEMORY, label, {"rss_mib": memory.rss_mib, "cpu_s": side.tree.cpu_s()}
