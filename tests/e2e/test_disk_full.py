"""A log directory that runs full, on a file system of 64 MiB: what is refused, what goes on, what comes back by itself.

The reserve is 8 MiB. Metadata and the object store are elsewhere.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer, TopicPartition

from tests.e2e.tiered import (
    TIMEOUT_S,
    admin,
    alter,
    consumer,
    create,
    delete,
    delete_records,
    figure,
    hurried,
    storage,
    until,
)
from tests.patience import PATIENT_S
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.small_disk import MIB, SmallDisk, small_disk
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestTopic,
    OffsetFetchResponse,
)

DISK_MIB = 64
RESERVE_BYTES = 8 * MIB
VALUE_BYTES = 100_000
# A version that still names topics.
COMMIT_VERSION, FETCH_VERSION = 8, 7
REFUSED = "disk reserve reached: produce is refused"
ROOM_AGAIN = "disk has room again"
UNTIERED = {"retention_ms": "-1", "internal_segment_bytes": str(4 * MIB), "remote_storage_enable": "false"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", DISK_MIB) as mounted:
        yield mounted


@pytest.fixture
def broker(disk: SmallDisk, tmp_path: Path) -> Iterator[BrokerProcess]:
    overrides = {
        "log_dirs": str(disk.path / "logs"),
        "tierlog_disk_reserve_bytes": str(RESERVE_BYTES),
        "offsets_topic_num_partitions": "1",
    }
    with hurried(tmp_path / "broker", **overrides) as running:
        yield running


def value_of(number: int) -> bytes:
    return b"%010d" % number + b"." * VALUE_BYTES


def numbers(client: RawClient, topic: str, offset: int = 0) -> list[tuple[int, int]]:
    """(offset, number in the value) of everything from ``offset`` on."""
    return [(at, int((value or b"")[:10])) for at, _, value in client.records(topic, offset)]


def produce_until_refused(client: RawClient, topic: str, start: int) -> int:
    """One record a request, numbered from ``start`` and at the offset of its number; the number that was refused."""
    for number in count(start):
        answer = client.produce(topic, one_batch(value_of(number)))
        if answer.error_code:
            assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
            return number
        assert answer.base_offset == number, "no gap, no repetition"
    raise AssertionError


def try_once(client: RawClient, topic: str, number: int, acks: int = -1) -> int:
    """The error code."""
    answer = client.produce(topic, one_batch(value_of(number)), acks=acks)
    assert answer.error_code or answer.base_offset == number
    return answer.error_code


def await_accepted(client: RawClient, topic: str, number: int) -> int:
    """Produces record ``number`` as soon as it is taken; the number of the next."""
    until(lambda: try_once(client, topic, number) == ErrorCode.NONE)
    return number + 1


def is_reserve_reached(broker: BrokerProcess) -> bool:
    (found,) = [
        value
        for name, value in broker.metrics().items()
        if name.startswith("tierlog_log_dir_reserve_reached")
    ]
    return found == 1


def await_noticed(broker: BrokerProcess, times: int = 1) -> None:
    until(lambda: broker.log.read_text().count(REFUSED) == times)


def test_at_the_reserve_produce_is_refused_and_all_else_goes_on(
    broker: BrokerProcess, disk: SmallDisk
) -> None:
    create(broker, "t", **UNTIERED)
    group = consumer(broker, group_id="g")
    group.commit(offsets=[TopicPartition("t", 0, 0)], asynchronous=False)
    assert not is_reserve_reached(broker)
    with RawClient(broker.port) as client:
        end = produce_until_refused(client, "t", 0)
        await_noticed(broker)
        free_bytes = disk.free_bytes
        assert free_bytes >= RESERVE_BYTES, "what was set aside is there to be used now"
        figure(f"{end} records of {VALUE_BYTES} bytes, then refused with {free_bytes / MIB:.1f} MiB free")

        for acks in (-1, 1) * 20:
            assert try_once(client, "t", end, acks) == ErrorCode.KAFKA_STORAGE_ERROR
        refused, delivered = produce_with_client(broker, "t", end, timeout_ms=1000)
        assert refused and not delivered, "an ordinary client tries again, then says so"
        assert numbers(client, "t") == [(n, n) for n in range(end)]
        assert client.offset("t", -1) == end
        assert client.offset("t", -2) == 0
        group.commit(offsets=[TopicPartition("t", 0, end)], asynchronous=False)
        (committed,) = group.committed([TopicPartition("t", 0)])
        assert committed.offset == end
        assert "t" in admin(broker).list_topics("t", TIMEOUT_S).topics
        create(broker, "small", **UNTIERED)
        assert client.offset("small", -1) == 0
        assert disk.free_bytes >= RESERVE_BYTES - MIB // 2
    assert is_reserve_reached(broker)
    assert broker.is_ready(), "reads are served"
    assert urllib.request.urlopen(f"http://127.0.0.1:{broker.http_port}/healthz").status == 200
    assert not any(v for name, v in broker.metrics().items() if "offlinereplicacount" in name)
    assert broker.log.read_text().count(REFUSED) == 1
    group.close()


def produce_with_client(
    broker: BrokerProcess, topic: str, number: int, timeout_ms: int = 30_000, times: int = 1
) -> tuple[list[KafkaError], list[int]]:
    """(errors, offsets) of an ordinary producer."""
    errors: list[KafkaError] = []
    offsets: list[int] = []

    def done(error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        if error is not None or offset is None:
            errors.append(error or KafkaError(KafkaError._FAIL))
        else:
            offsets.append(offset)

    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "enable.idempotence": True,
            "message.timeout.ms": timeout_ms,
            "queue.buffering.max.kbytes": 16_384,
            "retry.backoff.max.ms": 200,
        }
    )
    for n in range(number, number + times):
        while True:
            try:
                producer.produce(topic, value_of(n), partition=0, on_delivery=done)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(TIMEOUT_S) == 0
    return errors, sorted(offsets)


def test_room_made_by_hand_is_taken_at_once(broker: BrokerProcess, disk: SmallDisk) -> None:
    """DeleteRecords, a lower retention, another topic's deletion: each without a restart."""
    create(broker, "t", **UNTIERED)
    with RawClient(broker.port) as client:
        end = produce_until_refused(client, "t", 0)
        await_noticed(broker)
        start = end // 2
        delete_records(broker, "t", start)
        end = await_accepted(client, "t", end)
        assert numbers(client, "t", start) == [(n, n) for n in range(start, end)]

        end = produce_until_refused(client, "t", end)
        await_noticed(broker, 2)
        alter(broker, "t", retention_bytes=str(8 * MIB))
        end = await_accepted(client, "t", end)
        start = client.offset("t", -2)
        assert numbers(client, "t", start) == [(n, n) for n in range(start, end)]
        alter(broker, "t", retention_bytes="-1")

        create(broker, "other", **UNTIERED)
        produce_until_refused(client, "other", 0)
        await_noticed(broker, 3)
        assert try_once(client, "t", end) == ErrorCode.KAFKA_STORAGE_ERROR
        delete(broker, "other")
        end = await_accepted(client, "t", end)
        assert numbers(client, "t", start) == [(n, n) for n in range(start, end)]
    until(lambda: broker.log.read_text().count(ROOM_AGAIN) == 3)
    assert not is_reserve_reached(broker)
    until(lambda: disk.free_bytes >= RESERVE_BYTES)  # beside the file of the reserve


