"""Avro values by a schema registry: logical types, schemas that have changed, hostile bytes and schemas."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.servers.schema_registry import SchemaRegistry, schema_registry
from tests.unit.replay.values_made import TOPIC, avro, header, replayed
from tierlog.errors import UserError
from tierlog.replay.values.avro_types import avro_type
from tierlog.replay.values.avro_values import AvroDecoder
from tierlog.replay.values.formats import Avro
from tierlog.replay.values.port import Undecodable
from tierlog.replay.values.registry import Registry

SUBJECT = f"{TOPIC}-value"


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with schema_registry() as found:
        yield found


def record(*fields: tuple[str, Any], name: str = "Flight", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields], **more}


def logical(kind: str, meaning: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": meaning, **more}


def test_every_type(registry: SchemaRegistry, tmp_path: Path) -> None:
    plane = record(("seats", "int"), ("tail", {"type": "fixed", "name": "Tail", "size": 2}), name="Plane")
    at = datetime(2026, 5, 1, 8, 0, 0, 5_000, UTC)
    number = uuid.UUID(int=7)
    fields: list[tuple[str, Any, Any, pa.DataType]] = [
        ("ok", "boolean", True, pa.bool_()),
        ("int", "int", -7, pa.int32()),
        ("long", "long", 2**62, pa.int64()),
        ("float", "float", 0.5, pa.float32()),
        ("double", "double", 0.1, pa.float64()),
        ("bytes", "bytes", b"\xff", pa.binary()),
        ("text", {"type": "string", "avro.java.string": "String"}, "é", pa.string()),
        ("maybe", ["null", "string"], None, pa.string()),
        ("either", ["null", "long", plane], {"seats": 2, "tail": b"ab"}, pa.string()),
        (
            "plane",
            ["null", "Plane"],
            {"seats": 3, "tail": b"cd"},
            pa.struct({"seats": pa.int32(), "tail": pa.binary(2)}),
        ),
        ("kind", {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}, "B", pa.string()),
        ("tags", {"type": "array", "items": "string"}, ["a"], pa.list_(pa.string())),
        ("counts", {"type": "map", "values": "long"}, {"x": 1}, pa.map_(pa.string(), pa.int64())),
        ("day", logical("int", "date"), date(2026, 5, 1), pa.date32()),
        ("time", logical("long", "time-micros"), time(1, 2, 3), pa.time64("us")),
        ("ms", logical("long", "timestamp-millis"), at, pa.timestamp("ms", "UTC")),
        ("us", logical("long", "timestamp-micros"), at, pa.timestamp("us", "UTC")),
        ("price", logical("bytes", "decimal", precision=9, scale=2), Decimal("7.25"), pa.decimal128(9, 2)),
        ("number", logical("string", "uuid"), number, pa.string()),
        ("strange", logical("long", "parsecs"), 5, pa.int64()),
    ]
    schema = record(*((name, kind) for name, kind, *_ in fields))
    value = {name: given for name, _, given, _ in fields}
    number_id = registry.register(SUBJECT, schema)
    table, dead = replayed(tmp_path, Avro(registry.url), [avro(number_id, schema, value), None])
    assert dead == {}
    column = table.schema.field("value").type
    assert [(field.name, field.type) for field in column] == [(name, arrow) for name, *_, arrow in fields]
    found, missing = table["value"].to_pylist()
    assert missing is None
    told = {"either": '{"seats": 2, "tail": "6162"}', "counts": [("x", 1)], "number": str(number)}
    assert found == value | told


def test_schemas_that_have_changed_and_refer_to_others(registry: SchemaRegistry, tmp_path: Path) -> None:
    """All values are seen with the latest schema, whatever they were written with."""
    airline = record(("code", "string"), name="air.Line")
    registry.register("airlines", airline)
    old = record(("id", "int"), ("gone", "string"))
    new = record(("id", "long"), ("line", ["null", "air.Line"]))
    new["fields"][1]["default"] = None
    first = registry.register(SUBJECT, old)
    second = registry.register(SUBJECT, new, references=[("air.Line", "airlines", 1)])
    wide = record(("id", "long"), ("line", ["null", airline]))
    values = [
        avro(first, old, {"id": 1, "gone": "x"}),
        avro(second, wide, {"id": 2, "line": {"code": "AF"}}),
        avro(first, old, {"id": 3, "gone": "y"}),
    ]
    table, dead = replayed(tmp_path, Avro(registry.url), values, columns=["value"])
    assert dead == {}
    assert table["value"].to_pylist() == [
        {"id": 1, "line": None},
        {"id": 2, "line": {"code": "AF"}},
        {"id": 3, "line": None},
    ]
    assert len(registry.asked) == len(set(registry.asked)), "each answer is asked for once"
    again = AvroDecoder(Registry(registry.url), SUBJECT, remembered=str(first))
    assert again.type == pa.struct({"id": pa.int32(), "gone": pa.string()})


def test_what_cannot_be_read_is_a_dead_letter(registry: SchemaRegistry, tmp_path: Path) -> None:
    schema = record(("id", "long"), ("name", "string"))
    known = registry.register(SUBJECT, schema)
    other = registry.register("other", "message", kind="JSON")
    recursive = registry.register("list", record(("next", ["null", "Flight"])))
    nothing = registry.register("nothing", record(("many", {"type": "array", "items": "null"})))
    broken = registry.register("broken", '{"type":"record"}')
    unlike = registry.register("unlike", record(("id", "string"), ("name", "string")))
    good = avro(known, schema, {"id": 1, "name": "x"})
    bad = {
        b"": "does not begin with a schema id",
        b'{"id":1}': "does not begin with a schema id",
        header(known): "",
        good[:-1]: "",
        good + b"!": "1 bytes too many for its schema",
        header(known) + b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01": "",
        header(99) + b"x": f"{registry.url} has no schema 99",
        header(other) + b"x": f"schema {other} is of JSON, and not of Avro",
        header(recursive) + b"\x02" * 1_000_000: "its schema is recursive: Flight holds itself",
        header(nothing) + b"\xfe" * 8 + b"\x01": (
            "its schema has arrays of items without bytes, of which a few bytes hold any number"
        ),
        header(broken) + b"x": f"schema {broken} is no Avro:",
        avro(
            unlike, record(("id", "string"), ("name", "string")), {"id": "1", "name": "x"}
        ): "Schema mismatch",
    }
    table, dead = replayed(tmp_path, Avro(registry.url), [good, *bad, good])
    assert table["offset"].to_pylist() == [0, len(bad) + 1]
    for offset, told in enumerate(bad.values(), 1):
        assert dead[offset].startswith(told), (offset, dead[offset])
        assert dead[offset]


def test_random_bytes_never_end_a_replay(registry: SchemaRegistry, tmp_path: Path) -> None:
    schema = record(
        ("maybe", ["null", "string", "bytes"]),
        ("tags", {"type": "array", "items": ["null", "long"]}),
        ("map", {"type": "map", "values": "double"}),
        ("at", logical("long", "timestamp-micros")),
        ("price", logical("bytes", "decimal", precision=5)),
    )
    number = registry.register(SUBJECT, schema)
    rng = random.Random(7)
    values = [header(number) + rng.randbytes(rng.randrange(60)) for _ in range(3_000)]
    table, dead = replayed(tmp_path, Avro(registry.url), values)
    assert len(dead) > 2_000
    assert table.num_rows + len(dead) == 3_000


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (record(("next", ["null", "Flight"])), "its schema is recursive: Flight holds itself"),
        (logical("bytes", "decimal", precision=90), "a decimal of 90 digits"),
        (record(("a", {"type": "array", "items": record(name="Empty")})), "arrays of items without bytes"),
        (record(*((f"f{n}", "int") for n in range(2_000))), "more than 2,000 fields, or 32 levels"),
    ],
)
def test_schemas_that_cannot_be_columns(registry: SchemaRegistry, schema: Any, told: str) -> None:
    registry.register(SUBJECT, schema)
    with pytest.raises(UserError, match=f"^{SUBJECT}: .*{told}"):
        AvroDecoder(Registry(registry.url), SUBJECT)


def test_types_that_multiply(registry: SchemaRegistry) -> None:
    """Each level holds the next one twice: 2 ** 30 fields, of which no more than the bound are looked at."""
    named = {f"L{n}": record(("a", f"L{n + 1}"), ("b", f"L{n + 1}"), name=f"L{n}") for n in range(30)}
    with pytest.raises(Undecodable, match="more than 2,000 fields"):
        avro_type("L0", named | {"L30": record(("x", "int"), name="L30")})
