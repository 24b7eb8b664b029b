"""What replication costs: acks=all to three replicas, beside three brokers of Kafka's on the same machine.

Both clusters run throughout and their runs alternate, as in ``rows``. Three brokers and the client share the cores, so
records per second say what the whole machine can do, and not how fast one broker is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

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
_BATCHED_BARS = {
    1000: [least("records_per_s", 2.0), most("broker_cpu_s_per_gb", 0.3)],
    100: [least("records_per_s", 1.3), most("broker_cpu_s_per_gb", 0.4)],
}
# Both sides are given a share of what the slower one can do.
STEADY = f"{PREFIX}: produce 100 B, 12 partitions, at 70 % of the slower side's rate"
_STEADY_SHARE = 0.7


def made(sizes: Sizes) -> Iterator[Row]:
    for size, records in ((1000, sizes.records_1k), (100, sizes.records_100b)):
        for partitions in (1, 12):
            yield Row(
                _batched_name(size, partitions),
                _batched(int(records * _PART), size),
                partitions,
                columns=COLUMNS,
                bars=_BATCHED_BARS[size],
            )
    for in_flight, (cpu, p50) in {1: (0.25, 0.6), 5: (0.15, 0.4)}.items():
        yield Row(
            f"{PREFIX}: one record, {in_flight} in flight",
            _one_record(sizes.requests, in_flight),
            columns=COLUMNS,
            bars=[most("broker_cpu_s_per_million_requests", cpu), most("p50_ms", p50)],
        )


def _batched_name(size: int, partitions: int) -> str:
    return f"{PREFIX}: produce {size} B, default batching, {partitions} partitions"


def _batched(records: int, size: int, records_per_s: int = -1) -> Callable[[Side, str], Client]:
    return lambda side, topic: producer_perf(side, topic, records, size, ALL, records_per_s)


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
        self.rows[STEADY] = [most("p50_ms", 0.8), most("p99_ms", 0.8)]
        # Of the row that the steady one goes by, as its runs come: by column.
        self._rates: dict[str, list[float]] = defaultdict(list)

    def run(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        chosen = [name for name in self.rows if wanted(name)]
        if not chosen:
            return
        ours, theirs = tierlog_cluster(directory / "tierlogs"), kafka_cluster(directory / "kafkas")
        with running(ours, theirs) as sides:
            for name in chosen:
                yield from guarded(name, self._measured(name, sides), self.failures)

    def _measured(self, name: str, sides: Mapping[str, Side]) -> Iterator[Sample]:
        fastest = self._rows[_batched_name(100, 12)]
        if name == STEADY:
            if not self._rates:
                self._note(fastest.measure(sides, 1))
            slower = min(median(self._rates[column.label]) for column in (OS, APACHE))
            client = _batched(
                int(self.sizes.records_100b * _PART), 100, records_per_s=int(_STEADY_SHARE * slower)
            )
            yield from Row(name, client, 12, columns=(OS, APACHE)).measure(sides, self.sizes.runs)
            return
        for sample in self._rows[name].measure(sides, self.sizes.runs):
            if name == fastest.name:
                self._note([sample])
            yield sample

    def _note(self, samples: Iterable[Sample]) -> None:
        for _, label, figures in samples:
            self._rates[label].append(figures["records_per_s"])
