"""Small requests that stopped the loop for seconds: it stands still for none, and others are served meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fuzz.cost import CostMeter
from tests.fuzz.cost_inputs import World, many_small
from tests.patience import PATIENT_S
from tests.servers.raw_client import RawClient, one_batch, produce_request
from tests.servers.tierlog import BrokerProcess
from tierlog.broker.api_table import ROWS
from tierlog.errors import ErrorCode
from tierlog.metadata.features import supported_ranges
from tierlog.wire.codec import encode
from tierlog.wire.decoder import MAX_REQUEST_ELEMENTS
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from tierlog.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from tierlog.wire.messages.metadata import MetadataRequest, MetadataResponse
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestTopic,
    OffsetFetchResponse,
)
from tierlog.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from tierlog.wire.messages.update_features import (
    FeatureUpdateKey,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from tierlog.wire.schema import Message

STALL_MS_MAX = 50.0
GROWTH_MIB_MAX = 64.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    directory: Path = tmp_path_factory.mktemp("cost")
    with BrokerProcess(directory) as started:
        with RawClient(started.port) as client:
            client.create_topic("t", 100)
        yield started


@pytest.fixture
def meter(broker: BrokerProcess) -> Iterator[CostMeter]:
    """What a test does must not be too dear."""
    made = CostMeter(broker)
    made.begin()
    yield made
    cost = made.end()
    assert cost.stall_ms <= STALL_MS_MAX
    assert cost.growth_mib <= GROWTH_MIB_MAX


@pytest.fixture
def client(broker: BrokerProcess) -> Iterator[RawClient]:
    with RawClient(broker.port, timeout_s=60) as connected:
        yield connected


@pytest.mark.usefixtures("meter")
def test_eight_thousand_new_topics(client: RawClient, broker: BrokerProcess) -> None:
    topics = [CreatableTopic(name=f"n{n}", num_partitions=1, replication_factor=1) for n in range(8_000)]
    answer = client.call(CreateTopicsRequest(topics=topics, timeout_ms=60_000), CreateTopicsResponse)
    assert {topic.error_code for topic in answer.topics} == {ErrorCode.POLICY_VIOLATION}
    assert len(answer.topics) == 8_000
    # The lease is held, so the controller still answers.
    client.create_topic("after")


@pytest.mark.usefixtures("meter")
def test_the_same_topic_a_hundred_thousand_times(client: RawClient) -> None:
    topics = [CreatableTopic(name="n", num_partitions=1, replication_factor=1)] * 90_000
    answer = client.call(CreateTopicsRequest(topics=topics, timeout_ms=60_000), CreateTopicsResponse)
    assert [topic.error_code for topic in answer.topics] == [ErrorCode.POLICY_VIOLATION]


@pytest.mark.usefixtures("meter")
def test_a_fetch_session_that_grows_without_end(client: RawClient) -> None:
    def fetch(session_id: int, epoch: int, first: int, count: int) -> FetchResponse:
        rows = [FetchPartition(partition=first + n, partition_max_bytes=1) for n in range(count)]
        topics = [FetchTopic(topic="t", partitions=rows)] if rows else []
        asked = FetchRequest(max_wait_ms=10, session_id=session_id, session_epoch=epoch, topics=topics)
        return client.call(asked, FetchResponse, 12)

    answer = fetch(0, 0, 0, 5_000)
    session_id = answer.session_id
    assert session_id
    assert fetch(session_id, 1, 5_000, 5_000).error_code == ErrorCode.NONE
    rows = fetch(session_id, 2, 0, 0).responses[0].partitions
    assert sum(row.error_code != ErrorCode.NONE for row in rows) == 9_900, "errors are told again"
    assert fetch(session_id, 3, 10_000, 1).error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    # Who names as many at once is answered without a session.
    whole = fetch(0, 0, 0, 20_000)
    assert (whole.session_id, len(whole.responses[0].partitions)) == (0, 20_000)


@pytest.mark.usefixtures("meter")
def test_a_produce_to_many_partitions_keeps_its_order(client: RawClient) -> None:
    """Nearly all are unknown; a small one of the same connection comes behind it."""
    batch = one_batch(b"first")
    rows = [PartitionProduceData(index=n, records=batch) for n in range(5_000)]
    client.send(
        ProduceRequest(
            acks=-1, timeout_ms=10_000, topic_data=[TopicProduceData(name="t", partition_data=rows)]
        ),
        12,
    )
    client.send(produce_request("t", {0: one_batch(b"second")}), 12)
    _, wide = client.receive(ProduceResponse, 12)
    _, narrow = client.receive(ProduceResponse, 12)
    codes = [row.error_code for row in wide.responses[0].partition_responses]
    assert codes == [ErrorCode.NONE] * 100 + [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] * 4_900
    assert narrow.responses[0].partition_responses[0].error_code == ErrorCode.NONE
    assert client.values("t") == [b"first", b"second"]
    assert client.values("t", partition=99) == [b"first"]


@pytest.mark.usefixtures("meter")
def test_an_honest_client_is_served_beside_large_requests(broker: BrokerProcess, client: RawClient) -> None:
    is_over = threading.Event()

    def attack() -> None:
        topics = [CreatableTopic(name=f"x{n}", num_partitions=1) for n in range(50_000)]
        with RawClient(broker.port, timeout_s=60) as attacker:
            while not is_over.is_set():
                attacker.call(CreateTopicsRequest(topics=topics, timeout_ms=60_000), CreateTopicsResponse)

    attackers = [threading.Thread(target=attack) for _ in range(3)]
    for thread in attackers:
        thread.start()
    try:
        for _ in range(50):
            assert client.produce("t", one_batch(b"x"), partition=5).error_code == ErrorCode.NONE
            time.sleep(0.02)
    finally:
        is_over.set()
        for thread in attackers:
            thread.join()


@pytest.mark.usefixtures("meter")
@pytest.mark.parametrize("version", [5, 7])
def test_offsets_of_very_many_topics(client: RawClient, version: int) -> None:
    topics = [OffsetFetchRequestTopic(name="") for _ in range(99_000)]
    find = FindCoordinatorRequest(key="g", key_type=0, coordinator_keys=[])
    deadline_s = time.monotonic() + PATIENT_S
    while client.call(find, FindCoordinatorResponse, 1).error_code and time.monotonic() < deadline_s:
        time.sleep(0.05)  # the first makes the topic of offsets
    request = OffsetFetchRequest(group_id="g", topics=topics)
    answer = client.call(request, OffsetFetchResponse, version)
    assert len(answer.topics) == len(topics)


@pytest.mark.usefixtures("meter")
def test_groups_of_very_many_states_and_types(client: RawClient) -> None:
    names = [f"n{n}" for n in range(100_000)]
    for states, types in (names, []), ([], names), (["nobody"], []), ([], ["nobody"]):
        request = ListGroupsRequest(states_filter=states, types_filter=types)
        answer = client.call(request, ListGroupsResponse, 5)
        assert (answer.error_code, answer.groups) == (ErrorCode.NONE, [])


@pytest.mark.usefixtures("meter")
def test_very_many_small_requests_at_once(broker: BrokerProcess, client: RawClient) -> None:
    """A mebibyte of them, of each API: an honest client is served meanwhile."""
    world = World(
        {"t": (client.call(MetadataRequest(topics=None), MetadataResponse).topics[0].topic_id, 100)}
    )
    attacks = list(many_small(world))
    assert len(attacks) == len(ROWS)
    for each in attacks:
        with socket.create_connection(("127.0.0.1", broker.port), timeout=PATIENT_S) as attacker:
            attacker.setblocking(False)
            with suppress(BlockingIOError):
                attacker.send(each.frame)
            for _ in range(3):
                assert client.produce("t", one_batch(b"x"), partition=7).error_code == ErrorCode.NONE


@pytest.mark.usefixtures("meter")
def test_very_many_small_requests_are_answered_in_order(client: RawClient) -> None:
    count = 5_000
    asked = ListOffsetsRequest(
        topics=[ListOffsetsTopic(name="t", partitions=[ListOffsetsPartition(timestamp=-1)])]
    )
    kinds: list[tuple[Message, type[Message], int]] = [
        (asked, ListOffsetsResponse, 7),
        (FetchRequest(max_wait_ms=0), FetchResponse, 12),
    ]
    frames = bytearray()
    for number in range(count):
        request, _, version = kinds[number % 2]
        body = encode(request, version)
        frames += b"".join(encode_request(request.API_KEY, version, number, "c", body))
    sending = threading.Thread(target=client.send_raw, args=(bytes(frames),))
    sending.start()
    for number in range(count):
        _, response, version = kinds[number % 2]
        correlation_id, _ = client.receive(response, version)
        assert correlation_id == number
    sending.join()


@pytest.mark.usefixtures("meter")
def test_updates_of_very_many_features(client: RawClient) -> None:
    name = next(iter(supported_ranges()))
    for count, error in ((10_001, ErrorCode.POLICY_VIOLATION), (10_000, ErrorCode.NONE)):
        updates = [FeatureUpdateKey(feature=name, max_version_level=1, upgrade_type=1)] * count
        request = UpdateFeaturesRequest(feature_updates=updates, validate_only=True)
        answer = client.call(request, UpdateFeaturesResponse)
        if error:
            assert answer.error_code == error
        else:
            assert answer.error_code != ErrorCode.POLICY_VIOLATION


@pytest.mark.usefixtures("meter")
def test_more_elements_than_a_request_may_have(broker: BrokerProcess, client: RawClient) -> None:
    """The connection is closed, and that of an honest client lives."""
    for count in (MAX_REQUEST_ELEMENTS, MAX_REQUEST_ELEMENTS + 1):
        topics = [ListOffsetsTopic(name="") for _ in range(count)]
        with RawClient(broker.port) as attacker:
            attacker.send(ListOffsetsRequest(topics=topics), 7)
            assert attacker.is_closed_by_peer() is (count > MAX_REQUEST_ELEMENTS)
        assert client.produce("t", one_batch(b"x"), partition=9).error_code == ErrorCode.NONE
