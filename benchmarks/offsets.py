"""Offset commits from a raw client: groups without members, frames encoded beforehand.

    python -m benchmarks.offsets --bootstrap HOST:PORT --topic T --commits N [--per-request 10]

All partitions of the topic are committed in turn for one group, so that partitions are keys. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import struct
import time

from benchmarks.wire import CORRELATION_ID, Refused, connect, exchange, receive, topic_of
from tierlog.wire.codec import decode_exact, encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)

GROUP = "bench-offsets"
COMMIT, COMMIT_VERSION, FETCH_VERSION, FIND_VERSION = 8, 8, 8, 4
IN_FLIGHT = 5
_TIMEOUT_S = 60.0
_int32 = struct.Struct(">i")


def await_coordinator(bootstrap: str, topic: str) -> None:
    """Makes ``__consumer_offsets`` where it is not there yet and waits until the group may commit."""
    deadline = time.monotonic() + _TIMEOUT_S
    request = FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP])
    with connect(bootstrap) as connection:
        while True:
            found = exchange(connection, request, FIND_VERSION, FindCoordinatorResponse).coordinators[0]
            if not found.error_code:
                connection.sendall(frames(topic, 1, 1, 0)[0])
                if _error_codes(receive(connection, _int32.unpack(receive(connection, 4))[0])) == {0}:
                    return
            if time.monotonic() > deadline:
                raise Refused("the coordinator does not come up")
            time.sleep(0.1)


def committed(bootstrap: str, topic: str, partition: int) -> int | None:
    """What the group has committed; None while its coordinator loads."""
    connection = connect(bootstrap)
    wanted = OffsetFetchRequestTopics(name=topic, partition_indexes=[partition])
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=GROUP, topics=[wanted])])
    try:
        answer = exchange(connection, request, FETCH_VERSION, OffsetFetchResponse)
    finally:
        connection.close()
    (group,) = answer.groups
    if group.error_code:
        return None
    return group.topics[0].partitions[0].committed_offset


def frames(topic: str, partitions: int, per_request: int, offset: int) -> list[bytes]:
    made = []
    for first in range(0, partitions, per_request):
        rows = [
            OffsetCommitRequestPartition(partition_index=p, committed_offset=offset, committed_metadata="")
            for p in range(first, min(first + per_request, partitions))
        ]
        request = OffsetCommitRequest(
            group_id=GROUP, topics=[OffsetCommitRequestTopic(name=topic, partitions=rows)]
        )
        body = encode(request, COMMIT_VERSION)
        made.append(b"".join(encode_request(COMMIT, COMMIT_VERSION, CORRELATION_ID, "benchmark", body)))
    return made


def commit_all(bootstrap: str, topic: str, commits: int, per_request: int) -> float:
    """Seconds from the first request to the last reply."""
    connection = connect(bootstrap)
    found = topic_of(connection, topic)
    encoded = frames(topic, found.partitions, per_request, 42)
    requests = -(-commits // per_request)
    began, sent, done = time.perf_counter(), 0, 0
    while done < requests:
        while sent < requests and sent - done < IN_FLIGHT:
            connection.sendall(encoded[sent % len(encoded)])
            sent += 1
        body = receive(connection, _int32.unpack(receive(connection, 4))[0])
        if done < 3 or done % 1000 == 0:  # All replies look alike; looking into some of them is enough.
            codes = _error_codes(body)
            if codes != {0}:
                raise Refused(f"OffsetCommit: error codes {codes}")
        done += 1
    return time.perf_counter() - began


def _error_codes(body: bytearray) -> set[int]:
    _, offset = decode_response_header(COMMIT, COMMIT_VERSION, body)
    answer = decode_exact(OffsetCommitResponse, COMMIT_VERSION, body, offset)
    return {row.error_code for row in answer.topics[0].partitions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--commits", type=int, required=True)
    parser.add_argument("--per-request", type=int, default=10)
    asked = parser.parse_args()
    wall_s = commit_all(asked.bootstrap, asked.topic, asked.commits, asked.per_request)
    requests = -(-asked.commits // asked.per_request)
    print(
        json.dumps({"requests": requests, "records": asked.commits, "bytes": asked.commits, "wall_s": wall_s})
    )


if __name__ == "__main__":
    main()