@pytest.mark.parametrize("segment_bytes", [MIB, 1024 * MIB])
def test_the_tier_frees_a_full_disk(broker: BrokerProcess, disk: SmallDisk, segment_bytes: int) -> None:
    """More than twice the disk goes through it, though nothing asks for local copies to go; with the larger size nothing
    is ever sealed by itself."""
    create(broker, "t", internal_segment_bytes=str(segment_bytes), local_retention_bytes="1000000000")
    total = 1500
    began_s = time.monotonic()
    errors, offsets = produce_with_client(broker, "t", 0, times=total)
    took_s = time.monotonic() - began_s
    assert not errors
    assert offsets == list(range(total))
    (row,) = storage(broker, "t")
    assert row["local_log_start_offset"] > 0
    figure(
        f"{total * VALUE_BYTES / MIB:.0f} MiB in {took_s:.1f} s through {DISK_MIB} MiB, "
        f"{row['local_log_start_offset']} records only in the tier"
    )
    with RawClient(broker.port) as client:
        assert numbers(client, "t") == [(n, n) for n in range(total)], "from the tier, in order, once"


def test_a_disk_that_filled_while_the_object_store_was_away(broker: BrokerProcess, disk: SmallDisk) -> None:
    create(broker, "t", internal_segment_bytes=str(MIB), local_retention_bytes="1000000000")
    away = broker.objects.rename(broker.objects.with_name("away"))
    broker.objects.touch()  # a file where the directory was
    with RawClient(broker.port) as client:
        end = produce_until_refused(client, "t", 0)
        await_noticed(broker)
        assert storage(broker, "t")[0]["local_log_start_offset"] == 0, "nothing goes that is nowhere else"
        assert numbers(client, "t") == [(n, n) for n in range(end)]
        broker.objects.unlink()
        away.rename(broker.objects)
        end = await_accepted(client, "t", end)
        assert storage(broker, "t")[0]["local_log_start_offset"] > 0
        assert numbers(client, "t") == [(n, n) for n in range(end)]


