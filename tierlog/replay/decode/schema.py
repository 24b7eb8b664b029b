"""The columns of a replay."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from tierlog.errors import UserError

HEADER = pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())])
SCHEMA = pa.schema(
    [
        pa.field("topic", pa.dictionary(pa.int32(), pa.string())),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC")),
        pa.field("timestamp_type", pa.int8()),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(HEADER)),
        pa.field("leader_epoch", pa.int32()),
    ]
)
"""``timestamp`` is null where a record has none; ``timestamp_type`` is 0 for the producer's time, 1 for the broker's."""


def schema_of(columns: Iterable[str] | None) -> pa.Schema:
    """The chosen columns, in the given order; None: all. Raises UserError."""
    if columns is None:
        return SCHEMA
    chosen = list(dict.fromkeys(columns))
    unknown = [name for name in chosen if name not in SCHEMA.names]
    if unknown:
        raise UserError(f"there is no column {unknown[0]}; there are {', '.join(SCHEMA.names)}")
    if not chosen:
        raise UserError(f"no column is chosen; there are {', '.join(SCHEMA.names)}")
    return pa.schema([SCHEMA.field(name) for name in chosen])
