"""Microseconds of CPU per message, generic path and hand-written path side by side.

Usage: python -m benchmarks.codec [--json]

Each figure is the best of several rounds of ``thread_time``; compare within one run only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from time import thread_time_ns
from typing import Any

from tierlog.types import Buffer
from tierlog.wire.codec import decode, encode
from tierlog.wire.decoder import compile_decoder
from tierlog.wire.encoder import compile_encoder
from tierlog.wire.framing import decode_request_header, encode_request_header, encode_response
from tierlog.wire.messages import fetch, metadata, produce
from tierlog.wire.schema import Message

RECORDS = bytes(16384)
TOPIC_ID = bytes(range(16))
ROUNDS, CALLS = 9, 4000


def microseconds(call: Callable[[], Any], calls: int = CALLS) -> float:
    best = 1 << 62
    for _ in range(ROUNDS):
        start = thread_time_ns()
        for _ in range(calls):
            call()
        best = min(best, thread_time_ns() - start)
    return best / calls / 1000


def produce_request(version: int) -> produce.ProduceRequest:
    data = produce.PartitionProduceData(index=3, records=RECORDS)
    topic = produce.TopicProduceData(partition_data=[data])
    if version < 13:
        topic.name = "flights"
    else:
        topic.topic_id = TOPIC_ID
    return produce.ProduceRequest(acks=-1, timeout_ms=30000, topic_data=[topic])


def produce_response(version: int) -> produce.ProduceResponse:
    partition = produce.PartitionProduceResponse(index=3, base_offset=12345, log_start_offset=0)
    topic = produce.TopicProduceResponse(partition_responses=[partition])
    if version < 13:
        topic.name = "flights"
    else:
        topic.topic_id = TOPIC_ID
    return produce.ProduceResponse(responses=[topic])


def fetch_request(version: int) -> fetch.FetchRequest:
    partitions = [
        fetch.FetchPartition(partition=i, fetch_offset=1000 + i, partition_max_bytes=1 << 20)
        for i in range(6)
    ]
    topic = fetch.FetchTopic(partitions=partitions)
    if version < 13:
        topic.topic = "flights"
    else:
        topic.topic_id = TOPIC_ID
    return fetch.FetchRequest(max_wait_ms=500, min_bytes=1, topics=[topic])


def fetch_response(version: int, records: Buffer | None) -> fetch.FetchResponse:
    partitions = [
        fetch.PartitionData(
            partition_index=i, high_watermark=5, last_stable_offset=5, log_start_offset=0, records=records
        )
        for i in range(6)
    ]
    topic = fetch.FetchableTopicResponse(partitions=partitions)
    if version < 13:
        topic.topic = "flights"
    else:
        topic.topic_id = TOPIC_ID
    return fetch.FetchResponse(responses=[topic])


def reading(name: str, message: Message, version: int) -> tuple[str, float, float]:
    cls = type(message)
    wire = bytearray(b"".join(encode(message, version)))
    generic = compile_decoder(cls, version)
    return name, microseconds(lambda: generic(wire, 0)), microseconds(lambda: decode(cls, version, wire))


def writing(name: str, build: Callable[[], Message], version: int) -> tuple[str, float, float]:
    """Building the message is part of the cost."""
    generic = compile_encoder(type(build()), version)
    return name, microseconds(lambda: generic(build())), microseconds(lambda: encode(build(), version))


def metadata_response(topics: int) -> metadata.MetadataResponse:
    return metadata.MetadataResponse(
        topics=[
            metadata.MetadataResponseTopic(
                name=f"topic-{i}",
                partitions=[
                    metadata.MetadataResponsePartition(
                        partition_index=p, leader_id=1, replica_nodes=[1], isr_nodes=[1]
                    )
                    for p in range(3)
                ],
            )
            for i in range(topics)
        ]
    )


def main() -> None:
    rows = [reading(f"Produce v{v} request decode, 16 KB", produce_request(v), v) for v in (7, 9, 13)]
    rows += [
        writing(f"Produce v{v} response build+encode", lambda v=v: produce_response(v), v)  # type: ignore[misc]
        for v in (7, 9, 13)
    ]
    rows += [reading(f"Fetch v{v} request decode, 6 partitions", fetch_request(v), v) for v in (12, 17)]
    for version in (12, 18):
        filled, empty = fetch_response(version, RECORDS), fetch_response(version, b"")
        title = f"Fetch v{version} response encode, 6 partitions"
        rows.append(writing(f"{title}, 16 KB each", lambda m=filled: m, version))  # type: ignore[misc]
        rows.append(writing(f"{title}, empty", lambda m=empty: m, version))  # type: ignore[misc]
    large = metadata_response(100)
    rows.append(writing("Metadata v12 response encode, 100 topics", lambda: large, 12))
    header = encode_request_header(0, 9, 77, "producer-1")
    rows.append(("request header decode", 0.0, microseconds(lambda: decode_request_header(header))))
    body = bytearray(60)
    rows.append(("response framing", 0.0, microseconds(lambda: encode_response(0, 9, 77, [bytearray(body)]))))
    if "--json" in sys.argv:
        print(json.dumps([{"name": n, "generic_us": round(g, 2), "us": round(f, 2)} for n, g, f in rows]))
        return
    print(f"{'':56} {'generic':>8} {'used':>8}   us of CPU")
    for name, generic, used in rows:
        print(f"{name:56} {generic:8.2f} {used:8.2f}")


if __name__ == "__main__":
    main()
