"""What a decoder must come to: batch by batch, record by record, and the first error is the answer."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tierlog.errors import ErrorCode
from tierlog.records.batch import InvalidBatch, verify_crc, walk
from tierlog.records.compression import output_limit
from tierlog.records.records import records_body
from tierlog.replay.decode.batches import IsAborted, none_aborted
from tierlog.replay.decode.columns import Wanted
from tierlog.replay.decode.plain import plain_record_batch
from tierlog.types import Buffer


def plainly(data: Buffer, wanted: Wanted, is_aborted: IsAborted = none_aborted) -> pa.Table:
    """Each batch by the twin alone. Raises InvalidBatch."""
    made = []
    for at, header in walk(data):
        if header.next_offset <= wanted.start_offset:
            continue
        if header.base_offset >= wanted.end_offset:
            break
        if not header.records_count or header.is_control or is_aborted(header):
            continue
        try:
            if not verify_crc(data, at, header):
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "fails its checksum")
            body = records_body(data, at, header, output_limit(header.size_bytes))
        except InvalidBatch as error:
            where = f"the batch at offset {header.base_offset}"
            raise InvalidBatch(error.error_code, f"{where}: {error}") from None
        made.append(plain_record_batch([body], [header], wanted))
    return pa.Table.from_batches(made, schema=wanted.schema)


def outcome(work: Any, *args: Any) -> Any:
    """The columns in one piece, or the refusal."""
    try:
        made: pa.Table = work(*args)
        return made.combine_chunks()
    except InvalidBatch as error:
        return error.error_code, str(error)
