"""Fields to Arrow arrays. Only the chosen columns are made; bytes are copied once, by Arrow, into contiguous columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tierlog.records.batch import LOG_APPEND_TIME_BIT, BatchHeader
from tierlog.replay.decode.fields import Fields, Slices
from tierlog.replay.decode.schema import HEADER
from tierlog.replay.decode.varints import Arena, Unusual
from tierlog.types import NO_TIMESTAMP

DELTA_MAX = 1 << 61
"""Beyond it a sum with another such number could pass 64 bits."""


class Wanted(NamedTuple):
    """What to make of a partition's batches: which columns, of records with offsets in [start, end)."""

    topic: str
    partition: int
    schema: pa.Schema
    start_offset: int
    end_offset: int


class Decoded(NamedTuple):
    """Some records, and the offset behind them and whatever was left out among them."""

    batch: pa.RecordBatch
    next_offset: int


class Batches(NamedTuple):
    """Header fields of the batches, one row each."""

    base_offsets: npt.NDArray[np.int64]
    last_deltas: npt.NDArray[np.int64]
    base_timestamps: npt.NDArray[np.int64]
    max_timestamps: npt.NDArray[np.int64]
    is_stamped: npt.NDArray[np.bool_]
    """Whether the broker's time counts."""
    leader_epochs: npt.NDArray[np.int32]

    @staticmethod
    def of(headers: Sequence[BatchHeader]) -> Batches:
        base_offsets, _, epochs, _, _, attributes, last_deltas, base_times, max_times, *_ = zip(
            *headers, strict=True
        )
        return Batches(
            np.array(base_offsets, dtype=np.int64),
            np.array(last_deltas, dtype=np.int64),
            np.array(base_times, dtype=np.int64),
            np.array(max_times, dtype=np.int64),
            np.array(attributes, dtype=np.int64) & LOG_APPEND_TIME_BIT != 0,
            np.array(epochs, dtype=np.int32),
        )


def record_batch(arena: Arena, batches: Batches, fields: Fields, wanted: Wanted) -> pa.RecordBatch:
    """Raises Unusual."""
    of = fields.batch
    deltas = fields.offset_deltas
    if (deltas < 0).any() or (deltas > batches.last_deltas[of]).any():
        raise Unusual("an offset outside of its batch")
    offsets = batches.base_offsets[of] + deltas
    timestamps = _timestamps(batches, fields)
    inside = (offsets >= wanted.start_offset) & (offsets < wanted.end_offset)
    rows = None if inside.all() else np.flatnonzero(inside)
    if rows is not None:
        of, offsets, timestamps = of[rows], offsets[rows], timestamps[rows]
    made: dict[str, Any] = {}
    names = set(wanted.schema.names)
    if "topic" in names:
        made["topic"] = topic_column(wanted.topic, len(of))
    if "partition" in names:
        made["partition"] = pa.array(np.full(len(of), wanted.partition, dtype=np.int32))
    if "offset" in names:
        made["offset"] = pa.array(offsets)
    if "timestamp" in names:
        missing = timestamps == NO_TIMESTAMP
        times = pa.array(timestamps, mask=missing if missing.any() else None)
        made["timestamp"] = times.view(wanted.schema.field("timestamp").type)
    if "timestamp_type" in names:
        made["timestamp_type"] = pa.array(batches.is_stamped[of].astype(np.int8))
    if "leader_epoch" in names:
        made["leader_epoch"] = pa.array(batches.leader_epochs[of])
    if "key" in names:
        made["key"] = _binary(arena, _chosen(fields.keys, rows), pa.binary())
    if "value" in names:
        made["value"] = _binary(arena, _chosen(fields.values, rows), pa.binary())
    if "headers" in names:
        made["headers"] = _headers(arena, fields, rows)
    elif fields.headers is not None:
        _check_names(arena, fields.headers.keys)
    return pa.RecordBatch.from_arrays([made[name] for name in wanted.schema.names], schema=wanted.schema)


def topic_column(topic: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([topic]))


def _timestamps(batches: Batches, fields: Fields) -> npt.NDArray[np.int64]:
    of, deltas = fields.batch, fields.timestamp_deltas
    bases = batches.base_timestamps
    if any((each > DELTA_MAX).any() or (each < -DELTA_MAX).any() for each in (deltas, bases)):
        raise Unusual("a time that cannot be")
    timestamps = bases[of] + deltas
    return (
        np.where(batches.is_stamped[of], batches.max_timestamps[of], timestamps)
        if (batches.is_stamped.any())
        else timestamps
    )


def _chosen(slices: Slices, rows: npt.NDArray[np.int64] | None) -> Slices:
    return slices if rows is None else Slices(slices.starts[rows], slices.lengths[rows])


def _binary(arena: Arena, slices: Slices, kind: pa.DataType) -> pa.Array:
    """The slices as one column: an array over the whole arena, gaps included, of which Arrow takes every second element."""
    count = len(slices.starts)
    bounds = np.zeros(2 * count + 1, dtype=np.int32)
    bounds[0:-1:2] = slices.starts
    bounds[1::2] = slices.starts + np.maximum(slices.lengths, 0)
    bounds[-1] = bounds[-2] if count else 0
    whole = pa.Array.from_buffers(
        pa.binary(), 2 * count, [None, pa.py_buffer(bounds), pa.py_buffer(arena.data)]
    )
    packed = whole.take(pa.array(np.arange(0, 2 * count, 2, dtype=np.int32)))
    missing = slices.lengths < 0
    validity = pa.py_buffer(np.packbits(~missing, bitorder="little")) if missing.any() else None
    return pa.Array.from_buffers(kind, count, [validity, *packed.buffers()[1:]])


def _headers(arena: Arena, fields: Fields, rows: npt.NDArray[np.int64] | None) -> pa.Array:
    count = len(fields.batch) if rows is None else len(rows)
    headers = fields.headers
    if headers is None:
        bounds = np.zeros(count + 1, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(bounds), pa.array([], type=HEADER))
    names = _check_names(arena, headers.keys)
    contents = _binary(arena, headers.values, pa.binary())
    pairs = pa.StructArray.from_arrays([names, contents], fields=list(HEADER))
    bounds = np.concatenate([[0], np.cumsum(headers.counts)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(bounds), pairs)
    return lists if rows is None else lists.take(pa.array(rows))


def _check_names(arena: Arena, keys: Slices) -> pa.Array:
    """The names of headers. Raises Unusual if one is no UTF-8."""
    try:
        return _binary(arena, keys, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        raise Unusual("a header's name is no text") from None
