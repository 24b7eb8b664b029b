"""Handlers of offsets and clients over a whole broker in this process, as in ``test_handlers``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import create, running
from tests.unit.broker.test_handlers import (
    call,
    fill,
    record_batch,
    start,
)
from tierlog.broker.node import Broker
from tierlog.errors import ErrorCode
from tierlog.metadata.records import PRODUCER_ID_BLOCK
from tierlog.wire.messages.api_versions import ApiVersionsRequest
from tierlog.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest
from tierlog.wire.messages.init_producer_id import InitProducerIdRequest
from tierlog.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic

SOMETHING = bytes(range(16))


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running(tmp_path) as started:
        yield started


class TestOffsets:
    async def test_a_partition_named_twice_is_refused_once(self, broker: Broker) -> None:
        await create(broker, 2)
        rows = [ListOffsetsPartition(partition_index=index, timestamp=-1) for index in (0, 1, 0)]
        request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name="t", partitions=rows)])
        (topic,) = start(broker, request).topics
        assert [(row.partition_index, row.error_code) for row in topic.partitions] == [
            (0, ErrorCode.INVALID_REQUEST),
            (1, 0),
        ]

    async def test_records_are_deleted_where_they_may_be(self, broker: Broker) -> None:
        (partition,) = await create(broker, cleanup_policy="compact,delete")
        await fill(broker, (0, record_batch()), (0, record_batch()))
        await call(broker, FindCoordinatorRequest(coordinator_keys=["g"]))

        async def delete(name: str, *offsets: int) -> list[tuple[int, int]]:
            rows = [DeleteRecordsPartition(partition_index=0, offset=offset) for offset in offsets]
            topics = [DeleteRecordsTopic(name=name, partitions=rows)]
            response = await call(broker, DeleteRecordsRequest(topics=topics, timeout_ms=5000))
            return [(row.error_code, row.low_watermark) for row in response.topics[0].partitions]

        assert await delete("__consumer_offsets", 0) == [(ErrorCode.INVALID_TOPIC_EXCEPTION, -1)]
        assert await delete("t", 3) == [(ErrorCode.OFFSET_OUT_OF_RANGE, -1)]
        assert await delete("t", -2) == [(ErrorCode.OFFSET_OUT_OF_RANGE, -1)]
        assert await delete("t", 2, 1) == [(0, 1)], "the last one named"
        assert await delete("t", -1) == [(0, 2)]
        assert await delete("t", 0) == [(0, 2)]
        assert partition.log_start_offset == 2


class TestClients:
    async def test_which_broker_a_client_means(self, broker: Broker) -> None:
        own = (broker.services.cluster_id, broker.services.broker_id)
        for cluster_id, node_id, code in (
            (None, -1, 0),
            (*own, 0),
            (None, own[1], ErrorCode.INVALID_REQUEST),
            (own[0], -1, ErrorCode.INVALID_REQUEST),
            (own[0], own[1] + 1, ErrorCode.REBOOTSTRAP_REQUIRED),
            ("other", own[1], ErrorCode.REBOOTSTRAP_REQUIRED),
        ):
            request = ApiVersionsRequest(client_software_name="a", client_software_version="1")
            request.cluster_id, request.node_id = cluster_id, node_id
            response = start(broker, request, 5)
            assert response.error_code == code
            assert bool(response.api_keys) == (code == 0)

    async def test_producer_ids_are_given_once_over_all_blocks(self, broker: Broker) -> None:
        given = set()
        for _ in range(PRODUCER_ID_BLOCK + 10):
            response = await call(broker, InitProducerIdRequest(transactional_id=None))
            assert (response.error_code, response.producer_epoch) == (0, 0)
            given.add(response.producer_id)
        assert len(given) == PRODUCER_ID_BLOCK + 10

    async def test_transactions_are_refused_for_good(self, broker: Broker) -> None:
        response = start(broker, InitProducerIdRequest(transactional_id="x"))
        assert not ErrorCode(response.error_code).retriable
        assert (response.producer_id, response.producer_epoch) == (-1, -1)
