"""The whole way of ordinary records: produced, sealed, copied, dropped locally, read back; restarts, retention and
deletion on the way."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.e2e.tiered import (
    CODECS,
    Row,
    alter,
    await_tiered,
    create,
    delete,
    delete_records,
    hurried,
    metadata_keys,
    objects,
    produce,
    read,
    storage,
    topic_id,
    until,
)
from tests.servers.raw_client import RawClient
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with hurried(tmp_path_factory.mktemp("tier")) as running:
        yield running


def of(rows: list[Row], partition: int, offset: int = 0, count: int | None = None) -> list[Row]:
    """The records of a partition from ``offset`` on."""
    mine = [row for row in rows if row.partition == partition and row.offset >= offset]
    return mine[:count]


def test_everything_is_read_back_over_restarts(broker: BrokerProcess) -> None:
    topic, partitions = "way", 4
    create(broker, topic, partitions)
    written: list[Row] = []
    for seed, codec in enumerate(CODECS):
        written += produce(broker, topic, 800, partitions=partitions, codec=codec, seed=seed)
    rows = await_tiered(broker, topic)
    assert all(row["remote"]["segments"] >= 4 and row["local_log_start_offset"] > 0 for row in rows)
    check_reads(broker, topic, sorted(written), seed=1)

    assert broker.stop() == 0
    broker.start()
    check_reads(broker, topic, sorted(written), seed=2)
    written += produce(broker, topic, 800, partitions=partitions, codec="lz4", seed=7)

    broker.kill()
    broker.start()
    check_reads(broker, topic, sorted(written), seed=3)
    await_tiered(broker, topic)
    check_reads(broker, topic, sorted(written), seed=4)


def check_reads(broker: BrokerProcess, topic: str, written: list[Row], seed: int) -> None:
    """From the start, read_committed too; from random places; over each border between remote and local."""
    partitions = sorted({row.partition for row in written})
    assert read(broker, topic, len(written), dict.fromkeys(partitions, 0)) == written
    committed = read(
        broker, topic, len(written), dict.fromkeys(partitions, 0), isolation_level="read_committed"
    )
    assert committed == written
    rng = random.Random(seed)
    for _ in range(6):
        seen = rng.choice(written)
        expected = of(written, seen.partition, seen.offset, 40)
        assert read(broker, topic, len(expected), {seen.partition: seen.offset}) == expected
    for row in storage(broker, topic):
        start = max(row["local_log_start_offset"] - 20, 0)
        expected = of(written, row["partition"], start, 40)
        assert read(broker, topic, len(expected), {row["partition"]: start}) == expected


def test_a_deleted_topic_leaves_nothing_and_its_name_is_free(broker: BrokerProcess) -> None:
    create(broker, "gone", 2)
    produce(broker, "gone", 1200, partitions=2)
    await_tiered(broker, "gone")
    first = topic_id(broker, "gone")
    assert len(objects(broker, first)) >= 4
    assert metadata_keys(broker, f"/tier/{first}")
    delete(broker, "gone")
    create(broker, "gone", 2)  # at once, beside the remains of its predecessor
    written = produce(broker, "gone", 1200, partitions=2, seed=2)
    until(lambda: not objects(broker, first))
    until(lambda: not metadata_keys(broker, first))
    assert not list((broker.objects / "meta").glob(f"*/partitions/{first}/*/*"))
    second = topic_id(broker, "gone")
    assert second != first
    await_tiered(broker, "gone")
    assert read(broker, "gone", 1200, {0: 0, 1: 0}) == written
    delete(broker, "gone")
    until(lambda: not objects(broker, second) and not metadata_keys(broker, second))


def test_a_topic_deleted_before_a_kill_is_purged_after_it(broker: BrokerProcess) -> None:
    create(broker, "gone-late")
    produce(broker, "gone-late", 600)
    await_tiered(broker, "gone-late")
    which = topic_id(broker, "gone-late")
    delete(broker, "gone-late")
    broker.kill()
    broker.start()
    until(lambda: not objects(broker, which) and not metadata_keys(broker, which))


def test_retention_counts_all_tiers_and_moves_the_log_start(broker: BrokerProcess) -> None:
    topic = "retained"
    create(broker, topic, retention_bytes="450000")
    written = produce(broker, topic, 1500)
    which = topic_id(broker, topic)
    await_tiered(broker, topic)
    until(lambda: storage(broker, topic)[0]["log_start_offset"] > 0)
    until(lambda: len(objects(broker, which)) == storage(broker, topic)[0]["remote"]["segments"])
    (row,) = storage(broker, topic)
    size = row["remote"]["bytes"] + row["local"]["bytes"] - row["both"]["bytes"]
    assert 450_000 <= size <= 450_000 + 110_000
    start = row["log_start_offset"]
    with RawClient(broker.port) as client:
        assert client.fetch(topic, start - 1).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert client.fetch(topic, start).error_code == ErrorCode.NONE
    expected = of(written, 0, start)
    assert read(broker, topic, len(expected), {0: start}) == expected

    alter(broker, topic, retention_bytes="-1", local_retention_ms="1", retention_ms="1000")
    # The last segment as well: the topic is idle, so it is rolled, copied, and removed with the rest.
    end = len(written)
    until(lambda: storage(broker, topic)[0]["log_start_offset"] == end)
    until(lambda: not objects(broker, which))
    (row,) = storage(broker, topic)
    assert (row["tiered_end_offset"], row["active_base_offset"]) == (end, end)
    assert row["remote"]["segments"] == 0
    with RawClient(broker.port) as client:
        assert client.fetch(topic, end - 1).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert client.fetch(topic, end).error_code == ErrorCode.NONE


def test_deleted_records_stay_deleted_over_restarts(broker: BrokerProcess) -> None:
    topic = "cut"
    create(broker, topic)
    written = produce(broker, topic, 1000)
    await_tiered(broker, topic)
    target = written[333].offset  # in the middle of a segment, and of a batch
    which = topic_id(broker, topic)
    before = len(objects(broker, which))
    assert delete_records(broker, topic, target) == target
    until(lambda: len(objects(broker, which)) < before)
    for end in (broker.stop, broker.kill):
        end()
        # The head in the metadata store owns the log start; the checkpoint is its cache.
        (broker.log_dir / "log-start-offset-checkpoint").unlink(missing_ok=True)
        broker.start()
        assert storage(broker, topic)[0]["log_start_offset"] == target
        assert read(broker, topic, len(of(written, 0, target)), {0: target}) == of(written, 0, target)
        with RawClient(broker.port) as client:
            assert client.fetch(topic, target - 1).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_deleted_records_beyond_the_tiered_end(broker: BrokerProcess) -> None:
    topic = "cut-all"
    create(broker, topic)
    produce(broker, topic, 600)
    await_tiered(broker, topic)
    which = topic_id(broker, topic)
    end = delete_records(broker, topic, -1)
    assert end == 600
    until(lambda: not objects(broker, which))
    more = produce(broker, topic, 600, seed=2)
    await_tiered(broker, topic)
    broker.kill()
    broker.start()
    assert storage(broker, topic)[0]["log_start_offset"] == end
    assert read(broker, topic, 600, {0: end}) == more


def test_copying_can_pause(broker: BrokerProcess) -> None:
    topic = "paused"
    create(broker, topic)
    written = produce(broker, topic, 600)
    (row,) = await_tiered(broker, topic)
    with pytest.raises(KafkaException) as refused:  # KIP-950: local retention is the total one then
        alter(broker, topic, remote_log_copy_disable="true")
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG
    alter(
        broker,
        topic,
        remote_log_copy_disable="true",
        local_retention_bytes="-2",
        local_retention_ms="-2",
    )
    written += produce(broker, topic, 600, seed=2)
    assert read(broker, topic, 1200, {0: 0}) == written
    (paused,) = storage(broker, topic)
    assert paused["tiered_end_offset"] == row["tiered_end_offset"]
    assert paused["local"]["segments"] > 4
    alter(broker, topic, remote_log_copy_disable="false", local_retention_bytes="1")
    await_tiered(broker, topic)
    assert read(broker, topic, 1200, {0: 0}) == written


def test_retention_goes_on_while_copying_is_off(broker: BrokerProcess) -> None:
    topic = "paused-long"
    create(broker, topic)
    produce(broker, topic, 600)
    (row,) = await_tiered(broker, topic)
    alter(broker, topic, remote_log_copy_disable="true", local_retention_bytes="-2", local_retention_ms="-2")
    written = produce(broker, topic, 900, seed=2)
    alter(broker, topic, retention_bytes="300000")
    until(lambda: storage(broker, topic)[0]["local"]["bytes"] < 420_000)
    (now,) = storage(broker, topic)
    start = now["log_start_offset"]
    assert start == now["local_log_start_offset"] > row["tiered_end_offset"]
    assert now["remote"]["segments"] == 0
    which = topic_id(broker, topic)
    until(lambda: not objects(broker, which))
    expected = of(written, 0, start)
    assert read(broker, topic, len(expected), {0: start}) == expected
    broker.kill()
    broker.start()
    assert storage(broker, topic)[0]["log_start_offset"] == start
    alter(broker, topic, remote_log_copy_disable="false", local_retention_bytes="1")
    await_tiered(broker, topic)
    assert read(broker, topic, len(expected), {0: start}) == expected


def test_remote_storage_cannot_be_switched_off(broker: BrokerProcess) -> None:
    topic = "kept"
    create(broker, topic)
    written = produce(broker, topic, 300)
    await_tiered(broker, topic)
    for more in ({}, {"remote_log_delete_on_disable": "true"}):
        with pytest.raises(KafkaException) as refused:
            alter(broker, topic, remote_storage_enable="false", **more)
        assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG
    assert read(broker, topic, 300, {0: 0}) == written
