"""Protobuf values by a schema registry: types, imports, message types, hostile bytes and schemas."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from tests.servers.schema_registry import SchemaRegistry, schema_registry
from tests.unit.replay.values_made import TOPIC, header, replayed, zigzag
from tierlog.errors import UserError
from tierlog.replay.values.formats import Protobuf
from tierlog.replay.values.protobuf_values import ProtobufDecoder
from tierlog.replay.values.registry import Registry

SUBJECT = f"{TOPIC}-value"
Field = descriptor_pb2.FieldDescriptorProto
NUMBERS = {name.removeprefix("TYPE_").lower(): number for name, number in Field.Type.items()}


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with schema_registry() as found:
        yield found


def add(message: Any, name: str, kind: str, *, repeated: bool = False, oneof: int | None = None) -> None:
    """A field; ``kind``: a scalar type, or ``.full.Name`` of a message, or ``=.full.Name`` of an enum."""
    field = message.field.add(name=name, number=len(message.field) + 1)
    field.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    if kind in NUMBERS:
        field.type = NUMBERS[kind]
    else:
        field.type = Field.TYPE_ENUM if kind[0] == "=" else Field.TYPE_MESSAGE
        field.type_name = kind.lstrip("=")
    if oneof is not None:
        field.oneof_index = oneof


def file_of(name: str = "flights.proto", *imports: str) -> Any:
    return descriptor_pb2.FileDescriptorProto(name=name, package="air", syntax="proto3", dependency=imports)


def classes(*files: Any) -> Any:
    """By full name, the class to write values with."""
    pool = DescriptorPool()
    for file in (timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
    for each in files:
        pool.Add(each)
    return lambda name: GetMessageClass(pool.FindMessageTypeByName(name))


SCALARS = {
    "double": (0.1, pa.float64()),
    "float": (0.5, pa.float32()),
    "int64": (-(2**63), pa.int64()),
    "uint64": (2**64 - 1, pa.uint64()),
    "int32": (-7, pa.int32()),
    "fixed64": (7, pa.uint64()),
    "fixed32": (7, pa.uint32()),
    "bool": (True, pa.bool_()),
    "string": ("é", pa.string()),
    "bytes": (b"\xff", pa.binary()),
    "uint32": (2**32 - 1, pa.uint32()),
    "sfixed32": (-7, pa.int32()),
    "sfixed64": (-7, pa.int64()),
    "sint32": (-7, pa.int32()),
    "sint64": (-7, pa.int64()),
}


def flights() -> tuple[Any, Any]:
    """Two files: the second one imports the first."""
    shared = file_of("shared.proto")
    kind = shared.enum_type.add(name="Kind")
    kind.value.add(name="UNKNOWN", number=0)
    kind.value.add(name="JET", number=1)
    plane = shared.message_type.add(name="Plane")
    add(plane, "seats", "int32")
    add(plane, "kind", "=.air.Kind")
    file = file_of(
        "flights.proto", "shared.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"
    )
    flight = file.message_type.add(name="Flight")
    for name in SCALARS:
        add(flight, f"a_{name}", name)
    add(flight, "plane", ".air.Plane")
    add(flight, "tags", "string", repeated=True)
    add(flight, "legs", ".air.Plane", repeated=True)
    add(flight, "at", ".google.protobuf.Timestamp")
    add(flight, "gate", ".google.protobuf.StringValue")
    add(flight, "above", ".air.Flight")
    add(flight, "counts", ".air.Flight.CountsEntry", repeated=True)
    entry = flight.nested_type.add(name="CountsEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    add(entry, "key", "string")
    add(entry, "value", ".air.Plane")
    flight.oneof_decl.add(name="choice")
    add(flight, "either", "int32", oneof=0)
    other = file.message_type.add(name="Other")
    add(other.nested_type.add(name="Inner"), "id", "int64")
    add(other, "id", "int64")
    return shared, file


def test_every_type(registry: SchemaRegistry, tmp_path: Path) -> None:
    shared, file = flights()
    registry.register("shared", shared.SerializeToString(), "PROTOBUF")
    number = registry.register(SUBJECT, file.SerializeToString(), "PROTOBUF", [("shared.proto", "shared", 1)])
    flight = classes(shared, file)("air.Flight")
    full = flight(**{f"a_{name}": value for name, (value, _) in SCALARS.items()}, tags=["x"], either=0)
    full.plane.seats = 180
    full.plane.kind = 1
    full.legs.add(kind=7)
    full.at.FromDatetime(datetime(2026, 5, 1, 8, 0, 0, 5, UTC))
    full.gate.value = ""
    full.above.a_int32 = 3
    full.counts["k"].seats = 2
    values = [header(number) + b"\0" + each.SerializeToString() for each in (full, flight())]
    table, dead = replayed(tmp_path, Protobuf(registry.url), [*values, None], columns=["value"])
    assert dead == {}
    kind = table.schema.field("value").type
    assert [(field.name, field.type) for field in kind][: len(SCALARS)] == [
        (f"a_{name}", arrow) for name, (_, arrow) in SCALARS.items()
    ]
    found, empty, missing = table["value"].to_pylist()
    assert missing is None
    assert {name: found[f"a_{name}"] for name in SCALARS} == {name: v for name, (v, _) in SCALARS.items()}
    assert (found["plane"], found["legs"]) == ({"seats": 180, "kind": "JET"}, [{"seats": 0, "kind": "7"}])
    assert found["at"] == datetime(2026, 5, 1, 8, 0, 0, 5, UTC)
    assert (found["gate"], found["above"], found["either"]) == ("", '{"aInt32": 3}', 0)
    assert found["counts"] == [("k", {"seats": 2, "kind": "UNKNOWN"})]
    unset = {"plane", "at", "gate", "above", "either"}
    assert {name for name, value in empty.items() if value is None} == unset
    assert (empty["a_int32"], empty["tags"], empty["a_string"]) == (0, [], "")


def test_the_first_value_chooses_the_message_type(registry: SchemaRegistry, tmp_path: Path) -> None:
    shared, file = flights()
    registry.register("shared", shared.SerializeToString(), "PROTOBUF")
    needs = [("shared.proto", "shared", 1)]
    old = registry.register(SUBJECT, file.SerializeToString(), "PROTOBUF", needs)
    add(file.message_type[1].nested_type[0], "more", "string")
    registry.register(SUBJECT, file.SerializeToString(), "PROTOBUF", needs)
    inner = classes(shared, file)("air.Other.Inner")
    body = inner(id=5, more="x").SerializeToString()
    values = [
        b"no header",
        header(old) + zigzag(2, 1, 0) + body,
        header(old) + zigzag(1, 1) + body,
        header(old) + zigzag(2, 1, 4) + body,
        header(old) + zigzag(2, 1),
        header(old) + zigzag(60) + body,
        header(old) + b"\xff" * 9,
        header(old) + zigzag(2, 1, 0) + b"\x12\x01\xff",
        header(77) + b"\0",
    ]
    table, dead = replayed(tmp_path, Protobuf(registry.url), values, columns=["value"])
    assert table["value"].to_pylist() == [{"id": 5, "more": "x"}]
    told = [dead[offset] for offset in sorted(dead)]
    assert told[:6] == [
        "does not begin with a schema id",
        "air.Other, and not air.Other.Inner",
        "its schema has no message 1/4",
        "the path to its message is cut off",
        "a path of 60 messages",
        "the path to its message is cut off",
    ]
    assert told[7] == f"{registry.url} has no schema 77"
    again = ProtobufDecoder(
        Registry(registry.url, is_serialized=True), SUBJECT, remembered=f'[{old}, "air.Other.Inner"]'
    )
    assert again.type == pa.struct({"id": pa.int64()})


def test_random_and_deep_bytes_never_end_a_replay(registry: SchemaRegistry, tmp_path: Path) -> None:
    shared, file = flights()
    registry.register("shared", shared.SerializeToString(), "PROTOBUF")
    number = registry.register(SUBJECT, file.SerializeToString(), "PROTOBUF", [("shared.proto", "shared", 1)])
    begin = header(number) + b"\0"
    rng = random.Random(7)
    values = [begin + rng.randbytes(rng.randrange(40)) for _ in range(2_000)]
    above = next(field.number for field in file.message_type[0].field if field.name == "above")
    deep = b""
    for _ in range(5_000):
        deep = bytes([(above << 3 | 2) & 0x7F | 0x80, above >> 4]) + _varint(len(deep)) + deep
    table, dead = replayed(tmp_path, Protobuf(registry.url), [begin, *values, begin + deep])
    assert table.num_rows + len(dead) == 2_002
    assert 2_001 in dead
    assert len(dead) > 1_000


def _varint(number: int) -> bytes:
    found = b""
    while number >= 0x80:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def test_schemas_that_cannot_be_used(registry: SchemaRegistry) -> None:
    def refused(subject: str) -> str:
        with pytest.raises(UserError) as raised:
            ProtobufDecoder(Registry(registry.url, is_serialized=True), subject)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    registry.register("text", "message Flight {}", "PROTOBUF")
    assert "does not give schema 1 as a descriptor (format=serialized)" in refused("text")
    registry.register("avro", "string")
    assert refused("avro") == "avro: schema 2 is of AVRO, and not of Protobuf"
    registry.register("torn", b"\x0a\xff", "PROTOBUF")
    assert "schema 3" in refused("torn")
    registry.register("imports", file_of("x.proto", "nowhere.proto").SerializeToString(), "PROTOBUF")
    assert "imports: schema 4 cannot be used:" in refused("imports")
    wide = file_of()
    for number in range(12):
        message = wide.message_type.add(name=f"L{number}")
        for name in ("a", "b"):
            add(message, name, f".air.L{number + 1}" if number < 11 else "int32")
    registry.register("wide", wide.SerializeToString(), "PROTOBUF")
    decoder = ProtobufDecoder(Registry(registry.url, is_serialized=True), "wide")
    with pytest.raises(UserError, match="wide: its schema has more than 2,000 fields"):
        decoder.settle([header(5) + b"\0"])
