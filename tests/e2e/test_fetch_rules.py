"""Fetch, ListOffsets and DeleteRecords at their edges; what passes on Apache Kafka too takes ``cluster``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.patience import PATIENT_S
from tests.servers.kafka import KafkaProcess
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.records.records import Record, build_batch
from tierlog.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, PENDING_UPLOAD = -1, -2, -3, -4, -5, -6
NOW_MS = int(time.time() * 1000)


@pytest.fixture
def client(cluster: BrokerProcess | KafkaProcess) -> Iterator[RawClient]:
    with RawClient(cluster.port) as connected:
        yield connected


@pytest.fixture
def topic(client: RawClient, request: pytest.FixtureRequest) -> str:
    """Three batches of one record each at offsets 0, 1, 2 in partition 0; nothing in partition 1."""
    name = (
        f"{request.node.parent.name}-{request.node.name}".replace("[", "-").replace("]", "").replace("_", "-")
    )
    client.create_topic(name, 2)
    for n in range(3):
        record = Record(b"k", b"%d" % n + b"x" * 1000, NOW_MS + (5, 9, 7)[n])
        assert client.produce(name, bytes(build_batch([record]))).base_offset == n
    return name


def session_request(topic: str, session_id: int, epoch: int, *partitions: tuple[int, int]) -> FetchRequest:
    """A fetch in a session, of (partition, offset)s."""
    wanted = [
        FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20)
        for partition, offset in partitions
    ]
    topics = [FetchTopic(topic=topic, partitions=wanted)] if wanted else []
    return FetchRequest(
        max_wait_ms=0,
        min_bytes=1,
        max_bytes=1 << 20,
        session_id=session_id,
        session_epoch=epoch,
        topics=topics,
    )


def delete_records(client: RawClient, topic: str, offset: int, partition: int = 0) -> tuple[ErrorCode, int]:
    asked = DeleteRecordsPartition(partition_index=partition, offset=offset)
    topics = [DeleteRecordsTopic(name=topic, partitions=[asked])]
    answer = client.call(DeleteRecordsRequest(topics=topics, timeout_ms=10_000), DeleteRecordsResponse)
    row = answer.topics[0].partitions[0]
    return ErrorCode(row.error_code), row.low_watermark


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENT_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


class TestFetch:
    def test_offsets_out_of_range(self, client: RawClient, topic: str) -> None:
        for offset in (-1, 4, 1 << 62):
            got = client.fetch(topic, offset)
            assert got.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        at_end = client.fetch(topic, 3)
        assert (at_end.error_code, at_end.high_watermark, bytes(at_end.records or b"")) == (0, 3, b"")

    def test_unknown_partitions_and_ids(self, client: RawClient, topic: str) -> None:
        assert client.fetch(topic, 0, 9).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert client.fetch("no-such-topic", 0).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        asked = FetchTopic(topic_id=bytes(range(16)), partitions=[FetchPartition(partition=0)])
        request = FetchRequest(max_wait_ms=0, session_epoch=-1, topics=[asked])
        answer = client.call(request, FetchResponse, 13)
        assert answer.responses[0].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID

    def test_leader_epochs(self, client: RawClient, topic: str) -> None:
        epoch = client.list_offsets(topic, EARLIEST).leader_epoch
        asked = FetchPartition(partition=0, partition_max_bytes=1 << 20)
        request = FetchRequest(
            max_wait_ms=0, session_epoch=-1, topics=[FetchTopic(topic=topic, partitions=[asked])]
        )
        wanted = [(epoch, ErrorCode.NONE), (epoch + 5, ErrorCode.UNKNOWN_LEADER_EPOCH)]
        if epoch > 0:
            wanted.append((epoch - 1, ErrorCode.FENCED_LEADER_EPOCH))
        for current, error in wanted:
            asked.current_leader_epoch = current
            answer = client.call(request, FetchResponse, 12)
            assert ErrorCode(answer.responses[0].partitions[0].error_code) is error

    def test_the_first_batch_comes_however_small_the_limits(self, client: RawClient, topic: str) -> None:
        for limits in (
            {"max_bytes": 1},
            {"partition_max_bytes": 1},
            {"max_bytes": 0, "partition_max_bytes": 0},
        ):
            got = client.fetch(topic, 1, **limits)
            assert len(got.records or b"") > 1000
            assert len(got.records or b"") < 1200, "one batch, not two"

    def test_only_the_first_partition_may_exceed(self, client: RawClient, topic: str) -> None:
        client.produce(topic, one_batch(b"y" * 1000), partition=1)
        wanted = [FetchPartition(partition=n, partition_max_bytes=10) for n in (0, 1)]
        request = FetchRequest(
            max_wait_ms=0, max_bytes=10, session_epoch=-1, topics=[FetchTopic(topic=topic, partitions=wanted)]
        )
        answer = client.call(request, FetchResponse, 12)
        sizes = {p.partition_index: len(p.records or b"") for p in answer.responses[0].partitions}
        assert sizes[0] > 1000
        assert sizes[1] == 0

    def test_a_long_poll_ends_at_its_time(self, client: RawClient, topic: str) -> None:
        started_s = time.monotonic()
        assert not client.fetch(topic, 3, max_wait_ms=300).records
        assert 0.28 < time.monotonic() - started_s < 5

    def test_min_bytes_that_are_there_do_not_wait(self, client: RawClient, topic: str) -> None:
        started_s = time.monotonic()
        assert client.fetch(topic, 0, max_wait_ms=10_000, min_bytes=2500).records
        assert time.monotonic() - started_s < 5

    def test_a_produce_wakes_a_long_poll(
        self, cluster: BrokerProcess | KafkaProcess, client: RawClient, topic: str
    ) -> None:
        with RawClient(cluster.port) as consumer:
            woken: list[bytes | None] = []
            thread = threading.Thread(
                target=lambda: woken.append(
                    bytes(consumer.fetch(topic, 3, max_wait_ms=20_000).records or b"")
                )
            )
            started_s = time.monotonic()
            thread.start()
            while not woken and time.monotonic() - started_s < 10:
                client.produce(topic, one_batch(b"news"))
                thread.join(0.05)
            thread.join(10)
            assert woken and woken[0]
            assert time.monotonic() - started_s < 10

    def test_a_replica_id_is_refused(self, client: RawClient, topic: str, is_kafka: bool) -> None:
        if is_kafka:
            pytest.skip("Kafka without an authorizer believes it")
        asked = FetchTopic(topic=topic, partitions=[FetchPartition(partition=0, partition_max_bytes=1 << 20)])
        request = FetchRequest(replica_id=1, max_wait_ms=0, session_epoch=-1, topics=[asked])
        got = client.call(request, FetchResponse, 12).responses[0].partitions[0]
        assert got.error_code != ErrorCode.NONE
        assert not got.records


class TestFetchSessions:
    def test_only_news_is_told(self, client: RawClient, topic: str) -> None:
        opened = client.call(session_request(topic, 0, 0, (0, 3), (1, 0)), FetchResponse, 12)
        assert opened.session_id > 0
        assert sorted(p.partition_index for p in opened.responses[0].partitions) == [0, 1]
        assert client.call(session_request(topic, opened.session_id, 1), FetchResponse, 12).responses == []
        client.produce(topic, one_batch(b"news"), partition=1)
        third = client.call(session_request(topic, opened.session_id, 2), FetchResponse, 12)
        assert [p.partition_index for p in third.responses[0].partitions] == [1]

    def test_wrong_session_and_epoch(self, client: RawClient, topic: str) -> None:
        answer = client.call(session_request(topic, 123_456, 1), FetchResponse, 12)
        assert answer.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        opened = client.call(session_request(topic, 0, 0, (0, 3)), FetchResponse, 12)
        answer = client.call(session_request(topic, opened.session_id, 5), FetchResponse, 12)
        assert answer.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH

    def test_a_session_at_the_end_of_its_partitions_misses_nothing(
        self, cluster: BrokerProcess | KafkaProcess, client: RawClient, topic: str
    ) -> None:
        """Appends before and during a poll, a moved log start, and the topic's end."""
        session_id = client.call(session_request(topic, 0, 0, (0, 3), (1, 0)), FetchResponse, 12).session_id
        epoch = 0

        def poll(*partitions: tuple[int, int], max_wait_ms: int = 0) -> dict[int, PartitionData]:
            nonlocal epoch
            epoch += 1
            request = session_request(topic, session_id, epoch, *partitions)
            request.max_wait_ms = max_wait_ms
            answer = client.call(request, FetchResponse, 12)
            assert not answer.error_code
            return {row.partition_index: row for each in answer.responses for row in each.partitions}

        assert [poll(), poll()] == [{}, {}]
        with RawClient(cluster.port) as other:
            other.produce(topic, one_batch(b"before"), partition=1)
            assert len(poll()[1].records or b"") > 0
            assert [poll((1, 1)), poll()] == [{}, {}]
            writer = threading.Timer(0.1, other.produce, (topic, one_batch(b"during")))
            writer.start()
            during = poll(max_wait_ms=20_000)
            writer.join()
            assert list(during) == [0]
            assert during[0].high_watermark == 4
            assert [poll((0, 4)), poll()] == [{}, {}]
            assert delete_records(other, topic, 2) == (ErrorCode.NONE, 2)
            assert poll()[0].log_start_offset == 2
            assert [poll(), poll()] == [{}, {}]
            other.delete_topic(topic)
            wait_until(lambda: other.fetch(topic, 0).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        gone = poll()
        assert {row.error_code for row in gone.values()} == {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        assert sorted(gone) == [0, 1]


class TestListOffsets:
    def test_the_special_timestamps(self, client: RawClient, topic: str, is_kafka: bool) -> None:
        asked = (LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL)
        assert [client.offset(topic, each) for each in asked] == [3, 0, 1, 0]
        assert client.list_offsets(topic, MAX_TIMESTAMP).timestamp == NOW_MS + 9
        assert client.offset(topic, LATEST_TIERED) == -1
        assert client.offset(topic, MAX_TIMESTAMP, partition=1) == -1
        if not is_kafka:  # which wants remote storage for it
            assert client.offset(topic, PENDING_UPLOAD) in (-1, 0)

    def test_by_timestamp(self, client: RawClient, topic: str) -> None:
        found = {delta: client.offset(topic, NOW_MS + delta) for delta in (0, 5, 6, 9, 10)}
        assert found == {0: 0, 5: 0, 6: 1, 9: 1, 10: -1}

    @pytest.mark.parametrize("version", range(1, 12))
    def test_every_version(self, client: RawClient, topic: str, version: int) -> None:
        """Versions 1 to 3 have no room for the leader epoch."""
        assert client.offset(topic, LATEST, version=version) == 3
        assert client.offset(topic, NOW_MS + 6, version=version) == 1

    def test_a_special_timestamp_that_the_version_does_not_know(self, client: RawClient, topic: str) -> None:
        for timestamp, version in ((MAX_TIMESTAMP, 6), (EARLIEST_LOCAL, 7), (LATEST_TIERED, 8), (-77, 11)):
            answer = client.list_offsets(topic, timestamp, version=version)
            assert ErrorCode(answer.error_code) is ErrorCode.UNSUPPORTED_VERSION

    def test_errors(self, client: RawClient, topic: str) -> None:
        assert client.list_offsets("nowhere", LATEST).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert client.list_offsets(topic, LATEST, 9).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert client.list_offsets(topic, LATEST, epoch=99).error_code == ErrorCode.UNKNOWN_LEADER_EPOCH


class TestDeleteRecords:
    def test_the_log_start_moves_and_stays(self, client: RawClient, topic: str) -> None:
        assert delete_records(client, topic, 2) == (ErrorCode.NONE, 2)
        assert client.offset(topic, EARLIEST) == 2
        assert client.fetch(topic, 1).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert [value[:1] for value in client.values(topic, 2) if value] == [b"2"]
        assert delete_records(client, topic, 1) == (ErrorCode.NONE, 2), "it never goes back"
        assert delete_records(client, topic, -1) == (ErrorCode.NONE, 3), "-1 is the high watermark"
        assert client.produce(topic, one_batch(b"next")).base_offset == 3

    def test_errors(self, client: RawClient, topic: str) -> None:
        assert delete_records(client, topic, 4)[0] is ErrorCode.OFFSET_OUT_OF_RANGE
        assert delete_records(client, topic, -2)[0] is ErrorCode.OFFSET_OUT_OF_RANGE
        assert delete_records(client, "nowhere", 0)[0] is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        client.create_topic("delete-compacted", cleanup_policy="compact")
        assert delete_records(client, "delete-compacted", 0)[0] is ErrorCode.POLICY_VIOLATION
