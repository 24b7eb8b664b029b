"""Reads a partition's records from another replica, as a consumer would (KIP-392), to repair bad bytes on this disk.

Every batch's checksum is verified before it is handed on. Bounds: one request in flight, of 4 MiB or one batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from tierlog.broker.network.peer_connection import PeerConnection, PeerUnavailable
from tierlog.errors import ErrorCode, TierlogError
from tierlog.metadata.records import Endpoint
from tierlog.records.batch import BatchHeader, InvalidBatch, verify_crc, walk_whole
from tierlog.wire.codec import decode, encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData

FETCH = 1
FETCH_VERSION = 17
READ_BYTES = 4 << 20
ANSWER_TIMEOUT_S = 30.0


class NotThere(TierlogError):
    """The replica answers, but lacks the records or has them damaged."""


class PeerReads:
    """One connection to one broker; the caller closes it."""

    def __init__(self, node_id: int, max_frame_bytes: int) -> None:
        self._name = f"broker-{node_id}-repair"
        self._max_frame_bytes = max_frame_bytes
        self._connection: PeerConnection | None = None
        self._answer: asyncio.Future[FetchResponse] | None = None

    async def connect(self, endpoint: Endpoint) -> None:
        """Raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            _, self._connection = await loop.create_connection(
                lambda: PeerConnection(loop, self._max_frame_bytes, self._on_answer),
                endpoint.host,
                endpoint.port,
            )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def batches(
        self, topic_id: bytes, partition: int, start_offset: int, end_offset: int
    ) -> AsyncGenerator[bytes, None]:
        """All batches that begin in ``[start_offset, end_offset)``. Raises PeerUnavailable, NotThere."""
        offset = start_offset
        while offset < end_offset:
            answer = await self._ask(topic_id, partition, offset)
            error, records = ErrorCode(answer.error_code), answer.records
            assert isinstance(records, bytes)
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
        connection = self._connection
        assert connection is not None
        asked = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=READ_BYTES)
        request = FetchRequest(
            max_bytes=READ_BYTES, topics=[FetchTopic(topic_id=topic_id, partitions=[asked])]
        )
        self._answer = asyncio.get_running_loop().create_future()
        connection.send(encode_request(FETCH, FETCH_VERSION, 1, self._name, encode(request, FETCH_VERSION)))
        waiting: set[asyncio.Future[object]] = {self._answer, connection.closed}  # type: ignore[arg-type]
        done, _ = await asyncio.wait(waiting, timeout=ANSWER_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if self._answer not in done:
            raise PeerUnavailable("no answer")
        return self._answer.result().responses[0].partitions[0]

    def _on_answer(self, frame: memoryview) -> None:
        _, body_at = decode_response_header(FETCH, FETCH_VERSION, frame)
        response, _ = decode(FetchResponse, FETCH_VERSION, frame, body_at)
        for topic in response.responses:
            for partition in topic.partitions:
                records = partition.records or b""
                assert not isinstance(records, list)
                partition.records = bytes(memoryview(records))  # type: ignore[arg-type]  # the frame is valid in here only
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(response)


def proved(records: bytes) -> list[tuple[BatchHeader, bytes]]:
    """The whole batches, with verified checksums. Raises NotThere if one is damaged."""
    try:
        found = [(header, at) for at, header in walk_whole(records)]
    except InvalidBatch as error:
        raise NotThere(str(error)) from error
    if not all(verify_crc(records, at, header) for header, at in found):
        raise NotThere("a batch there fails its checksum too")
    return [(header, records[at : at + header.size_bytes]) for header, at in found]
