"""Request frames for every API in every version, plausible enough to get past the checks at the door.

``corpus(rng)`` gives one frame per (API, version), size prefix included, ready for a socket; call it again
for others. ``mutate`` damages one while it stays a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from random import Random

from crc32c import crc32c

from tests.fuzz.wire_random import Fixed, random_message
from tierlog.metadata.features import supported_ranges
from tierlog.wire.codec import encode_bytes
from tierlog.wire.framing import encode_request_header
from tierlog.wire.registry import APIS

NO_TOPIC_ID = bytes(16)


def corpus(
    rng: Random,
    topic: str = "fuzz",
    topic_id: bytes = NO_TOPIC_ID,
    group_id: str = "fuzz-group",
    partitions: int = 3,
    keys: frozenset[int] | None = None,
) -> Iterator[tuple[int, int, bytes]]:
    """(API key, version, frame) for every version of every API, or of ``keys``. Waits and timeouts are drawn
    short, so that no frame parks a connection for long."""
    fixed = plausible(topic, topic_id, group_id, partitions)
    for key, spec in sorted(APIS.items()):
        if keys is not None and key not in keys:
            continue
        for version in range(spec.first_decodable_version, spec.max_version + 1):
            body = encode_bytes(random_message(spec.request, version, rng, fixed), version)
            client_id = rng.choice((None, "", "fuzz", "x" * 300))
            payload = encode_request_header(key, version, rng.randrange(1 << 31), client_id) + body
            yield key, version, struct.pack(">i", len(payload)) + payload


def mutate(rng: Random, frame: bytes, keep_bytes: int = 14) -> bytes:
    """Damages a frame behind its first ``keep_bytes`` (size, key, version, correlation id, client id length). Mostly one
    byte is changed, which leaves about a third of all frames decodable; else up to four pieces are changed, cut out,
    doubled or inserted. The size prefix is made right again, but for one frame in thirty."""
    data = bytearray(frame)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        if len(data) <= keep_bytes:
            break
        at = rng.randrange(keep_bytes, len(data))
        length = rng.choice((1, 1, 1, 2, 4, 8))
        choice = rng.randrange(10)
        if choice < 5:
            data[at] ^= 1 << rng.randrange(8)
        elif choice < 7:
            data[at] = rng.choice((0, 1, 2, 127, 128, 254, 255))
        elif choice == 7:
            del data[at : at + length]
        elif choice == 8:
            data[at:at] = data[at : at + length]
        else:
            data[at:at] = rng.randbytes(length)
    size = len(data) - 4
    if rng.randrange(30) == 0:
        size = rng.choice((0, 1, -1, size + 1, size - 1, 1 << 30, (1 << 31) - 1))
    data[:4] = struct.pack(">i", size)
    return bytes(data)


def record_batch(rng: Random, records: int | None = None) -> bytes:
    """A valid uncompressed v2 batch of one to five records with keys."""
    count = records or rng.randrange(1, 6)
    body = b""
    for delta in range(count):
        key, value = rng.randbytes(rng.randrange(1, 9)), rng.randbytes(rng.randrange(60))
        record = b"\0\0" + zigzag(delta) + zigzag(len(key)) + key + zigzag(len(value)) + value + zigzag(0)
        body += zigzag(len(record)) + record
    now_ms = 1_700_000_000_000 + rng.randrange(1 << 30)
    rest = struct.pack(">hiqqqhii", 0, count - 1, now_ms, now_ms, -1, -1, -1, count) + body
    return struct.pack(">qiiBI", 0, len(rest) + 9, -1, 2, crc32c(rest)) + rest


def zigzag(value: int) -> bytes:
    """A small signed varint, as in records."""
    value = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def plausible(topic: str, topic_id: bytes, group_id: str, partitions: int) -> Fixed:
    """What the fields of these names hold; a draw is mostly right and sometimes wrong."""

    def mostly(value: object, *others: object) -> Callable[[Random], object]:
        return lambda rng: value if rng.random() < 0.85 or not others else rng.choice(others)

    def below(limit: int) -> Callable[[Random], object]:
        return lambda rng: rng.randrange(limit)

    fixed: Fixed = {
        ("records", "records"): record_batch,
        ("acks", "int16"): lambda rng: rng.choice((-1, 0, 1)),
        ("transactional_id", "string"): mostly(None, "fuzz-transaction"),
        ("group_id", "string"): mostly(group_id, "other-group", ""),
        ("groups", "string"): mostly(group_id, "other-group"),
        ("groups_names", "string"): mostly(group_id, "other-group"),
        ("topic_id", "uuid"): mostly(topic_id, bytes(range(16))),
        ("member_id", "string"): mostly("", "member-1"),
        ("protocol_type", "string"): mostly("consumer", ""),
        ("fetch_offset", "int64"): below(20),
        ("timestamp", "int64"): lambda rng: rng.choice((-1, -2, -3, -4, -5, -6, 1_700_000_000_000)),
        ("partition_max_bytes", "int32"): mostly(1 << 20, 0, -1),
        ("max_bytes", "int32"): mostly(1 << 20, 0, -1),
        ("replica_id", "int32"): mostly(-1, 1),
        ("session_id", "int32"): mostly(0, 7),
        ("session_epoch", "int32"): mostly(-1, 0, 1),
        ("current_leader_epoch", "int32"): mostly(-1, 0, 99),
        ("last_fetched_epoch", "int32"): mostly(-1, 0),
        ("session_timeout_ms", "int32"): mostly(6000, 1, -1),
        ("rebalance_timeout_ms", "int32"): below(50),
        ("max_wait_ms", "int32"): below(20),
        ("min_bytes", "int32"): below(3),
        ("num_partitions", "int32"): below(5),
        ("replication_factor", "int16"): mostly(1, -1, 3),
        ("resource_type", "int8"): lambda rng: rng.choice((2, 4, 8, 16, 32)),
        ("resource_name", "string"): mostly(topic, "1", ""),
        ("key_type", "int8"): mostly(0, 1, 2),
        ("feature", "string"): lambda rng: rng.choice((*supported_ranges(), "metadata.version", "")),
        ("max_version_level", "int16"): below(4),
        ("upgrade_type", "int8"): lambda rng: rng.choice((1, 2, 3, 0, 9)),
    }
    fixed |= dict.fromkeys([("timeout_ms", "int32"), ("timeout", "int32")], below(50))
    names = ("name", "topic", "topic_name", "topic_names", "topics")
    fixed |= {(name, "string"): mostly(topic, topic + "-2", "", "no/such") for name in names}
    indexes = ("index", "partition", "partition_index", "partitions", "partition_indexes")
    fixed |= {(name, "int32"): below(partitions + 1) for name in indexes}
    return fixed
