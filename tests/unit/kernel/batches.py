"""Record batches for the kernel and its twin: sound ones, and ones that are mutated, cut off or lie about themselves."""

from __future__ import annotations

import os
import random

from tierlog.records.batch import (
    COUNT_AT,
    CRC_AT,
    HEADER,
    HEADER_BYTES,
    LAST_OFFSET_DELTA_AT,
    LEADER_EPOCH_AT,
    LENGTH_AT,
    LOG_OVERHEAD_BYTES,
    MAGIC_AT,
    MAX_TIMESTAMP_AT,
    PRODUCER_ID_AT,
    seal,
)

INPUTS = int(os.environ.get("TIERLOG_KERNEL_INPUTS", "200"))
"""Inputs that each test looks at."""
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_PLACES = (
    0,
    LENGTH_AT,
    LEADER_EPOCH_AT,
    MAGIC_AT,
    CRC_AT,
    LAST_OFFSET_DELTA_AT,
    MAX_TIMESTAMP_AT,
    PRODUCER_ID_AT,
    COUNT_AT,
)


def batch(
    rng: random.Random,
    base_offset: int,
    count: int,
    epoch: int,
    body_bytes: int,
    producer_id: int | None = None,
) -> bytearray:
    """One whole batch; its records are noise."""
    producer_id = rng.choice((-1, 7, 7, 7, 900)) if producer_id is None else producer_id
    attributes = rng.choice((0, 0, 0, 0, 0, 0, 0, 0x10, 0x20, 0x30))
    timestamp = rng.choice((-1, 0, rng.randrange(10_000), 2**62))
    made = bytearray(
        HEADER.pack(
            *(base_offset, HEADER_BYTES - LOG_OVERHEAD_BYTES + body_bytes, epoch, 2, 0),
            *(attributes, count - 1, timestamp - 1, timestamp),
            *(
                producer_id,
                rng.choice((4, 4, 4, 4, 5)) if producer_id >= 0 else -1,
                rng.choice((-1, 0, 8, 9, 10)),
                count,
            ),
        )
    )
    made += rng.randbytes(body_bytes)
    seal(made, 0, len(made))
    return made


def log_bytes(rng: random.Random, base_offset: int = 0) -> bytearray:
    """Up to thirty batches, as a leader or a compacted segment has them."""
    data, offset, epoch = bytearray(), base_offset, rng.choice((0, 5))
    producer_id = rng.choice((None, 5, -1))
    sizes = rng.choice(((0, 40), (0, 2_000), (6_000, 40_000)))
    for _ in range(rng.randrange(1, 31)):
        offset += rng.choice((0, 0, 0, 1, 1000))
        epoch += rng.choice((0, 0, 0, 0, 1))
        count = rng.choice((1, 1, 5, 70_000))
        data += batch(rng, offset, count, epoch, rng.randint(*sizes), producer_id)
        offset += count
    return data


def spoilt(rng: random.Random, data: bytearray) -> bytearray:
    """One thing wrong with it, mostly: a bit, a cut, a field with another value (with a checksum that holds, or not)."""
    match rng.randrange(6):
        case 0:
            return data
        case 1:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            del data[rng.randrange(len(data)) :]
        case 3:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(80)] = rng.randbytes(rng.randrange(80))
        case _:
            _lie(rng, data)
    return data


def _lie(rng: random.Random, data: bytearray) -> None:
    starts, at = [], 0
    while at < len(data):
        starts.append(at)
        at += LOG_OVERHEAD_BYTES + int.from_bytes(data[at + LENGTH_AT : at + LENGTH_AT + 4], "big")
    at, end = rng.choice(list(zip(starts, [*starts[1:], len(data)], strict=True)))
    place = at + rng.choice(_PLACES)
    width = rng.choice((1, 2, 4, 8))
    data[place : place + width] = bytes([rng.choice(_EDGES)]) * min(width, len(data) - place)
    if rng.random() < 0.7:
        seal(data, at, end - at)
