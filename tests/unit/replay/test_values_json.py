"""JSON values: the columns that the first values tell, what does not fit, hostile text."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tierlog.replay
from tests.unit.replay.values_made import TOPIC, bucket_of, header, replayed
from tierlog.errors import UserError
from tierlog.replay.values.formats import Json, schema_of_text
from tierlog.replay.values.json_values import JsonDecoder

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def lines(*values: Any) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


def test_the_first_values_tell_the_columns(tmp_path: Path) -> None:
    first = lines(
        {"carrier": "AF", "delay": 5, "at": None, "tags": []},
        {"carrier": "LH", "delay": 2.5, "plane": {"seats": 180, "extra": {}}, "tags": ["late"]},
        {"id": 7, "big": 2**64},
    )
    later = [
        *lines({"carrier": "BA", "delay": "soon"}, {"delay": 1, "gate": "B4"}, {"id": 2**63}),
        *(None, *lines({"id": "x"}, {"carrier": 7, "plane": {"seats": 1}})),
    ]
    table, dead = replayed(tmp_path, Json(), [*first, None], later)
    assert table.schema.field("value").type == pa.struct(
        {
            "carrier": pa.string(),
            "delay": pa.float64(),
            "at": pa.string(),
            "tags": pa.list_(pa.string()),
            "plane": pa.struct({"seats": pa.int64(), "extra": pa.string()}),
            "id": pa.int64(),
            "big": pa.string(),
        }
    )
    assert dead == {
        4: "delay: expected double, found a string",
        5: "gate: a field that the first values do not have",
        6: "id: a number beyond int64",
        8: "id: expected int64, found a string",
    }
    found = dict(zip(table["offset"].to_pylist(), table["value"].to_pylist(), strict=True))
    assert list(found) == [0, 1, 2, 3, 7, 9]
    assert (found[0]["delay"], found[1]["plane"]) == (5.0, {"seats": 180, "extra": "{}"})
    assert (found[2]["big"], found[3], found[7]) == (str(2**64), None, None)
    assert (found[9]["carrier"], found[9]["plane"]["seats"]) == ("7", 1)


def test_given_columns_and_the_header_of_json_schema(tmp_path: Path) -> None:
    kinds = schema_of_text("id:int16, day:date32, at:timestamp[us], note:string, ratio:float, ok:bool")
    row = {"id": 7, "day": "2026-05-01", "at": "2026-05-01T10:00:00.000005+02:00", "note": [1], "ok": True}
    values = [header(3) + lines(row)[0], *lines(row | {"more": 1}, {"id": 40_000}, {"at": "noon"}, {})]
    table, dead = replayed(tmp_path, Json(kinds), values, columns=["value"])
    assert table.column_names == ["value"]
    assert dead == {2: "id: a number beyond int16", 3: "at: 'noon' is no time"}
    first, second, empty = table["value"].to_pylist()
    assert (
        first
        == second
        == {
            "id": 7,
            "day": date(2026, 5, 1),
            "at": datetime(2026, 5, 1, 8, 0, 0, 5, tzinfo=UTC),
            "note": "[1]",
            "ratio": None,
            "ok": True,
        }
    )
    assert set(empty.values()) == {None}
    again = JsonDecoder(None, JsonDecoder(kinds).remembered())
    assert again.column([again.decode(b'{"more":1,"id":2}')]).to_pylist()[0]["id"] == 2
    with pytest.raises(UserError, match="the earlier run had another schema of values"):
        JsonDecoder(schema_of_text("id:int64"), again.remembered())
    with pytest.raises(UserError, match="value: duration"):
        JsonDecoder(schema_of_text("value:duration[s]"))
    for wrong in ("x", "x:strange", ":int8", ""):
        with pytest.raises(UserError, match="--value-schema"):
            schema_of_text(wrong)


def test_hostile_text_costs_itself_only(tmp_path: Path) -> None:
    values = [
        *(
            b"[" * 300_000,
            b'{"a":' * 200_000,
            b'{"a":' + b"9" * 100_000 + b"}",
            b"{}{}",
            b"",
            b"\xff",
            b"null",
        ),
        *(b'{"a":NaN}', b'{"a":"\\ud800"}', b'{"\\ud800":1}', b"[1]", b'{"a":[' + b"[]," * 100_000 + b"0]}"),
        *(b'{"a":"fine"}', b'{"a":1e999}'),
    ]
    table, dead = replayed(tmp_path, Json(), [b'{"a":"text"}'], values)
    assert table["offset"].to_pylist() == [0, 12, 13, 14]
    assert (dead[1], dead[2]) == ("too deep", "too deep")
    assert dead[7] == "JSON, but no object"
    assert dead[10] == "?: a field that the first values do not have"
    assert all(error and "\n" not in error for error in dead.values())


def test_values_that_tell_no_columns(tmp_path: Path) -> None:
    table, dead = replayed(tmp_path / "a", Json(), [b"{}", None, b"x"])
    assert table.schema.field("value").type == pa.binary()
    assert (table["offset"].to_pylist(), sorted(dead)) == ([1], [0, 2])
    many = {f"f{number}": 1 for number in range(3_000)}
    with pytest.raises(UserError, match="more than 2,000 fields: name those that are wanted, as a schema"):
        replayed(tmp_path / "b", Json(), lines(many))
    grown = lines(*({f"f{number}": 1} for number in range(20_000)))
    with pytest.raises(UserError, match="more than 2,000 fields"):
        replayed(tmp_path / "d", Json(), grown)
    nested = lines(*({"id": 1, "by": {f"f{number}": 1}} for number in range(20_000)))
    table, dead = replayed(tmp_path / "e", Json(), nested)
    assert (table.schema.field("value").type.field("by").type, dead) == (pa.string(), {})
    with pytest.raises(UserError, match="the column value is not chosen"):
        replayed(tmp_path / "c", Json(), lines({"a": 1}), columns=["offset"])


def test_without_dead_letters_the_first_one_ends_the_reading(tmp_path: Path) -> None:
    url = bucket_of(tmp_path, [*lines({"a": 1}), b"nonsense"]).url
    reader = tierlog.replay.open(TOPIC, bucket=url, decode="json")
    with pytest.raises(UserError, match=r"flights-0 offset 1: no JSON: .*; give dead_letters"):
        reader.read_all()


async def test_dead_letters_come_before_what_they_are_missing_in(tmp_path: Path) -> None:
    """So that whoever keeps both loses none: the batch is given out when they are taken."""
    values = [*lines({"a": 1}), b"x"]
    dead: list[pa.RecordBatch] = []
    url = bucket_of(tmp_path, *([values] * 4)).url
    async for batch in tierlog.replay.stream(TOPIC, bucket=url, decode="json", dead_letters=dead.append):
        last = batch["offset"].to_pylist()[-1]
        assert dead[-1]["offset"].to_pylist()[-1] >= last + 1
    with pytest.raises(UserError, match='decode="avro": expected "json", Json'):
        tierlog.replay.open(TOPIC, bucket=url, decode="avro")  # type: ignore[arg-type]


async def test_the_stream_of_asyncio_decodes_too(tmp_path: Path) -> None:
    url = bucket_of(tmp_path, lines({"a": 1}), lines({"a": 2})).url
    found = [
        batch async for batch in tierlog.replay.stream(TOPIC, bucket=url, decode="json", columns=["value"])
    ]
    assert [row["value"] for batch in found for row in batch.to_pylist()] == [{"a": 1}, {"a": 2}]


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.text(max_size=5), JSON, min_size=1, max_size=4), min_size=1, max_size=8))
def test_what_told_the_columns_fits_into_them(values: list[dict[str, Any]]) -> None:
    """Whatever the values, their own type takes them all; what stays a number or a text is the same."""
    decoder = JsonDecoder(None)
    decoder.settle(lines(*values))
    kind = decoder.type
    assert kind is not None
    again = JsonDecoder(None, decoder.remembered())
    assert again.type == kind
    made = again.column([again.decode(line) for line in lines(*values)]).to_pylist()
    for row, value in zip(made, values, strict=True):
        for name, told in value.items():
            if pa.types.is_int64(kind.field(name).type) or isinstance(told, str):
                assert row[name] == told
