"""Reads a partition's records from another replica, as a consumer would (KIP-392), to repair bad bytes on this disk.

Every batch's checksum is verified before it is handed on. Bounds: one request in flight, of 4 MiB or one batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

from tierlog.broker.network.peer_client import PeerClient
from tierlog.broker.network.peer_connection import PeerUnavailable
from tierlog.errors import ErrorCode, TierlogError
from tierlog.kernel import compiled
from tierlog.metadata.records import Endpoint
from tierlog.records.batch import BatchHeader, InvalidBatch, verify_crc, walk_whole
from tierlog.types import Buffer
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData

FETCH_VERSION = 17
READ_BYTES = 4 << 20
ANSWER_TIMEOUT_S = 30.0


class NotThere(TierlogError):
    """The replica answers, but lacks the records or has them damaged."""


class PeerReads:
    """One connection to one broker; the caller closes it."""

    def __init__(self, node_id: int, max_frame_bytes: int) -> None:
        self._client = PeerClient(f"broker-{node_id}-repair", max_frame_bytes)

    async def connect(self, endpoint: Endpoint) -> None:
        """Raises OSError, TimeoutError."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await self._client.connect(endpoint)

    def close(self) -> None:
        self._client.close()

    async def batches(
        self, topic_id: bytes, partition: int, start_offset: int, end_offset: int
    ) -> AsyncGenerator[bytes, None]:
        """All batches that begin in ``[start_offset, end_offset)``. Raises NotThere, and what
        ``PeerClient.call`` raises; TimeoutError."""
        offset = start_offset
        while offset < end_offset:
            answer = await self._ask(topic_id, partition, offset)
            error = ErrorCode(answer.error_code)
            records = bytes(cast(Buffer, answer.records or b""))
            if error in (
                ErrorCode.OFFSET_OUT_OF_RANGE,
                ErrorCode.KAFKA_STORAGE_ERROR,
                ErrorCode.CORRUPT_MESSAGE,
            ):
                raise NotThere(f"{error.name} at offset {offset}")
            if error or answer.high_watermark < end_offset:
                raise PeerUnavailable(f"{error.name}, committed up to {answer.high_watermark}")
            if not records:
                raise PeerUnavailable(f"nothing at offset {offset}")
            found = proved(records)
            if not found:
                raise NotThere(f"no whole batch at offset {offset}")
            for header, batch in found:
                if header.base_offset >= end_offset:
                    return
                if header.base_offset >= start_offset:
                    yield batch
                offset = header.next_offset

    async def _ask(self, topic_id: bytes, partition: int, offset: int) -> PartitionData:
        asked = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=READ_BYTES)
        request = FetchRequest(
            max_bytes=READ_BYTES, topics=[FetchTopic(topic_id=topic_id, partitions=[asked])]
        )
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer = await self._client.call(request, FETCH_VERSION)
        assert isinstance(answer, FetchResponse)
        return answer.responses[0].partitions[0]


def proved(records: bytes) -> list[tuple[BatchHeader, bytes]]:
    """The whole batches, with verified checksums. Raises NotThere if one is damaged."""
    headers, at = [], 0
    if compiled is not None:
        headers, at = compiled.headers(records, 0, len(records), True, len(records), BatchHeader)
    try:
        for position, header in walk_whole(records, at):
            if not verify_crc(records, position, header):
                raise NotThere("a batch there fails its checksum too")
            headers.append(header)
    except InvalidBatch as error:
        raise NotThere(str(error)) from error
    found, at = [], 0
    for header in headers:
        found.append((header, records[at : at + header.size_bytes]))
        at += header.size_bytes
    return found
