"""Lines of JSON, made by columns, are those that ``json`` makes of each record."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.sinks.json_text import lines_of


def record(key: bytes | None, value: bytes | None, time_ms: int | None, headers: list[Any]) -> dict[str, Any]:
    return {
        "topic": 'a "topic"',
        "partition": 1,
        "offset": 2**40,
        "timestamp": time_ms,
        "timestamp_type": 0,
        "key": key,
        "value": value,
        "headers": headers,
        "leader_epoch": None,
    }


HEADER = st.fixed_dictionaries({"key": st.text(max_size=3), "value": st.none() | st.binary(max_size=3)})
BYTES = st.none() | st.binary(max_size=4) | st.text(max_size=4).map(str.encode)
RECORDS = st.builds(record, BYTES, BYTES, st.none() | st.integers(0, 2**41), st.lists(HEADER, max_size=2))


@given(st.lists(RECORDS, max_size=5))
def test_each_line_is_its_record(rows: list[dict[str, Any]]) -> None:
    text = lines_of(pa.RecordBatch.from_pylist(rows, schema=SCHEMA)).decode()
    assert text.count("\n") == len(rows)
    for row, line in zip(rows, text.splitlines(), strict=True):
        told = json.loads(line)
        assert line == json.dumps(told), "written as json writes it"
        for name in ("key", "value"):
            if f"{name}_base64" in told:
                told[name] = b64decode(told.pop(f"{name}_base64"))
            elif told[name] is not None:
                told[name] = told[name].encode()
        for header, ours in zip(row["headers"], told["headers"], strict=True):
            value = ours.get("value")
            found = b64decode(ours["value_base64"]) if "value_base64" in ours else value and value.encode()
            assert (header["key"], header["value"] or None) == (ours["key"], found or None)
        if told["timestamp"] is not None:
            when = datetime.fromisoformat(told["timestamp"])
            assert told["timestamp"] == when.isoformat(timespec="milliseconds")
            told["timestamp"] = round((when - datetime.fromtimestamp(0, UTC)).total_seconds() * 1_000)
        assert {name: told[name] for name in row if name != "headers"} == {
            name: value for name, value in row.items() if name != "headers"
        }
