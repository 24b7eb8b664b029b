"""Reads from a distant object store: in parallel, once, no more than is served, and never late.

The store is a directory behind a delay of ``DELAY_S`` for each read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.tiered import (
    Row,
    alter_broker,
    await_tiered,
    create,
    delete_records,
    figure,
    hurried,
    objects,
    produce,
    read,
    storage,
    topic_id,
    until,
)
from tests.patience import slowness
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic

DELAY_S = 0.3
MAX_WAIT_S = 0.1
PARTITIONS = 20
FETCHED = "tierlog_remote_fetched_bytes_total"
TRAFFIC = "kafka_server_brokertopicmetrics_"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    directory = tmp_path_factory.mktemp("distant")
    url = f"dir:{directory / 'objects'}?get.delay.ms={int(DELAY_S * 1000)}"
    waits = {"remote_fetch_max_wait_ms": str(int(MAX_WAIT_S * 1000))}
    with hurried(directory, tierlog_object_store=url, **waits) as running:
        yield running


def gets(broker: BrokerProcess) -> float:
    return broker.metrics()['tierlog_object_requests_total{verb="get_range"}']


def fetch_all(topic: str, partitions: int) -> FetchRequest:
    asked = [
        FetchPartition(partition=number, fetch_offset=0, partition_max_bytes=1 << 20)
        for number in range(partitions)
    ]
    topics = [FetchTopic(topic=topic, partitions=asked)]
    return FetchRequest(max_wait_ms=10_000, min_bytes=1, max_bytes=50 << 20, session_epoch=-1, topics=topics)


def test_the_partitions_of_a_fetch_are_read_at_once(broker: BrokerProcess) -> None:
    topic = "wide"
    create(broker, topic, PARTITIONS)
    with RawClient(broker.port) as client:
        for number in range(PARTITIONS):
            for value in (b"a" * 99_000, b"b" * 99_000):
                assert client.produce(topic, one_batch(value), number).error_code == ErrorCode.NONE
        await_tiered(broker, topic)
        began = time.monotonic()
        answer = client.call(fetch_all(topic, PARTITIONS), FetchResponse, 12)
        elapsed_s = time.monotonic() - began
    rows = answer.responses[0].partitions
    assert sorted(row.partition_index for row in rows) == list(range(PARTITIONS))
    assert all(row.error_code == ErrorCode.NONE and len(row.records or b"") > 99_000 for row in rows)
    figure(f"{PARTITIONS} partitions in {elapsed_s:.3f} s, a delay is {DELAY_S} s")
    assert DELAY_S <= elapsed_s < 4 * DELAY_S * slowness()  # one after the other would be 40


def test_a_slow_store_delays_no_reply_and_its_answer_is_kept(broker: BrokerProcess) -> None:
    topic = "slow"
    create(broker, topic)
    with RawClient(broker.port) as client:
        for value in (b"a" * 99_000, b"b" * 99_000):
            client.produce(topic, one_batch(value))
        await_tiered(broker, topic)
        before = gets(broker)
        began = time.monotonic()
        got = client.fetch(topic, 0, max_wait_ms=int(MAX_WAIT_S * 1000))
        first_s = time.monotonic() - began
        assert (got.error_code, len(got.records or b"")) == (ErrorCode.NONE, 0)
        assert got.high_watermark == 2
        assert MAX_WAIT_S * 0.9 <= first_s < DELAY_S
        while not got.records:
            assert time.monotonic() < began + 10 * DELAY_S
            got = client.fetch(topic, 0, max_wait_ms=int(MAX_WAIT_S * 1000))
            assert got.error_code == ErrorCode.NONE
        assert gets(broker) - before == 2  # the chunk and the footer, each once
        began = time.monotonic()
        assert client.fetch(topic, 0, max_wait_ms=0).records
        assert time.monotonic() - began < DELAY_S


def test_data_at_hand_does_not_wait_for_the_tier(broker: BrokerProcess) -> None:
    topic = "mixed"
    create(broker, topic, 2)
    with RawClient(broker.port) as client:
        for value in (b"a" * 99_000, b"b" * 99_000):
            client.produce(topic, one_batch(value), 0)
        await_tiered(broker, topic)
        client.produce(topic, one_batch(b"hot"), 1)
        before = gets(broker)
        began = time.monotonic()
        answer = client.call(fetch_all(topic, 2), FetchResponse, 12)
        elapsed_s = time.monotonic() - began
        rows = {row.partition_index: row for row in answer.responses[0].partitions}
        assert all(row.error_code == ErrorCode.NONE for row in rows.values())
        assert len(rows[1].records or b"") > 0
        assert not rows[0].records
        assert elapsed_s < DELAY_S
        until(lambda: gets(broker) - before >= 2)  # it was asked for, and is there soon after
        until(lambda: bool(client.fetch(topic, 0, 0).records))
        assert gets(broker) - before == 2


def test_above_the_fetch_quota_reads_wait_and_hot_ones_do_not(broker: BrokerProcess) -> None:
    topic = "limited"
    create(broker, topic, 2)
    with RawClient(broker.port) as client:
        for value in (b"a" * 99_000, b"b" * 99_000, b"c" * 99_000):
            client.produce(topic, one_batch(value), 0)
        await_tiered(broker, topic)
        client.produce(topic, one_batch(b"hot"), 1)
        alter_broker(broker, "remote.log.manager.fetch.max.bytes.per.second", "10000")
        got = client.fetch(topic, 0, 0, max_wait_ms=100)
        assert (got.error_code, got.high_watermark) == (ErrorCode.NONE, 3)
        got = client.fetch(topic, 1, 0, max_wait_ms=100)  # the first may have passed at once
        assert (got.error_code, len(got.records or b"")) == (ErrorCode.NONE, 0)
        began = time.monotonic()
        assert client.fetch(topic, 0, 1, max_wait_ms=10_000).records
        assert time.monotonic() - began < 1
        alter_broker(broker, "remote.log.manager.fetch.max.bytes.per.second", str(2**63 - 1))
        until(lambda: bool(client.fetch(topic, 1, 0, max_wait_ms=100).records))
    assert broker.metrics()["kafka_server_remotelogmanager_remote_fetch_throttle_time_max"] > 0


def test_two_consumers_share_one_flight_and_nothing_is_fetched_twice(broker: BrokerProcess) -> None:
    topic = "shared"
    create(broker, topic, internal_segment_bytes="3000000")
    written = produce(broker, topic, 12_000)
    (row,) = await_tiered(broker, topic)
    before = broker.metrics()
    results: list[list[Row]] = []

    def consume() -> None:
        results.append(read(broker, topic, len(written), {0: 0}))

    readers = [threading.Thread(target=consume) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert results == [written, written]
    after = broker.metrics()
    fetched, served = (after[name] - before[name] for name in (FETCHED, TRAFFIC + "remotefetchbytes_total"))
    remote_bytes = row["remote"]["bytes"]
    figure(f"{fetched / remote_bytes:.3f} bytes fetched per byte stored, {served / remote_bytes:.2f} served")
    assert served >= 2 * remote_bytes
    assert fetched <= 1.1 * remote_bytes


def test_the_metrics_move_as_kafka_names_them(broker: BrokerProcess) -> None:
    topic = "measured"
    create(broker, topic)
    written = produce(broker, topic, 1000)
    (row,) = await_tiered(broker, topic)
    read(broker, topic, len(written), {0: 0})
    which = topic_id(broker, topic)
    segments = row["remote"]["segments"]

    def metric(name: str) -> float:
        return broker.metrics()[f'{TRAFFIC}{name}{{topic="{topic}"}}']

    assert metric("remotecopybytes_total") == row["remote"]["bytes"]
    assert metric("remotecopyrequests_total") == segments
    assert metric("remotecopyerrors_total") == 0
    assert metric("remotefetchrequests_total") > 0
    assert metric("remotefetchbytes_total") >= row["remote"]["bytes"]
    assert metric("remotelogmetadatacount") == segments
    assert metric("remotelogsizebytes") == row["remote"]["bytes"]
    assert (metric("remotecopylagbytes"), metric("remotecopylagsegments")) == (0, 0)
    found = broker.metrics()
    assert found['tierlog_object_requests_total{verb="put"}'] >= segments
    assert found['tierlog_object_bytes_total{direction="sent"}'] > row["remote"]["bytes"]
    assert found["tierlog_chunk_cache_misses_total"] > 0
    assert found["tierlog_chunk_cache_hits_total"] > 0
    assert 0 < found["tierlog_chunk_cache_bytes"] <= 128 << 20
    assert found[TRAFFIC + "remotecopybytes_total"] >= row["remote"]["bytes"]

    delete_records(broker, topic, row["tiered_end_offset"])
    until(lambda: not objects(broker, which))
    assert metric("remotedeleterequests_total") == segments
    until(lambda: (metric("remotedeletelagbytes"), metric("remotedeletelagsegments")) == (0, 0))
    assert metric("remotelogmetadatacount") == 0
    assert storage(broker, topic)[0]["remote"]["segments"] == 0
