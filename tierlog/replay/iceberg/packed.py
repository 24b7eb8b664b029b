"""Offsets of very many partitions as a short text: columns of numbers, told by how they differ from the one before. Pure.

``packed1:`` and base64 of zlib of a line of JSON (topics, how many partitions, how many ranges) and five columns: topic,
partition and number of ranges of each partition; start and length of each range. A column has the lowest bytes of its
numbers first, then the next ones: bytes that are alike stand together.
"""

from __future__ import annotations

import base64
import json
import zlib
from itertools import chain

import numpy as np
import numpy.typing as npt

from tierlog.replay.sinks.port import Done
from tierlog.types import TopicPartition

MARK = "packed1:"
UNPACKED_BYTES_MAX = 64 << 20
"""1.6 million partitions of one range each."""
_Numbers = npt.NDArray[np.int64]
_COLUMNS_OF_PARTITIONS, _COLUMNS_OF_RANGES = 3, 2
_NUMBER_BYTES = 8


def packed(done: Done) -> str:
    rows = sorted(done.items())
    topics = sorted({where.topic for where in done})
    numbers = {topic: number for number, topic in enumerate(topics)}
    spans = np.array(list(chain.from_iterable(spans for _, spans in rows)), np.int64).reshape(-1, 2)
    head = {"topics": topics, "partitions": len(rows), "ranges": len(spans)}
    columns = (
        np.array([numbers[where.topic] for where, _ in rows], np.int64),
        np.array([where.partition for where, _ in rows], np.int64),
        np.array([len(spans) for _, spans in rows], np.int64),
        spans[:, 0],
        spans[:, 1] - spans[:, 0],
    )
    data = b"\n".join([json.dumps(head).encode(), b"".join(map(_bytes_of, columns))])
    return MARK + base64.b64encode(zlib.compress(data, 9)).decode()


def unpacked(text: str) -> Done:
    """Raises ValueError, TypeError, KeyError or zlib.error for what ``packed`` does not make."""
    opened = zlib.decompressobj()
    data = opened.decompress(base64.b64decode(text.removeprefix(MARK), validate=True), UNPACKED_BYTES_MAX)
    line, _, body = data.partition(b"\n")
    head = json.loads(line)
    partitions, ranges = int(head["partitions"]), int(head["ranges"])
    counts = [partitions] * _COLUMNS_OF_PARTITIONS + [ranges] * _COLUMNS_OF_RANGES
    if not opened.eof or min(counts) < 0 or len(body) != sum(counts) * _NUMBER_BYTES:
        raise ValueError("cut off")
    ends = np.cumsum(counts) * _NUMBER_BYTES
    topics, numbers, lengths, starts, sizes = (
        _numbers_of(body[end - count * _NUMBER_BYTES : end], count)
        for end, count in zip(ends.tolist(), counts, strict=True)
    )
    spans = list(zip(starts.tolist(), (starts + sizes).tolist(), strict=True))
    if lengths.min(initial=0) < 0 or lengths.sum() != ranges or topics.min(initial=0) < 0:
        raise ValueError("of another shape")
    found: Done = {}
    at = 0
    for topic, number, length in zip(topics.tolist(), numbers.tolist(), lengths.tolist(), strict=True):
        found[TopicPartition(str(head["topics"][topic]), number)] = spans[at : at + length]
        at += length
    return found


def _bytes_of(column: _Numbers) -> bytes:
    steps = np.diff(column, prepend=np.int64(0))
    small = (steps << 1) ^ (steps >> 63)  # The sign goes last: small steps have few bytes either way.
    return small.astype("<i8").view(np.uint8).reshape(-1, _NUMBER_BYTES).T.tobytes()


def _numbers_of(data: bytes, count: int) -> _Numbers:
    planes = np.frombuffer(data, np.uint8).reshape(_NUMBER_BYTES, count)
    small = np.ascontiguousarray(planes.T).view("<u8").reshape(-1)
    steps = (small >> np.uint64(1)).astype(np.int64) ^ -(small & np.uint64(1)).astype(np.int64)
    return np.cumsum(steps, dtype=np.int64)
