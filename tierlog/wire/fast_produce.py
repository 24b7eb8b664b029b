"""Hand-written Produce: one topic with one partition, the shape of nearly every request of a busy producer.

The compiled function handles everything else, malformed input included: it alone decides what is an error. So these
functions never raise for input that they do not recognise.
"""

from __future__ import annotations

from struct import Struct as Layout

from tierlog.types import Buffer
from tierlog.wire.messages.produce import (
    LeaderIdAndEpoch,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from tierlog.wire.schema import ZERO_UUID, Decoder, Encoder, shared_default

FLEXIBLE = 9
TOPIC_IDS = 13
LOG_START_OFFSET = 5
RECORD_ERRORS = 8

_new = object.__new__
_NO_TAGS = (0, 0)
_no_leader = shared_default(LeaderIdAndEpoch)

# Null transactional id, acks, timeout, topic count; then the fields that one read covers, by version.
_head_by_id = Layout(">BhiB16sBiB").unpack_from  # topic id, partition count, index, first byte of the length
_head_by_name = Layout(">BhiBB").unpack_from  # name length
_partition = Layout(">BiB").unpack_from  # partition count, index, first byte of the length
_tail = Layout(">HB").unpack_from  # the tag counts of partition, topic and request
_plain_head = Layout(">hhiih").unpack_from
_plain_partition = Layout(">iii").unpack_from


def produce_decoder(version: int, generic: Decoder) -> Decoder:
    """The reader of ProduceRequest at ``version``; ``generic`` is the compiled one."""

    def decode_by_id(data: Buffer, at: int) -> tuple[ProduceRequest, int]:
        if len(data) - at < 33:
            return generic(data, at)
        no_id, acks, timeout, topics, topic_id, count, index, size = _head_by_id(data, at)
        if no_id or topics != 2 or count != 2:
            return generic(data, at)
        end, records = _records(data, at + 30, size)
        if records is None:
            return generic(data, at)
        return _request(acks, timeout, "", topic_id, index, records), end

    def decode_by_name(data: Buffer, at: int) -> tuple[ProduceRequest, int]:
        if len(data) - at < 18:
            return generic(data, at)
        no_id, acks, timeout, topics, length = _head_by_name(data, at)
        stop = at + 8 + length
        if no_id or topics != 2 or length > 127 or not length or len(data) - stop < 9:
            return generic(data, at)
        count, index, size = _partition(data, stop)
        end, records = _records(data, stop + 6, size)
        if records is None or count != 2:
            return generic(data, at)
        name = str(data[at + 9 : stop], "utf-8")
        return _request(acks, timeout, name, ZERO_UUID, index, records), end

    def decode_plain(data: Buffer, at: int) -> tuple[ProduceRequest, int]:
        if len(data) - at < 26:
            return generic(data, at)
        no_id, acks, timeout, topics, length = _plain_head(data, at)
        stop = at + 14 + length
        if no_id != -1 or topics != 1 or length < 0 or len(data) - stop < 12:
            return generic(data, at)
        count, index, size = _plain_partition(data, stop)
        end = stop + 12 + size
        if count != 1 or size < 0 or end > len(data):
            return generic(data, at)
        name = str(data[at + 14 : stop], "utf-8")
        return _request(acks, timeout, name, ZERO_UUID, index, memoryview(data)[stop + 12 : end]), end

    if version >= TOPIC_IDS:
        return decode_by_id
    return decode_by_name if version >= FLEXIBLE else decode_plain


def _records(data: Buffer, position: int, size: int) -> tuple[int, memoryview | None]:
    """The records whose compact length begins with the byte ``size``, and the end of the message, which is behind three
    empty tag sections. Reads lengths of up to three bytes (2 MiB); otherwise the records are None."""
    if size > 127:
        byte = data[position]
        size += (byte << 7) - 128
        position += 1
        if byte > 127:
            byte = data[position]
            size += (byte << 14) - 16384
            position += 1
            if byte > 127:
                return 0, None
    end = position + size - 1
    if not size or len(data) - end < 3 or _tail(data, end) != _NO_TAGS:
        return 0, None
    view = data if data.__class__ is memoryview else memoryview(data)
    return end + 3, view[position:end]


def _request(
    acks: int, timeout: int, name: str, topic_id: bytes, index: int, records: memoryview
) -> ProduceRequest:
    partition: PartitionProduceData = _new(PartitionProduceData)
    partition.index = index
    partition.records = records
    topic: TopicProduceData = _new(TopicProduceData)
    topic.name = name
    topic.topic_id = topic_id
    topic.partition_data = [partition]
    request: ProduceRequest = _new(ProduceRequest)
    request.transactional_id = None
    request.acks = acks
    request.timeout_ms = timeout
    request.topic_data = [topic]
    return request


# From the partition count to the end of the message; v5 to v7 lack the record errors and the message.
_plain_v3 = Layout(">iihqqi").pack
_plain_v5 = Layout(">iihqqqi").pack
_plain_v8 = Layout(">iihqqqihi").pack
_flexible_end = Layout(">BihqqqBxxxix").pack
_by_id = Layout(">B16sBihqqqBxxxix").pack
_count_and_length = Layout(">ih").pack


def produce_encoder(version: int, generic: Encoder) -> Encoder:
    """The writer of ProduceResponse at ``version``; ``generic`` is the compiled one."""

    def encode(message: ProduceResponse) -> list[Buffer]:
        responses = message.responses
        if len(responses) != 1 or message.node_endpoints:
            return generic(message)
        topic = responses[0]
        partitions = topic.partition_responses
        if len(partitions) != 1:
            return generic(message)
        partition = partitions[0]
        if (
            partition.record_errors
            or partition.error_message is not None
            or partition.current_leader is not _no_leader
        ):
            return generic(message)
        if version >= FLEXIBLE:
            return _encode_flexible(version, message, topic.name, topic.topic_id, partition, generic)
        name = topic.name.encode()
        head = _count_and_length(1, len(name)) + name
        if version >= RECORD_ERRORS:
            tail = _plain_v8(
                1,
                partition.index,
                partition.error_code,
                partition.base_offset,
                partition.log_append_time_ms,
                partition.log_start_offset,
                0,
                -1,
                message.throttle_time_ms,
            )
        elif version >= LOG_START_OFFSET:
            tail = _plain_v5(
                1,
                partition.index,
                partition.error_code,
                partition.base_offset,
                partition.log_append_time_ms,
                partition.log_start_offset,
                message.throttle_time_ms,
            )
        else:
            tail = _plain_v3(
                1,
                partition.index,
                partition.error_code,
                partition.base_offset,
                partition.log_append_time_ms,
                message.throttle_time_ms,
            )
        return [bytearray(head + tail)]

    return encode


def _encode_flexible(
    version: int,
    message: ProduceResponse,
    name: str,
    topic_id: bytes,
    partition: PartitionProduceResponse,
    generic: Encoder,
) -> list[Buffer]:
    if version >= TOPIC_IDS:
        if len(topic_id) != 16:
            return generic(message)
        return [
            _by_id(
                2,
                topic_id,
                2,
                partition.index,
                partition.error_code,
                partition.base_offset,
                partition.log_append_time_ms,
                partition.log_start_offset,
                1,
                message.throttle_time_ms,
            )
        ]
    text = name.encode()
    if len(text) > 126:
        return generic(message)
    return [
        b"\x02%c%b%b"
        % (
            len(text) + 1,
            text,
            _flexible_end(
                2,
                partition.index,
                partition.error_code,
                partition.base_offset,
                partition.log_append_time_ms,
                partition.log_start_offset,
                1,
                message.throttle_time_ms,
            ),
        )
    ]
