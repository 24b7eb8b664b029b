"""Rows that need brokers of their own: start, idle memory, a coordinator's log, loop stalls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import offsets
from benchmarks.bars import Bar, most
from benchmarks.measure import Client, Figures, Sample, guarded, measure, rates, raw, run_client
from benchmarks.rows import Sizes
from benchmarks.sides import ACK, APACHE, OS, Side, kafka_side, running, tierlog_side
from benchmarks.wire import Refused, batch, connect, produce_frame, receive, reply_shape, topic_of
from tests.servers.kafka import KafkaProcess

START = "start: command to first accepted produce"
IDLE = "idle for 3 s after the start"
STALL = "longest loop stall, 1,000 partitions, uploads, scrapes"
COMMITS = "offset commits over 1,000 keys"
LOADING = "__consumer_offsets after the commits"
_START_TIMEOUT_S = 120.0
_SETTLE_TIMEOUT_S = 180.0
_SCRAPE_INTERVAL_S = 5.0

BARS: dict[str, list[Bar]] = {
    START: [most("start_s", 1.5, against=None, column=ACK.label)],
    IDLE: [most("rss_mib", 120, against=None, column=ACK.label)],
    STALL: [most("stall_max_ms", 50, against=None)],
    COMMITS: [most("broker_cpu_s_per_million_requests", 1.0, column=ACK.label)],
    LOADING: [
        most("segments", 2, against=None, column=ACK.label),
        most("load_s", 2.0, against=None, column=ACK.label),
    ],
}


def _column(side: Side) -> str:
    """These brokers run on their defaults."""
    return ACK.label if side.name == ACK.side else APACHE.label


class SingleRows:
    """See ``rows``; each starts what it needs in ``directory``."""

    rows = BARS

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.failures: list[str] = []

    def run(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        for run in range(self.sizes.runs):
            for side in (tierlog_side(directory / f"t{run}"), kafka_side(directory / f"k{run}")):
                if wanted(START) or wanted(IDLE):
                    yield from guarded(f"{START}, {side.name}", self._start(side), self.failures)
        if wanted(COMMITS) or wanted(LOADING):
            for side in (tierlog_side(directory / "tc"), kafka_side(directory / "kc")):
                yield from guarded(f"{COMMITS}, {side.name}", self._commits(side), self.failures)
        if wanted(STALL):
            often = {"remote.log.manager.task.interval.ms": "1000", "log.retention.check.interval.ms": "2000"}
            side = tierlog_side(directory / "stall", often)
            yield from guarded(STALL, self._stall(side), self.failures)

    def _start(self, side: Side) -> Iterator[Sample]:
        """On an empty data directory; Kafka's is formatted before the clock starts."""
        if isinstance(side.process, KafkaProcess):
            side.process.format()
        began = time.monotonic()
        try:
            side.process.launch()
            first_produce(side)
            start_s = time.monotonic() - began
            tree = side.tree
            time.sleep(3.0)
            memory = tree.memory()
            yield START, _column(side), {"start_s": start_s, "start_cpu_s": tree.cpu_s()}
            yield IDLE, _column(side), {"rss_mib": memory.rss_mib, "peak_rss_mib": memory.peak_mib}
        finally:
            side.process.stop()

    def _commits(self, side: Side) -> Iterator[Sample]:
        topic = "offsets-bench"
        with running(side):
            side.create_topic(topic, 1000)
            offsets.await_coordinator(side.bootstrap, topic)
            yield (
                COMMITS,
                _column(side),
                measure(side, raw("offsets", side, topic, commits=self.sizes.commits)),
            )
            segments = self._settled_segments(side)
            logs = side.process.log_dir.glob("__consumer_offsets-*/*.log")
            local_mb = sum(path.stat().st_size for path in logs) / 1e6
            side.process.stop()
            side.process.start()
            began = time.monotonic()
            while (found := offsets.committed(side.bootstrap, topic, 999)) is None:
                if time.monotonic() - began > _SETTLE_TIMEOUT_S:
                    raise Refused("the coordinator does not load")
                time.sleep(0.01)
            load_s = time.monotonic() - began
            if found != 42:
                raise Refused(f"the committed offset came back as {found}")
            figures = {"segments": segments, "load_s": load_s, "local_mb": local_mb}
            yield LOADING, _column(side), figures

    @staticmethod
    def _settled_segments(side: Side) -> int:
        """Segments of the busiest partition, once compaction has brought them down or no longer does."""
        deadline = time.monotonic() + _SETTLE_TIMEOUT_S

        def busiest() -> int:
            partitions = side.process.log_dir.glob("__consumer_offsets-*")
            return max(len(list(partition.glob("*.log"))) for partition in partitions)

        while busiest() > 2 and time.monotonic() < deadline:
            time.sleep(1.0)
        return busiest()

    def _stall(self, side: Side) -> Iterator[Sample]:
        many = {"flush.mode": "os"}
        tier = {"remote.storage.enable": "true", "local.retention.bytes": "1", "segment.bytes": str(1 << 20)}
        with running(side):
            for n in range(10):
                side.create_topic(f"many-{n}", 98, many)
            side.create_topic("tiered", 20, {**many, **tier})
            time.sleep(2.0)  # Creating a thousand partitions is not what is measured.
            tree, before = side.tree, stalls(side)
            cpu_s = tree.cpu_s()
            wall_s, figures = self._loaded(side)
            after = stalls(side)
            figures |= {"wall_s": wall_s, "broker_cpu_s": tree.cpu_s() - cpu_s}
            figures["stall_max_ms"] = longest_ms(before, after)
            figures["stall_max_since_start_ms"] = after["max"] * 1000
            figures["peak_rss_mib"] = tree.memory().peak_mib
            over = {f"stalls_over_{bound}": after[bound] - before[bound] for bound in after if bound != "max"}
            yield STALL, OS.label, rates({**figures, **over})

    def _loaded(self, side: Side) -> tuple[float, Figures]:
        """Uploads from one client, a thousand partitions from another, a scrape every few seconds."""
        duration_s = self.sizes.stall_s
        rate = 50.0  # requests/s, each with 16 KB to all 20 tiered partitions: 16 MB/s
        tiered = raw(
            "raw_produce", side, "tiered", requests=int(duration_s * rate), rate=rate, records=16, bytes=1000,
            spread=20, acks=1, in_flight=5,
        )  # fmt: skip
        others = [
            raw("raw_produce", side, f"many-{n}", requests=int(duration_s * 100), rate=100.0, in_flight=5)
            for n in (0, 5)
        ]
        results: list[Figures] = []

        def work(client: Client) -> None:
            results.append(run_client(client)[0])

        threads = [threading.Thread(target=work, args=(client,)) for client in (tiered, *others)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            side.metrics()
            threads[0].join(_SCRAPE_INTERVAL_S)
        wall_s = time.monotonic() - began
        if len(results) != len(threads):
            raise Refused("a client of the stall row failed")
        total: Figures = {name: sum(r[name] for r in results) for name in ("requests", "records", "bytes")}
        return wall_s, total


def first_produce(side: Side) -> None:
    """Tries, as an impatient client would, until one record is accepted; the topic makes itself."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    records = batch(1, 100)
    while True:
        try:
            connection = connect(side.bootstrap, 5.0)
            with connection:
                topic = topic_of(connection, "first", create=True)
                connection.sendall(produce_frame(topic, [0], records, 7, -1))
                shape = reply_shape(topic, [0], 7)
                shape.check(receive(connection, shape.size), 0)
                return
        except (OSError, Refused):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def stalls(side: Side) -> dict[str, float]:
    """Stalls so far that were longer than each bound of the histogram, and the longest in seconds."""
    scraped = side.metrics()
    prefix = 'tierlog_loop_stall_seconds_bucket{le="'
    counts = {
        name.removeprefix(prefix).rstrip('"}'): n for name, n in scraped.items() if name.startswith(prefix)
    }
    total = counts.pop("+Inf")
    return {
        "max": scraped["tierlog_loop_stall_max_seconds"],
        **{bound: total - n for bound, n in counts.items()},
    }


def longest_ms(before: dict[str, float], after: dict[str, float]) -> float:
    """The gauge counts since the start; where nothing new is longer than its bound, the histogram bounds it."""
    if after["max"] > before["max"]:
        return after["max"] * 1000
    bounds = sorted((float(bound), bound) for bound in after if bound != "max")
    for bound, name in bounds:
        if after[name] == before[name]:
            return min(bound, after["max"]) * 1000
    return after["max"] * 1000
