"""Message types of Protobuf to Arrow types, and their messages to what Arrow takes. Pure.

A field that knows whether it was set is null where it was not, any other has its default. A message that holds itself, one
without fields, and ``google.protobuf.Struct`` are string columns of JSON text; an enum is its name,
``google.protobuf.Timestamp`` a time, a wrapper such as ``Int64Value`` what it wraps, and ``confluent.type.Decimal`` its
digits as text.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToJson

from tierlog.replay.values.port import DEPTH_MAX, FIELDS_MAX, Undecodable
from tierlog.replay.values.protobuf_files import DECIMAL

_SCALARS = {
    FieldDescriptor.CPPTYPE_INT32: pa.int32(),
    FieldDescriptor.CPPTYPE_INT64: pa.int64(),
    FieldDescriptor.CPPTYPE_UINT32: pa.uint32(),
    FieldDescriptor.CPPTYPE_UINT64: pa.uint64(),
    FieldDescriptor.CPPTYPE_FLOAT: pa.float32(),
    FieldDescriptor.CPPTYPE_DOUBLE: pa.float64(),
    FieldDescriptor.CPPTYPE_BOOL: pa.bool_(),
}
_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_ANYTHING = frozenset(f"google.protobuf.{name}" for name in ("Struct", "Value", "ListValue"))
TIMESTAMP = pa.timestamp("us", "UTC")
"""Which has room for all years of Protobuf's; nanoseconds are cut off."""
Get = Callable[[Any], Any]
"""From a scalar or a message to what Arrow takes."""


class ProtobufType(NamedTuple):
    """``get`` None: the value as it is."""

    arrow: pa.DataType
    get: Get | None


def protobuf_type(message: Descriptor) -> ProtobufType:
    """Raises Undecodable if it has too many fields."""
    return _Walk().message(message, ())


class _Walk:
    def __init__(self) -> None:
        self._fields = 0

    def message(self, message: Descriptor, above: tuple[str, ...]) -> ProtobufType:
        """``above``: names of the messages that hold it."""
        name = message.full_name
        if name == "google.protobuf.Timestamp":
            return ProtobufType(TIMESTAMP, lambda found: found.seconds * 1_000_000 + found.nanos // 1_000)
        if name == DECIMAL:
            return ProtobufType(pa.string(), _decimal)
        if name in _WRAPPERS:
            inner = self._one(message.fields[0], above)
            return ProtobufType(inner.arrow, lambda found: found.value)
        if name in _ANYTHING or name in above or len(above) >= DEPTH_MAX or not message.fields:
            return ProtobufType(pa.string(), _text)
        parts: list[tuple[str, Get]] = []
        fields = []
        for field in message.fields:
            self._fields += 1
            if self._fields > FIELDS_MAX:
                raise Undecodable(f"its schema has more than {FIELDS_MAX:,} fields")
            arrow, get = self._field(field, (*above, name))
            fields.append(pa.field(field.name, arrow))
            parts.append((field.name, get))
        return ProtobufType(pa.struct(fields), lambda found: {name: get(found) for name, get in parts})

    def _field(self, field: FieldDescriptor, above: tuple[str, ...]) -> tuple[pa.DataType, Get]:
        """The type, and from the message to the field's value."""
        name = field.name
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            keys, values = self._one(entry.fields[0], above), self._one(entry.fields[1], above)
            of_key, of_value = keys.get or _as_it_is, values.get or _as_it_is
            return pa.map_(keys.arrow, values.arrow), lambda found: [
                (of_key(key), of_value(value)) for key, value in getattr(found, name).items()
            ]
        inner = self._one(field, above)
        get = inner.get
        if field.is_repeated:
            if get is None:
                return pa.list_(inner.arrow), lambda found: list(getattr(found, name))
            return pa.list_(inner.arrow), lambda found: [get(each) for each in getattr(found, name)]
        get = get or _as_it_is
        if field.has_presence:
            return inner.arrow, lambda found: get(getattr(found, name)) if found.HasField(name) else None
        return inner.arrow, lambda found: get(getattr(found, name))

    def _one(self, field: FieldDescriptor, above: tuple[str, ...]) -> ProtobufType:
        """One value of the field, be it repeated or not."""
        if field.message_type is not None:
            return self.message(field.message_type, above)
        if field.enum_type is not None:
            names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
            return ProtobufType(pa.string(), lambda number: names.get(number) or str(number))
        if field.type == FieldDescriptor.TYPE_STRING:
            return ProtobufType(pa.string(), None)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return ProtobufType(pa.binary(), None)
        return ProtobufType(_SCALARS[field.cpp_type], None)


def _as_it_is(value: Any) -> Any:
    return value


def _decimal(message: Any) -> str:
    """All its digits, whatever the field's precision says."""
    number = int.from_bytes(message.value, "big", signed=True)
    return str(Decimal((number < 0, tuple(map(int, str(abs(number)))), -message.scale)))


def _text(message: Any) -> str:
    return MessageToJson(message, indent=None)
