"""Values that are JSON objects. Their columns are given, or told by the first values that come."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.values.json_types import arrow_of, column_for, kind_of, wider
from tierlog.replay.values.port import Undecodable
from tierlog.replay.values.wire import ID_BYTES

GIVEN, FOUND = "given", "found"


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is no number")


_DECODER = json.JSONDecoder(parse_constant=_refused)


class JsonDecoder:
    """``schema``: only these fields are wanted. ``remembered``: by an earlier run, which was given them or found them."""

    has_schema_ids = False

    def __init__(self, schema: pa.Schema | None, remembered: str = "") -> None:
        self.type: pa.DataType | None = None
        self._is_given = schema is not None
        if remembered:
            kind, _, data = remembered.partition(" ")
            before = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(data)))
            if schema is not None and (kind != GIVEN or not schema.equals(before)):
                raise UserError(
                    "the earlier run had another schema of values; resume with the same, or begin anew"
                )
            schema, self._is_given = before, kind == GIVEN
        if schema is not None:
            self._take(pa.struct(list(schema)))

    def settle(self, values: Sequence[bytes]) -> None:
        kind = None
        for value in values:
            try:
                kind = wider(kind, kind_of(loaded(value)))
            except Undecodable:
                continue
            if isinstance(kind, str):
                break
        if not kind:  # Nothing but objects without fields tells nothing.
            return
        try:
            self._take(arrow_of(kind))
        except Undecodable as error:
            raise UserError(f"the values have {error}: name those that are wanted, as a schema") from None

    def remembered(self) -> str:
        assert self.type is not None
        data = base64.b64encode(pa.schema(list(self.type)).serialize()).decode()
        return f"{GIVEN if self._is_given else FOUND} {data}"

    def decode(self, value: bytes) -> Any:
        return loaded(value)

    def column(self, rows: list[Any]) -> pa.Array:
        return self._column(rows)

    def _take(self, kind: pa.DataType) -> None:
        try:
            self._column = column_for(kind, is_whole=not self._is_given)
        except TypeError as error:
            raise UserError(str(error)) from None
        self.type = kind


def loaded(value: bytes) -> dict[str, Any]:
    """The object, behind the header of a JSON Schema serializer if there is one. Raises Undecodable."""
    if value[:1] == b"\0":  # Which begins no JSON.
        value = value[ID_BYTES:]
    try:
        found = _DECODER.decode(str(value, "utf-8"))
    except RecursionError:
        raise Undecodable("too deep") from None
    except ValueError as error:  # No JSON, no UTF-8, a number of too many digits.
        raise Undecodable(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Undecodable("JSON, but no object")
    return found
