"""A part of a topic as DuckDB reads it: anew for each scan, lazily, the same records each time."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

from tierlog.replay.decode.schema import schema_of
from tierlog.replay.ledger import Caller
from tierlog.replay.plan import Plan
from tierlog.replay.stream import open_planned


class Source(NamedTuple):
    """Where topics are read from: any brokers, the bucket's URL, or both. ``caller`` pays."""

    bootstrap: str | None
    bucket: str | None
    caller: Caller


class Scan:
    """Speaks Arrow's PyCapsule protocol: each call is a new stream."""

    def __init__(self, source: Source, plan: Plan, columns: list[str]) -> None:
        self._source = source
        self._plan = plan
        self._schema: pa.Schema = schema_of(columns)

    def __arrow_c_schema__(self) -> Any:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        source = self._source
        reader = open_planned(
            self._plan,
            self._schema,
            bootstrap=source.bootstrap,
            bucket=source.bucket,
            caller=source.caller,
        )
        return reader.__arrow_c_stream__(requested_schema)
