"""Values in Avro, as registry serializers write them: read with the schema of their id, seen with the subject's latest."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.values.avro_types import avro_type
from tierlog.replay.values.columns import column_of
from tierlog.replay.values.port import Undecodable
from tierlog.replay.values.registry import Registry, Schema
from tierlog.replay.values.wire import schema_id_of

WRITERS_MAX = 100


class _Parsed(NamedTuple):
    schema: Any
    named: dict[str, Any]


class AvroDecoder:
    """``remembered``: the id that an earlier run has seen its values with."""

    has_schema_ids = True

    def __init__(self, registry: Registry, subject: str, remembered: str = "") -> None:
        try:
            import fastavro
        except ImportError:
            raise UserError("Avro needs fastavro: pip install 'tierlog[values]'") from None
        self._fastavro = fastavro
        self._registry = registry
        try:
            latest = registry.by_id(int(remembered)) if remembered else registry.latest(subject)
            self._reader = self._parsed(latest)
            made = avro_type(*self._reader)
        except Undecodable as error:
            raise UserError(f"{subject}: {error}") from None
        self._id = latest.id
        self.type: pa.DataType | None = made.arrow
        self._fit = made.fit
        self._writers: OrderedDict[int | str, tuple[Any, Any]] = OrderedDict()

    def settle(self, values: Sequence[bytes]) -> None:
        """The registry has told the type."""

    def remembered(self) -> str:
        return str(self._id)

    def decode(self, value: bytes) -> Any:
        schema_id, at = schema_id_of(value)
        writer, reader = self._schemas(schema_id)
        body = io.BytesIO(value)
        body.seek(at)
        found = self._fastavro.schemaless_reader(body, writer, reader)
        rest = len(value) - body.tell()
        if rest:
            raise Undecodable(f"{rest:,} bytes too many for its schema")
        return found if self._fit is None else self._fit(found)

    def column(self, rows: list[Any]) -> pa.Array:
        return column_of(rows, self.type)

    def _schemas(self, schema_id: int | str) -> tuple[Any, Any]:
        """The one that a value was written with, and the one to see it with; None: the same."""
        found = self._writers.get(schema_id)
        if found is not None:
            self._writers.move_to_end(schema_id)
            return found
        parsed = self._parsed(self._registry.by_id(schema_id))
        avro_type(*parsed)  # What it refuses could not be read in bounded time.
        same = parsed.schema == self._reader.schema
        found = self._writers[schema_id] = (parsed.schema, None if same else self._reader.schema)
        if len(self._writers) > WRITERS_MAX:
            self._writers.popitem(last=False)
        return found

    def _parsed(self, schema: Schema) -> _Parsed:
        """Raises Undecodable."""
        if schema.kind != "AVRO":
            raise Undecodable(f"schema {schema.id} is of {schema.kind}, and not of Avro")
        named: dict[str, Any] = {}
        try:
            for _, each in self._registry.referred(schema):
                self._fastavro.parse_schema(json.loads(each.text), named_schemas=named)
            parsed = self._fastavro.parse_schema(json.loads(schema.text), named_schemas=named)
        except UserError:
            raise
        except Exception as error:  # Whatever the text of a schema makes of a parser.
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise Undecodable(f"schema {schema.id} is no Avro: {told[:200]}") from None
        return _Parsed(_self_contained(parsed, named), named)


def _self_contained(schema: Any, named: dict[str, Any]) -> Any:
    """What fastavro has parsed tells the types that it refers to, if it is an object; a name alone, or one in a union, tells
    nothing."""
    if isinstance(schema, list):
        return [_self_contained(each, named) for each in schema]
    if isinstance(schema, str) and schema in named:
        return named[schema] | {"__fastavro_parsed": True, "__named_schemas": named}
    return schema
