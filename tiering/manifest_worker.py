"""Encodes and decodes Parquet in a separate process, so that the broker never imports pyarrow.

Run as ``python -m tiering.manifest_worker``; ends when its standard input does. Requests and replies are
frames on the standard streams: u32 header length, JSON header, u32 body length, body (all little-endian).

A table is 64-bit integer columns, one column of 16-byte uuids, and text columns that are written for readers of
the bucket and ignored when read back. Request headers::

    {"op": "encode", "rows": n, "columns": [names], "texts": {name: [values]}, "metadata": {name: text}}
    {"op": "decode", "columns": [names], "optional": [names]}
    {"op": "encode-ledger", …}                                     as ``tiering.ledger.columns`` makes it

The reply to ``decode`` names the columns that the body holds.

The body of a table is its integer columns one after the other, then the uuids.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from array import array
from typing import Any, BinaryIO

from tiering.ledger.parquet import encode_ledger

_LENGTH = struct.Struct("<I")
METADATA_PREFIX = "tierlog."


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """One frame, or None at the end of the stream."""
    prefix = stream.read(4)
    if len(prefix) < 4:
        return None
    header = json.loads(stream.read(_LENGTH.unpack(prefix)[0]))
    body = stream.read(_LENGTH.unpack(stream.read(4))[0])
    return header, body


def frame(header: dict[str, Any], body: bytes) -> bytes:
    encoded = json.dumps(header).encode()
    return _LENGTH.pack(len(encoded)) + encoded + _LENGTH.pack(len(body)) + body


def encode(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """A table as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = header["rows"]
    arrays: list[Any] = []
    for number in range(len(header["columns"])):
        buffer = pa.py_buffer(body[8 * rows * number : 8 * rows * (number + 1)])
        arrays.append(pa.Array.from_buffers(pa.int64(), rows, [None, buffer]))
    uuids = pa.py_buffer(body[8 * rows * len(header["columns"]) :])
    arrays.append(pa.Array.from_buffers(pa.binary(16), rows, [None, uuids]))
    names = [*header["columns"], "uuid"]
    for name, values in header["texts"].items():
        names.append(name)
        arrays.append(pa.array(values, pa.string()))
    schema = pa.schema(
        [pa.field(name, column.type, nullable=False) for name, column in zip(names, arrays, strict=True)],
        metadata={METADATA_PREFIX + name: value for name, value in header["metadata"].items()},
    )
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=schema), sink, compression="zstd", write_page_checksum=True
    )
    return {}, sink.getvalue().to_pybytes()


def decode(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """The columns of a Parquet file that ``encode`` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    reader = pa.BufferReader(body)
    file = pq.ParquetFile(reader, page_checksum_verification=True)
    metadata = {
        name.decode()[len(METADATA_PREFIX) :]: value.decode()
        for name, value in (file.schema_arrow.metadata or {}).items()
        if name.startswith(METADATA_PREFIX.encode())
    }
    present = set(file.schema_arrow.names)
    missing = {*header["columns"], "uuid"} - present
    if missing:
        return {"metadata": metadata, "rows": 0, "missing": sorted(missing)}, b""
    names = [*header["columns"], *(name for name in header["optional"] if name in present)]
    table = file.read(columns=[*names, "uuid"], use_threads=False)
    parts = [array("q", table.column(name).to_pylist()).tobytes() for name in names]
    parts.append(b"".join(table.column("uuid").to_pylist()))
    return {"metadata": metadata, "rows": table.num_rows, "columns": names}, b"".join(parts)


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until the stream ends; a request that fails is answered with its error."""
    operations = {"encode": encode, "decode": decode, "encode-ledger": encode_ledger}
    while (request := read_frame(requests)) is not None:
        header, body = request
        try:
            reply = frame(*operations[header["op"]](header, body))
        except (
            Exception
        ) as e:  # any error that pyarrow finds in bytes from the bucket is answered to the caller
            reply = frame({"error": f"{type(e).__name__}: {e}"}, b"")
        try:
            replies.write(reply)
            replies.flush()
        except BrokenPipeError:
            os._exit(0)  # The broker was killed: nobody waits for answers.


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
