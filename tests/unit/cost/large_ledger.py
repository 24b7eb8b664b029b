"""The ledger of a large cluster, in a directory: brokers with hours of 20,000 rows, as many as an object may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.unit.cost.rows import GIB, START_MS
from tiering.keys import CLUSTER_MARKER, cluster_marker
from tiering.ledger.columns import SINCE_KEY, VERSION_KEY, WRITTEN_KEY
from tiering.ledger.names import LedgerName, key_of
from tiering.ledger.rows import HOUR_MS, Cause, Direction, Kind, LedgerRow, Operation

CLUSTER = "large"
LED = 2_000
"""Partitions that a broker leads, with hours of 20,000 rows; it follows twice as many."""
PARTITIONS_OF_TOPIC = 500
_HELD = {"held_bytes": 10 * GIB, "byte_hours": 10.0 * GIB}
_STORED = {"held_bytes": 50 * GIB, "objects": 100, "byte_hours": 50.0 * GIB}
_PUT = {"storage_class": "infrequent", "requests": 2, "sent_bytes": GIB}
_PRODUCED = {"from_rack": "a", "to_rack": "b", "received_bytes": GIB, "records": 1_000_000}
_CONSUMED = {"from_rack": "b", "to_rack": "a", "sent_bytes": GIB}
_WRITER, _READER = ({"client_id": name, "principal": f"User:{name}"} for name in ("writer", "reader"))
_LOCAL = {"log_dir": "/d0", "duplicated_bytes": 4 * GIB, **_HELD}
ROWS: tuple[tuple[int, dict[str, Any]], ...] = (
    (3, {"kind": Kind.LOCAL, **_LOCAL}),
    (1, {"kind": Kind.STORED, "storage_class": "standard", **_STORED}),
    (1, {"kind": Kind.STORED, "storage_class": "infrequent", **_STORED}),
    (1, {"kind": Kind.TRAFFIC, "direction": Direction.PRODUCE, **_PRODUCED, **_WRITER}),
    (1, {"kind": Kind.TRAFFIC, "direction": Direction.CONSUME, **_CONSUMED, **_READER}),
    (2, {"kind": Kind.TRAFFIC, "direction": Direction.REPLICATE, "sent_bytes": 2 * GIB}),
    (1, {"kind": Kind.REQUESTS, "cause": Cause.COPY, "operation": Operation.PUT, **_PUT}),
)
"""So many for each partition that the broker leads."""
DISK = {"kind": Kind.DISK, "log_dir": "/d0", "held_bytes": 60_000 * GIB, "capacity_bytes": 90_000 * GIB}


class LargeLedger:
    """Written with as little work as may be: of each object only its broker, hour and topics are its own."""

    def __init__(self, root: Path, brokers: int, led: int = LED) -> None:
        """``brokers``: three at least, for the replicas."""
        self.url = f"dir://{root}"
        self._root = root
        self._brokers = brokers
        self._led = led
        self._put(CLUSTER_MARKER).write_bytes(cluster_marker(CLUSTER))
        (root / ".tmp").mkdir()  # Whoever has written there before has made it.
        rows = [row for times, given in ROWS for row in [LedgerRow(0, 0, **given)] * (times * led)]
        rows[-1] = LedgerRow(0, 0, **DISK)
        self._table = pa.Table.from_pylist([row._asdict() | {"kind": str(row.kind)} for row in rows])
        self._numbers = pa.array([number for times, _ in ROWS for number in range(times * led)][:-1])
        self._rows = len(rows)

    def add_hour(self, hour: int) -> None:
        hour_ms = START_MS + hour * HOUR_MS
        for broker in range(self._brokers):
            uuid = f"{hour * self._brokers + broker:032x}"
            told = {VERSION_KEY: "1", SINCE_KEY: str(hour_ms), WRITTEN_KEY: str(hour_ms + HOUR_MS)}
            table = self._of(broker, hour_ms).replace_schema_metadata(told)
            path = self._put(key_of(CLUSTER, LedgerName(hour_ms, broker, uuid)))
            pq.write_table(table, path, compression="zstd", write_page_checksum=True)

    def _of(self, broker: int, hour_ms: int) -> pa.Table:
        """What this broker follows is led by the next ones."""
        count_of_all = self._brokers * self._led
        # Of a number n: n % led, which pyarrow has not.
        numbers = pc.add(self._numbers, broker * self._led)
        numbers = pc.subtract(numbers, pc.multiply(pc.divide(numbers, count_of_all), count_of_all))
        topics = pc.divide(numbers, PARTITIONS_OF_TOPIC)
        partitions = pc.subtract(numbers, pc.multiply(topics, PARTITIONS_OF_TOPIC))
        names = pc.binary_join_element_wise("topic", topics.cast(pa.string()), "-")
        table, count = self._table, self._rows
        for name, column in {
            "hour_ms": pa.repeat(pa.scalar(hour_ms, pa.int64()), count),
            "broker_id": pa.repeat(pa.scalar(broker, pa.int32()), count),
            "topic": pa.concat_arrays([names, pa.array([""])]),
            "topic_id": pa.concat_arrays([names, pa.array([""])]),
            "partition": pa.concat_arrays([partitions, pa.array([-1])]).cast(pa.int32()),
        }.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        return table

    def _put(self, key: str) -> Path:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
