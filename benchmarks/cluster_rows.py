"""What replication costs: acks=all to three replicas, beside three brokers of Kafka's on the same machine.

Both clusters run throughout and their runs alternate, as in ``rows``. Three brokers and the client share the cores, so
records per second say what the whole machine can do, and not how fast one broker is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.bars import Bar, least, most
from benchmarks.clusters import kafka_cluster, tierlog_cluster
from benchmarks.measure import Client, Sample, guarded, producer_perf, raw
from benchmarks.rows import Row, Sizes
from benchmarks.sides import APACHE, OS, SYNCED, Side, running

PREFIX = "three brokers, acks=all"
COLUMNS = (OS, SYNCED, APACHE)
ALL = {"acks": "all"}
# Of what a row of one broker does: each byte is written three times.
_PART = 0.5


def made(sizes: Sizes) -> Iterator[Row]:
    bars = [
        least("records_per_s", 2.0),
        most("broker_cpu_s_per_gb", 0.4),
        most("p50_ms", 0.8),
        most("p99_ms", 0.8),
    ]
    for size, records in ((1000, sizes.records_1k), (100, sizes.records_100b)):
        for partitions in (1, 12):
            yield Row(
                f"{PREFIX}: produce {size} B, default batching, {partitions} partitions",
                _batched(int(records * _PART), size),
                partitions,
                columns=COLUMNS,
                bars=bars,
            )
    million = most("broker_cpu_s_per_million_requests", 0.4)
    for in_flight in (1, 5):
        yield Row(
            f"{PREFIX}: one record, {in_flight} in flight",
            _one_record(sizes.requests, in_flight),
            columns=COLUMNS,
            bars=[least("records_per_s", 2.0), million, most("p50_ms", 0.8), most("p99_ms", 0.8)],
        )


def _batched(records: int, size: int) -> Callable[[Side, str], Client]:
    return lambda side, topic: producer_perf(side, topic, records, size, ALL)


def _one_record(requests: int, in_flight: int) -> Callable[[Side, str], Client]:
    return lambda side, topic: raw(
        "raw_produce", side, topic, requests=requests, acks=-1, in_flight=in_flight
    )


class ClusterRows:
    """All rows of this module, on one pair of clusters that runs throughout."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.failures: list[str] = []
        self._rows = {row.name: row for row in made(sizes)}
        self.rows: dict[str, Sequence[Bar]] = {name: row.bars for name, row in self._rows.items()}

    def run(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        chosen = [row for name, row in self._rows.items() if wanted(name)]
        if not chosen:
            return
        ours, theirs = tierlog_cluster(directory / "tierlogs"), kafka_cluster(directory / "kafkas")
        with running(ours, theirs) as sides:
            for row in chosen:
                yield from guarded(row.name, row.measure(sides, self.sizes.runs), self.failures)
