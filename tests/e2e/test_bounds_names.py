"""Names that clients make up: they cost the request that carries them, and leave nothing behind (I15)."""

from __future__ import annotations

import contextlib

from tests.servers.honest import HonestClient
from tests.servers.raw_client import Disconnected, RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

MADE_UP = "made-up"
COUNT = 200


def test_made_up_names_leave_nothing_in_the_metrics(broker: BrokerProcess) -> None:
    with HonestClient(broker.port, "beside-names") as honest, RawClient(broker.port) as client:
        client.call(FindCoordinatorRequest(key_type=0, coordinator_keys=["g"]), FindCoordinatorResponse)
        before = len(broker.metrics())
        for number in range(COUNT):
            name = f"{MADE_UP}-{number}"
            topics = [MetadataRequestTopic(name=name)]
            client.send(
                MetadataRequest(topics=topics, allow_auto_topic_creation=False), client_id=name * 1000
            )
            client.receive(MetadataResponse)
            client.call(HeartbeatRequest(group_id=name, generation_id=1, member_id=name), HeartbeatResponse)
            client.produce(name, one_batch(b"x"))
            client.list_offsets(name, -1)
        for _ in range(3):
            with RawClient(broker.port) as unknown:
                unknown.send_raw(b"\0\0\0\x08\x7f\xff\0\0\0\0\0\x01")
                with contextlib.suppress(Disconnected):
                    unknown.receive_frame()
        after = broker.metrics()
        assert not [name for name in after if MADE_UP in name]
        assert len(after) <= before + 60, "error codes and APIs that were seen for the first time"
        honest.goes_on(5)
