"""How fast a replay is: decoder, readers, sinks.

Usage: python -m benchmarks.replay_rows [--row NAME]... [--megabytes N] [--json]

Each row makes its own bucket in a temporary directory. Seconds of the decoder are CPU seconds of its thread, the best of
several rounds; those of readers are by the clock. Rows of the decoder, the directory and Parquet are run with the kernel and
with its twin, where there is a kernel; the others with whatever ``TIERLOG_KERNEL`` says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import lz4.frame
import zstandard
from confluent_kafka import Consumer, Producer, TopicPartition

import tierlog.replay
import tierlog.sql
from benchmarks.backfill_rows import until
from benchmarks.measure import consumer_perf, run_client
from benchmarks.sides import Side, kafka_side, running, tierlog_side
from tests.replay_bucket import FIRST_MS, BucketMaker, Shape, batches
from tierlog import kernel
from tierlog.records.batch import HEADER_BYTES, Compression, walk
from tierlog.replay.bounds import EARLIEST, END
from tierlog.replay.decode.batches import decode
from tierlog.replay.decode.columns import Wanted
from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.reading import Reading
from tierlog.replay.resolve import Origin, Request
from tierlog.replay.running.job import Job
from tierlog.replay.running.run import run

ROUNDS = 7
ALL = Wanted("flights", 0, SCHEMA, 0, 2**62)
DELAYED = "?get.delay.ms=30&get.stream.bytes.per.second=90000000"
Figures = dict[str, float]


def best_s(work: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best


def consume(items: Iterable[Any]) -> None:
    for _ in items:
        pass


def decoder(megabytes: int) -> dict[str, Figures]:
    """One core, from memory: uncompressed, then each codec against 1 / (1 / codec + 1 / decode)."""
    found = {}
    for name, shape in {
        "100 B": Shape(100, 130),
        "100 B, batches of 1 MB": Shape(100, 8_000),
        "100 B, 2 headers": Shape(100, 130, header_count=2),
        "1 KB": Shape(1_000, 15),
        "1 KB, batches of 1 MB": Shape(1_000, 900),
    }.items():
        count = megabytes * 1_000_000 // shape.value_bytes
        plain = b"".join(batches(count, shape))
        decode_s = best_s(lambda data=plain: consume(decode(data, ALL)))  # type: ignore[misc]
        found[f"{name}, none"] = {
            "records_per_s": count / decode_s,
            "value_gb_per_s": megabytes / decode_s / 1e3,
        }
        for codec, unpack in ((Compression.LZ4, _unlz4), (Compression.ZSTD, _unzstd)):
            data = b"".join(batches(count, shape._replace(codec=codec)))
            bodies = [data[at + HEADER_BYTES : at + header.size_bytes] for at, header in walk(data)]
            codec_s = best_s(lambda bodies=bodies, unpack=unpack: consume(map(unpack, bodies)))  # type: ignore[misc]
            # Where decoding alone would be at, of the same batches without the codec.
            both_s = best_s(lambda data=data: consume(decode(data, ALL)))  # type: ignore[misc]
            found[f"{name}, {codec.name.lower()}"] = {
                "records_per_s": count / both_s,
                "codec_records_per_s": count / codec_s,
                "share": (codec_s + decode_s) / both_s,
            }
    return found


def _unlz4(body: bytes) -> bytes:
    return bytes(lz4.frame.decompress(body))


_zstd = zstandard.ZstdDecompressor()


def _unzstd(body: bytes) -> bytes:
    return _zstd.decompress(body)


async def raw_rate(url: str, connections: int, size_bytes: int) -> float:
    """Bytes a second of so many GETs at once, of the size that a replay asks for, and nothing else."""
    from tiering.objects.opening import open_store
    from tiering.objects.port import list_all
    from tierlog.replay.gets import GET_BYTES

    store = open_store(url, writes=False)
    ranges = [
        (info.key, at, min(at + GET_BYTES, info.size_bytes))
        async for info in list_all(store, "")
        if info.key.endswith(".seg")
        for at in range(0, info.size_bytes, GET_BYTES)
    ]
    left = iter(ranges)

    async def connection() -> None:
        for key, start, end in left:
            await store.get_range(key, start, end)

    begun = time.monotonic()
    await asyncio.gather(*(connection() for _ in range(connections)))
    seconds = time.monotonic() - begun
    await store.close()
    return sum(end - start for _, start, end in ranges) / seconds


async def replay_rate(url: str, connections: int, schema: Any) -> tuple[float, float]:
    """(bytes, records) a second of one partition."""
    origin = Origin(None, url)
    await origin.start()
    begun = time.monotonic()
    plan = await origin.plan(Request(("flights",), EARLIEST, END))
    size = records = 0
    async for chunk in Reading(origin, schema, parallel=connections).chunks(plan.reads()):
        size += chunk.size_bytes
        records += chunk.records
    seconds = time.monotonic() - begun
    await origin.close()
    return size / seconds, records / seconds


def readers(megabytes: int) -> dict[str, Figures]:
    """From the delayed store: 30 ms a GET, 90 MB/s each."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="replay-") as root:
        made = BucketMaker(Path(root))
        size = 32
        shape = Shape(1_000, 60)
        made.fill("flights", 0, max(megabytes // size, 2), size * 1_000, shape)
        url = made.url + DELAYED
        rates = {}
        for connections in (1, 8, 16):
            raw = asyncio.run(raw_rate(url, connections, 0))
            null, _ = asyncio.run(replay_rate(url, connections, None))
            decoded, _ = asyncio.run(replay_rate(url, connections, SCHEMA))
            rates[connections] = null
            found[f"{connections} connections"] = {
                "raw_mb_per_s": raw / 1e6,
                "null_mb_per_s": null / 1e6,
                "null_share": null / raw,
                "arrow_mb_per_s": decoded / 1e6,
                "arrow_share": decoded / raw,
            }
        found["8 against 1, null"] = {"times": rates[8] / rates[1]}
    return found


def directory(megabytes: int) -> dict[str, Figures]:
    """The whole way from a directory to Arrow."""
    found = {}
    for name, shape in {"100 B": Shape(100, 130), "1 KB": Shape(1_000, 15)}.items():
        with tempfile.TemporaryDirectory(prefix="replay-") as root:
            made = BucketMaker(Path(root))
            made.fill("flights", 0, 4, megabytes * 250_000 // shape.value_bytes, shape)
            best = 0.0
            cpu = 0.0
            for _ in range(3):
                begun = time.process_time()
                _, records = asyncio.run(replay_rate(made.url, 8, SCHEMA))
                used = time.process_time() - begun
                best = max(best, records)
                cpu = max(cpu, 4 * (megabytes * 250_000 // shape.value_bytes) / used)
            found[name] = {
                "records_per_s": best,
                "records_per_cpu_s": cpu,
                "value_gb_per_cpu_s": cpu * shape.value_bytes / 1e9,
            }
    return found


def parquet(megabytes: int) -> dict[str, Figures]:
    """From a directory to zstd Parquet in a directory: records per CPU second of the process, all threads together."""
    found = {}
    for name, shape in {"100 B": Shape(100, 130), "100 B, lz4": Shape(100, 130, Compression.LZ4)}.items():
        with tempfile.TemporaryDirectory(prefix="replay-") as root:
            made = BucketMaker(Path(root, "bucket"))
            each = megabytes * 250_000 // shape.value_bytes
            made.fill("flights", 0, 4, each, shape)
            request = Request(("flights",), EARLIEST, END)
            best_cpu = best_clock = 0.0
            for number in range(3):
                job = Job(request, None, made.url, f"parquet:{Path(root, str(number))}")
                clock, cpu = time.monotonic(), time.process_time()
                asyncio.run(run(job, lambda plan: True, lambda progress: None))
                best_cpu = max(best_cpu, 4 * each / (time.process_time() - cpu))
                best_clock = max(best_clock, 4 * each / (time.monotonic() - clock))
            found[name] = {"records_per_cpu_s": best_cpu, "records_per_s": best_clock}
    return found


def consumer(megabytes: int) -> dict[str, Figures]:
    """The same records in the remote tier of tierlog and of Apache Kafka (LocalTieredStorage), a partition each:
    confluent-kafka's consumer reads from Kafka, and from tierlog; a replay reads tierlog's. In turns. The consumer
    touches each message's key and value; the replay makes all columns. ``patient``: the consumer with a queue that never
    fills, since it stops asking for a second whenever the default one does. ``Java``: Kafka's ConsumerPerformance, by the
    time that it says it fetched."""
    count = megabytes * 10_000
    often = {"remote.log.manager.task.interval.ms": "1000", "log.retention.check.interval.ms": "2000"}
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="replay-") as root:
        ours = tierlog_side(Path(root, "tierlog"), often)
        theirs = kafka_side(Path(root, "kafka"), tiered=True)
        with running(ours, theirs):
            for side in (ours, theirs):
                tiered = {"remote.storage.enable": "true", "local.retention.bytes": "1"}
                side.create_topic("flights", 1, {"segment.bytes": str(16 << 20), **tiered})
                _produce(side.bootstrap, count)
            until(lambda: ours.segments("flights") == theirs.segments("flights") == 1)
            work: dict[str, Callable[[], float | None]] = {
                f"{side.name}{name}": partial(_consume, side.bootstrap, count, configs)
                for side in (theirs, ours)
                for name, configs in (("", {}), (", patient", PATIENT))
            }
            work |= {f"{side.name}, Java": partial(_consume_by_java, side, count) for side in (theirs, ours)}
            work["replay"] = partial(_replay, ours.bootstrap, count)
            for _ in range(5):
                for name, each in work.items():
                    begun = time.monotonic()
                    took_s = each() or time.monotonic() - begun
                    best[name] = max(best.get(name, 0.0), count / took_s)
    times = {f"replay / {name}": best["replay"] / best[name] for name in best if name != "replay"}
    return {f"{count:,} records": {**best, **times}}


def sql(megabytes: int) -> dict[str, Figures]:
    """A statement that bounds time or offsets to one segment of 25 in each of four partitions, in each form. All other
    segments are deleted before, so that a GET of one would fail. ``megabytes``: of values; 1,600 are 100 M records."""
    partitions, segments, value_bytes = 4, 25, 16
    shape = Shape(value_bytes, 1_000, Compression.ZSTD, ms_apart=1)
    records = megabytes * 1_000_000 // value_bytes // segments // partitions
    with tempfile.TemporaryDirectory(prefix="replay-") as root:
        made = BucketMaker(Path(root))
        for partition in range(partitions):
            made.fill("flights", partition, 1, records, shape)
            for number in range(1, segments):
                made.repeat("flights", partition, later_ms=number * records)
        made.publish()
        kept = segments // 2
        for path in made.segment_paths():
            if int(path.name.split("-")[0]) != kept * records:
                path.unlink()
        first, last = kept * records + 10, (kept + 1) * records - 10
        when = [datetime.fromtimestamp((FIRST_MS + each) / 1_000, UTC).isoformat() for each in (first, last)]
        within = f"timestamp >= '{when[0]}' AND timestamp < '{when[1]}'"
        found = {}
        for name, statement in {
            "plain": f"SELECT count(*) FROM flights WHERE {within}",
            "CTE": f"WITH x AS (SELECT * FROM flights) SELECT count(*) FROM x WHERE {within}",
            "JOIN": 'SELECT count(*) FROM flights a JOIN flights b USING (partition, "offset") '
            f'WHERE a.{within.replace("AND ", "AND a.")} AND b."offset" >= {first} AND b."offset" < {last}',
            "subquery": f"SELECT count(*) FROM (SELECT key, timestamp FROM flights) WHERE {within}",
        }.items():
            with tierlog.sql.connect(bucket=made.url) as database:
                begun = time.monotonic()
                reads = database.reads(statement)
                answer = database.query(statement, reads).fetchall()
                assert answer == [(partitions * (last - first),)], answer
                gets = sum(read.plan.gets for read in reads)
                found[name] = {
                    "records": partitions * segments * records,
                    "gets": gets,
                    "s": time.monotonic() - begun,
                }
    return found


def _produce(bootstrap: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "batch.size": 16_000})
    for number in range(count):
        while True:
            try:
                producer.produce("flights", b"%0100d" % number, b"key-%d" % number)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0


def _replay(bootstrap: str, count: int) -> None:
    reader = tierlog.replay.open("flights", bootstrap=bootstrap)
    assert sum(batch.num_rows for batch in reader) == count


def _consume_by_java(side: Side, count: int) -> float:
    """The seconds that it fetched for."""
    return run_client(consumer_perf(side, "flights", count, 100))[0]["wall_s"]


def _consume(bootstrap: str, count: int, configs: dict[str, str]) -> None:
    reader = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "row", "enable.auto.commit": "false", **configs}
    )
    reader.assign([TopicPartition("flights", 0, 0)])
    read = 0
    while read < count:
        for message in reader.consume(10_000, 1.0):
            assert message.error() is None
            read += message.value() is not None and message.key() is not None
    reader.close()


def both_halves(row: Callable[[int], dict[str, Figures]]) -> Callable[[int], dict[str, Figures]]:
    """The row with the kernel, then with its twin."""

    def rows(megabytes: int) -> dict[str, Figures]:
        compiled, found = kernel.compiled, {}
        try:
            for half, chosen in (("kernel", compiled), ("twin", None)):
                if half == "kernel" and compiled is None:
                    continue
                kernel.compiled = chosen
                found |= {f"{name}, {half}": figures for name, figures in row(megabytes).items()}
        finally:
            kernel.compiled = compiled
        return found

    return rows


PATIENT = {"queued.min.messages": "10000000", "queued.max.messages.kbytes": "1000000"}
ROWS: dict[str, Callable[[int], dict[str, Figures]]] = {
    "decoder": both_halves(decoder),
    "directory": both_halves(directory),
    "readers": readers,
    "parquet": both_halves(parquet),
    "consumer": consumer,
    "sql": sql,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--row", action="append", choices=list(ROWS))
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = {row: ROWS[row](asked.megabytes) for row in asked.row or ROWS}
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    for row, figures in found.items():
        for name, values in figures.items():
            told = "  ".join(f"{key} {value:,.2f}" for key, value in values.items())
            print(f"{row:10} {name:38} {told}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