def test_no_byte_left(broker: BrokerProcess, disk: SmallDisk) -> None:
    """Somebody else takes all there is, the reserve too, twice: no torn log, no offline directory, nothing lost."""
    create(broker, "t", **UNTIERED)
    with RawClient(broker.port) as client:
        end = 0
        for number in range(100):
            assert try_once(client, "t", number) == ErrorCode.NONE
            end = number + 1
        fill_completely(broker, disk, client, "t", end)
        for acks in (-1, 1) * 10:
            assert try_once(client, "t", end, acks) == ErrorCode.KAFKA_STORAGE_ERROR
        assert numbers(client, "t") == [(n, n) for n in range(end)]
        assert broker.is_ready()
        disk.clear()
        end = await_accepted(client, "t", end)
        for _ in range(20):
            end = await_accepted(client, "t", end)
        fill_completely(broker, disk, client, "t", end)
        disk.clear()
        end = await_accepted(client, "t", end)
    broker.kill()
    broker.start()
    with RawClient(broker.port) as client:
        assert numbers(client, "t") == [(n, n) for n in range(end)]
        end = await_accepted(client, "t", end)

    with RawClient(broker.port) as client:
        fill_completely(broker, disk, client, "t", end)
    broker.kill()
    disk.fill()
    start_if_it_can(broker, disk)
    with RawClient(broker.port) as client:
        assert numbers(client, "t") == [(n, n) for n in range(end)]
        disk.clear()
        end = await_accepted(client, "t", end)

        fill_completely(broker, disk, client, "t", end)
    assert broker.stop() == 0, "a stop on a full disk is a stop"
    start_if_it_can(broker, disk)
    disk.clear()
    with RawClient(broker.port) as client:
        end = await_accepted(client, "t", end)
        assert numbers(client, "t") == [(n, n) for n in range(end)]
    assert "partition offline" not in broker.log.read_text()
    assert "log directory failed" not in broker.log.read_text()
    assert "Traceback" not in broker.log.read_text()


def fill_completely(
    broker: BrokerProcess, disk: SmallDisk, client: RawClient, topic: str, number: int
) -> None:
    """Until the reserve is given up and eaten too. ``number`` must not get in."""
    disk.fill()
    until(lambda: is_reserve_reached(broker), every_s=0.01)
    disk.fill()
    assert try_once(client, topic, number) == ErrorCode.KAFKA_STORAGE_ERROR
    assert disk.free_bytes == 0


