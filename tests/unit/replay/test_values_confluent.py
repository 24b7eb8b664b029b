"""Values that Confluent's own serializers write, with the schema's id before the value or in a header."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    header_schema_id_serializer,
    prefix_schema_id_serializer,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.confluent.type import decimal_pb2
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, field_mask_pb2, struct_pb2
from google.type import date_pb2

import tierlog.replay
from tests.servers.schema_registry import SchemaRegistry, schema_registry
from tests.unit.replay.test_values_protobuf import add, classes, file_of
from tests.unit.replay.values_made import TOPIC, Sent, replayed
from tierlog.replay.values.formats import Avro, Json, Protobuf
from tierlog.replay.values.wire import HEADER, headers_of

SUBJECT = f"{TOPIC}-value"
PLACES = {"prefix": prefix_schema_id_serializer, "header": header_schema_id_serializer}


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with schema_registry() as found:
        yield found


@pytest.fixture
def client(registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as found:
        yield found


@pytest.fixture(params=sorted(PLACES))
def conf(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"schema.id.serializer": PLACES[request.param]}


def context() -> SerializationContext:
    return SerializationContext(TOPIC, MessageField.VALUE, [("mine", b"kept")])


def sent(serializer: Callable[[Any, SerializationContext], bytes | None], value: Any) -> Sent:
    told = context()
    data = serializer(value, told)
    return Sent(data, list(told.headers))


def record(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "air", "fields": list(fields)}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind} | more


VERSIONS = (
    record(
        "Flight",
        *(field("id", "int"), field("name", "string"), field("gone", "string"), field("delay", "float")),
    ),
    record(
        "Flight",
        *(field("id", "long"), field("name", "string"), field("delay", "double")),
        field("seats", "int", default=7),
    ),
    record(
        "Flight",
        field("number", "long", aliases=["id"]),
        field("carrier", ["null", "string"], aliases=["name"], default=None),
        field("delay", "double"),
        field("seats", "long", default=7),
        field("tags", {"type": "array", "items": "string"}, default=["new"]),
    ),
)


def test_avro_schemas_that_have_evolved(
    client: SchemaRegistryClient, conf: dict[str, Any], tmp_path: Path
) -> None:
    """Fields that are added with a default, removed, renamed by alias, and promoted; those of the latest schema count."""
    rows = (
        {"id": 1, "name": "AF", "gone": "x", "delay": 0.5},
        {"id": 2**40, "name": "LH", "delay": 0.25, "seats": 9},
        {"number": 3, "carrier": None, "delay": 1.0, "seats": 2**40, "tags": []},
    )
    values = [
        sent(AvroSerializer(client, json.dumps(schema), conf=conf), row)
        for schema, row in zip(VERSIONS, rows, strict=True)
    ]
    table, dead = replayed(tmp_path, Avro(str(client.config()["url"])), values)
    assert dead == {}
    reading = AvroDeserializer(client, json.dumps(VERSIONS[-1]))
    own = [
        reading(each.value, SerializationContext(TOPIC, MessageField.VALUE, list(each.headers)))
        for each in values
    ]
    assert table["value"].to_pylist() == own
    assert own[0] == {"number": 1, "carrier": "AF", "delay": 0.5, "seats": 7, "tags": ["new"]}
    assert table["headers"].to_pylist()[0][0] == {"key": "mine", "value": b"kept"}


def test_avro_types(client: SchemaRegistryClient, conf: dict[str, Any], tmp_path: Path) -> None:
    """Logical types, unions, and types of other subjects."""
    plane = record(
        "Plane", field("seats", "int"), field("kind", {"type": "enum", "name": "Kind", "symbols": ["JET"]})
    )
    client.register_schema("planes", Schema(json.dumps(plane), "AVRO"))
    schema = record(
        "Flight",
        field("at", {"type": "long", "logicalType": "timestamp-millis"}),
        field("micros", {"type": "long", "logicalType": "timestamp-micros"}),
        field("day", {"type": "int", "logicalType": "date"}),
        field("clock", {"type": "int", "logicalType": "time-millis"}),
        field("price", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
        field("fare", {"type": "fixed", "name": "Fare", "size": 5, "logicalType": "decimal", "precision": 9, "scale": 3}),
        field("uuid", {"type": "string", "logicalType": "uuid"}),
        field("plane", "air.Plane"),
        field("planes", {"type": "map", "values": "air.Plane"}),
        field("maybe", ["null", "air.Plane"]),
        field("either", ["string", "long", "air.Plane"]),
    )  # fmt: skip
    moment = datetime(2026, 5, 1, 12, 30, 15, 250_000, UTC)
    jet = {"seats": 3, "kind": "JET"}
    row: dict[str, Any] = {
        "at": moment,
        "micros": moment.replace(microsecond=1),
        "day": date(1969, 12, 31),
        "clock": time(1, 2, 3, 4_000),
        "price": Decimal("-12.34"),
        "fare": Decimal("1234.567"),
        "uuid": uuid.UUID(int=7),
        "plane": jet,
        "planes": {"one": jet},
        "maybe": None,
        "either": 5,
    }
    references = [SchemaReference("air.Plane", "planes", 1)]
    serializer = AvroSerializer(client, Schema(json.dumps(schema), "AVRO", references), conf=conf)
    values = [sent(serializer, row), sent(serializer, row | {"maybe": jet, "either": ("air.Plane", jet)})]
    table, dead = replayed(tmp_path, Avro(str(client.config()["url"])), values)
    assert dead == {}
    one, other = table["value"].to_pylist()
    assert one == row | {"uuid": str(uuid.UUID(int=7)), "planes": [("one", jet)], "either": "5"}
    assert (other["maybe"], json.loads(other["either"])) == (jet, jet)
    assert table.schema.field("value").type.field("fare").type == pa.decimal128(9, 3)


def test_avro_events_of_several_types(
    client: SchemaRegistryClient, conf: dict[str, Any], tmp_path: Path
) -> None:
    """A union of references is the way to several types of events in one topic."""
    for name in ("Left", "Landed"):
        client.register_schema(name, Schema(json.dumps(record(name, field("gate", "string"))), "AVRO"))
    references = [SchemaReference(f"air.{name}", name, 1) for name in ("Left", "Landed")]
    schema = Schema(json.dumps(["air.Left", "air.Landed"]), "AVRO", references)
    serializer = AvroSerializer(client, schema, conf=conf)
    values = [
        sent(serializer, ("air.Landed", {"gate": "B7"})),
        sent(serializer, ("air.Left", {"gate": "A1"})),
    ]
    table, dead = replayed(tmp_path, Avro(str(client.config()["url"])), values)
    assert dead == {}
    assert [json.loads(each) for each in table["value"].to_pylist()] == [{"gate": "B7"}, {"gate": "A1"}]


def protobuf_files() -> tuple[Any, Any]:
    shared = file_of("air/shared.proto")
    add(shared.message_type.add(name="Plane"), "seats", "int32")
    known = ("any", "duration", "field_mask", "struct", "timestamp", "wrappers")
    file = file_of(
        "air/flights.proto",
        "air/shared.proto",
        "confluent/type/decimal.proto",
        "google/type/date.proto",
        *(f"google/protobuf/{name}.proto" for name in known),
    )
    file.message_type.add(name="First")
    outer = file.message_type.add(name="Outer")
    add(outer, "id", "int32")
    outer.nested_type.add(name="Unused")
    flight = outer.nested_type.add(name="Flight")
    flight.oneof_decl.add(name="where")
    add(flight, "id", "int64")
    add(flight, "gate", "string", oneof=0)
    add(flight, "stand", "int32", oneof=0)
    add(flight, "plane", ".air.Plane")
    add(flight, "legs", ".air.Plane", repeated=True)
    add(flight, "counts", ".air.Outer.Flight.CountsEntry", repeated=True)
    entry = flight.nested_type.add(name="CountsEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    add(entry, "key", "string")
    add(entry, "value", "int32")
    add(flight, "at", ".google.protobuf.Timestamp")
    add(flight, "took", ".google.protobuf.Duration")
    add(flight, "more", ".google.protobuf.Struct")
    add(flight, "any", ".google.protobuf.Any")
    add(flight, "mask", ".google.protobuf.FieldMask")
    add(flight, "delay", ".google.protobuf.Int64Value")
    add(flight, "price", ".confluent.type.Decimal")
    add(flight, "day", ".google.type.Date")
    return shared, file


def test_protobuf_types(client: SchemaRegistryClient, conf: dict[str, Any], tmp_path: Path) -> None:
    """A message inside of another one, in a file that imports others; what Google and Confluent have is in no registry."""
    shared, file = protobuf_files()
    needed = (any_pb2, duration_pb2, field_mask_pb2, struct_pb2, decimal_pb2, date_pb2)
    files = [descriptor_pb2.FileDescriptorProto.FromString(each.DESCRIPTOR.serialized_pb) for each in needed]
    of = classes(*files, shared, file)
    flight = of("air.Outer.Flight")(id=7, gate="B7", counts={"a": 1}, legs=[of("air.Plane")(seats=3)])
    flight.at.FromSeconds(1_000)
    flight.took.FromMilliseconds(1_500)
    flight.more.update({"x": 1})
    flight.any.Pack(of("google.protobuf.Timestamp")(seconds=1))
    flight.mask.paths.append("id")
    flight.delay.value = 0
    flight.price.value, flight.price.scale = (-1234).to_bytes(2, "big", signed=True), 2
    flight.day.year = 2026
    serializer = ProtobufSerializer(type(flight), client, conf)
    other = ProtobufSerializer(of("air.Outer"), client, conf)
    values = [sent(serializer, flight), sent(other, of("air.Outer")(id=1)), sent(serializer, type(flight)())]
    table, dead = replayed(tmp_path, Protobuf(str(client.config()["url"])), values)
    assert dead == {1: "air.Outer, and not air.Outer.Flight"}
    full, empty = table["value"].to_pylist()
    assert full == {
        "id": 7,
        "gate": "B7",
        "stand": None,
        "plane": None,
        "legs": [{"seats": 3}],
        "counts": [("a", 1)],
        "at": datetime.fromtimestamp(1_000, UTC),
        "took": {"seconds": 1, "nanos": 500_000_000},
        "more": full["more"],
        "any": {"type_url": "type.googleapis.com/google.protobuf.Timestamp", "value": b"\x08\x01"},
        "mask": {"paths": ["id"]},
        "delay": 0,
        "price": "-12.34",
        "day": {"year": 2026, "month": 0, "day": 0},
    }
    assert json.loads(full["more"]) == {"x": 1}
    assert empty["legs"] == empty["counts"] == [] and empty["delay"] is None and empty["id"] == 0


def test_what_a_header_says_is_anybodys(registry: SchemaRegistry, tmp_path: Path) -> None:
    """The first header that says something counts, as for Confluent's deserializers."""
    number = registry.register(SUBJECT, record("Flight", field("id", "long")))
    told = b"\0" + number.to_bytes(4, "big")
    values = [
        Sent(b"\2", [(HEADER, None), (HEADER, told), (HEADER, b"\1")]),
        Sent(b"\2", [(HEADER, b"\1" + bytes(16))]),
        Sent(told + b"\4", [("other", b"\1")]),
        Sent(b"\2", [(HEADER, b"\1")]),
        Sent(None, [(HEADER, told)]),
    ]
    table, dead = replayed(tmp_path, Avro(registry.url), values)
    assert table["value"].to_pylist() == [{"id": 1}, {"id": 2}, None]
    assert dead == {
        1: f"{registry.url} has no schema 00000000-0000-0000-0000-000000000000",
        3: "does not begin with a schema id",
    }
    rows = tierlog.replay.open(TOPIC, bucket=f"dir://{tmp_path}", columns=["headers"]).read_next_batch()
    assert headers_of(rows.slice(1).filter(pa.array([False, True, True, False]))) == {1: b"\1"}


def test_json(client: SchemaRegistryClient, conf: dict[str, Any], tmp_path: Path) -> None:
    schema = {"title": "Flight", "type": "object", "properties": {"id": {"type": "integer"}}}
    serializer = JSONSerializer(json.dumps(schema), client, lambda value, _: value, conf)
    values = [sent(serializer, {"id": 1}), sent(serializer, {"id": 2})]
    table, dead = replayed(tmp_path, Json(), values)
    assert dead == {}
    assert table["value"].to_pylist() == [{"id": 1}, {"id": 2}]
