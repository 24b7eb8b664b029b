"""The plain twin: the same columns, made record by record by ``tierlog.records``. Slow, and right."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tierlog.errors import ErrorCode
from tierlog.records.batch import BatchHeader, InvalidBatch
from tierlog.records.records import Record, record_headers
from tierlog.records.spans import record_spans
from tierlog.replay.decode.columns import Wanted, topic_column
from tierlog.types import NO_TIMESTAMP

_INT64 = range(-(2**63), 2**63)


def plain_record_batch(
    bodies: Sequence[bytes], headers: Sequence[BatchHeader], wanted: Wanted
) -> pa.RecordBatch:
    """As ``columns.record_batch``, of uncompressed bodies. Raises InvalidBatch."""
    rows: list[tuple[Record, BatchHeader]] = []
    for body, header in zip(bodies, headers, strict=True):
        try:
            read = _records(body, header)
        except InvalidBatch as error:
            where = f"the batch at offset {header.base_offset}"
            raise InvalidBatch(error.error_code, f"{where}: {error}") from error
        rows += [
            (record, header) for record in read if wanted.start_offset <= record.offset < wanted.end_offset
        ]
    values = {
        "partition": [wanted.partition] * len(rows),
        "offset": [record.offset for record, _ in rows],
        "timestamp": [None if record.timestamp == NO_TIMESTAMP else record.timestamp for record, _ in rows],
        "timestamp_type": [int(header.timestamp_type) for _, header in rows],
        "key": [record.key for record, _ in rows],
        "value": [record.value for record, _ in rows],
        "headers": [
            [{"key": name, "value": content} for name, content in record.headers] for record, _ in rows
        ],
        "leader_epoch": [header.partition_leader_epoch for _, header in rows],
    }
    columns = [
        topic_column(wanted.topic, len(rows))
        if field.name == "topic"
        else pa.array(values[field.name], type=field.type)
        for field in wanted.schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=wanted.schema)


def _records(body: bytes, header: BatchHeader) -> list[Record]:
    view = memoryview(body)
    fixed = header.max_timestamp if header.timestamp_type else None
    records = []
    for _, end, time_delta, offset_delta, key_at, key_end, value_at, value_end in record_spans(
        body, header.records_count
    ):
        timestamp = header.base_timestamp + time_delta if fixed is None else fixed
        if not 0 <= offset_delta <= header.last_offset_delta or timestamp not in _INT64:
            reason = f"a record at {offset_delta} of {header.last_offset_delta}, at time {timestamp}"
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, reason)
        records.append(
            Record(
                view[key_at:key_end] if key_at >= 0 else None,
                view[value_at:value_end] if value_at >= 0 else None,
                timestamp,
                tuple(record_headers(body, view, value_end, end)),
                header.base_offset + offset_delta,
            )
        )
    return records