def start_if_it_can(broker: BrokerProcess, disk: SmallDisk) -> None:
    """Recovery may need a page; without it the broker says so in a line, and starts once there is one."""
    at = broker.log.stat().st_size
    try:
        broker.start()
        figure("started on a full disk")
    except RuntimeError:
        assert broker.process is not None
        assert broker.process.wait(PATIENT_S) == 1
        broker.process = None
        last = broker.log.read_text()[at:].strip().splitlines()[-1]
        assert last.startswith("tierlog: log.dirs: ") and "is full" in last
        figure(f"did not start on a full disk: {last}")
        disk.clear()
        broker.start()


def test_commits_of_groups(broker: BrokerProcess, disk: SmallDisk) -> None:
    create(broker, "t", **UNTIERED)
    group = consumer(broker, group_id="g")
    group.commit(offsets=[TopicPartition("t", 0, 1)], asynchronous=False)
    with RawClient(broker.port) as client:
        assert commit(client, 2) == ErrorCode.NONE
        fill_completely(broker, disk, client, "t", 0)
        # The last page of the offsets' segment may have room for some.
        accepted, answers = 2, set()
        for offset in range(3, 40):
            error = commit(client, offset, "x" * 4000)
            answers.add(error)
            if error == ErrorCode.NONE:
                accepted = offset
        assert answers - {ErrorCode.NONE} <= {
            ErrorCode.COORDINATOR_NOT_AVAILABLE,
            ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        }, "retriable"
        assert ErrorCode.COORDINATOR_NOT_AVAILABLE in answers
        until(lambda: committed(client) == (ErrorCode.NONE, accepted))
        disk.clear()
        until(lambda: commit(client, 50) == ErrorCode.NONE)
        assert committed(client) == (ErrorCode.NONE, 50)
        assert await_accepted(client, "t", 0) == 1
    group.commit(offsets=[TopicPartition("t", 0, 51)], asynchronous=False)
    group.close()
    broker.kill()
    broker.start()
    with RawClient(broker.port) as client:
        until(lambda: committed(client) == (ErrorCode.NONE, 51))


def test_topics_created_on_a_full_disk_open_when_there_is_room(
    broker: BrokerProcess, disk: SmallDisk
) -> None:
    create(broker, "t", **UNTIERED)
    with RawClient(broker.port) as client:
        fill_completely(broker, disk, client, "t", 0)
        create(broker, "late", 3, **UNTIERED)
        create(broker, "gone", **UNTIERED)
        assert client.list_offsets("late", -1).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER, "retriable"
        delete(broker, "gone")
        disk.clear()
        for partition in range(3):
            until(lambda p=partition: client.list_offsets("late", -1, p).error_code == ErrorCode.NONE)  # type: ignore[misc]
        assert await_accepted(client, "late", 0) == 1
    assert sorted(path.name for path in (disk.path / "logs").glob("*-[0-9]")) == [
        "late-0",
        "late-1",
        "late-2",
        "t-0",
    ]


def commit(client: RawClient, offset: int, metadata: str = "") -> int:
    """The error code, of a commit by nobody in particular."""
    partition = OffsetCommitRequestPartition(committed_offset=offset, committed_metadata=metadata)
    topic = OffsetCommitRequestTopic(name="t", partitions=[partition])
    request = OffsetCommitRequest(group_id="g", topics=[topic])
    answer = client.call(request, OffsetCommitResponse, COMMIT_VERSION)
    return answer.topics[0].partitions[0].error_code


def committed(client: RawClient) -> tuple[int, int]:
    """(error code, offset)"""
    topic = OffsetFetchRequestTopic(name="t", partition_indexes=[0])
    request = OffsetFetchRequest(group_id="g", topics=[topic])
    answer = client.call(request, OffsetFetchResponse, FETCH_VERSION)
    if answer.error_code:
        return answer.error_code, -1
    found = answer.topics[0].partitions[0]
    return found.error_code, found.committed_offset
