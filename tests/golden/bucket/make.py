"""Makes a golden bucket, with what is to be read in it beside it, by a broker of the checkout where it is started:

    PYTHONPATH=. python tests/golden/bucket/make.py tests/golden/bucket/v3

The buckets of released versions stay as they are. ``orders`` has so many segments that some stand in a page; the start
of two partitions lies inside a batch. It takes a little more than a minute, after which the heads are copied again.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from tests.e2e.tiered import await_tiered, create, delete_records, hurried, storage
from tests.servers.tierlog import BrokerProcess

FIRST_MS = 1_700_000_000_000
COPIES_S = 65.0


class Written(NamedTuple):
    timestamp_ms: int
    key: str | None
    value: str | None
    headers: list[tuple[str, str]]


ORDERS = [
    [Written(FIRST_MS + 1000 * n, None, f"order {n}", []) for n in range(101)],
    [Written(FIRST_MS + n, f"k{n}", None if n % 5 == 4 else f"v{n}", []) for n in range(6)],
]
USERS = [Written(FIRST_MS + 7 * n, f"user-{n % 7}", f"name of {n} " * 9, [("n", str(n))]) for n in range(96)]


def produce(
    broker: BrokerProcess, topic: str, partition: int, records: list[Written], per_batch: int, codec: str
) -> list[list[Any]]:
    """One batch per ``per_batch`` records; each as offset, timestamp, key, value, headers."""
    settings = {"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "linger.ms": 5000}
    producer = Producer(settings | {"compression.type": codec})
    offsets: list[int | None] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        offsets.append(message.offset())

    for at in range(0, len(records), per_batch):
        for each in records[at : at + per_batch]:
            headers: list[tuple[str, str | bytes | None]] = [*each.headers]
            producer.produce(
                topic,
                each.value,
                each.key,
                partition,
                delivered,
                timestamp=each.timestamp_ms,
                headers=headers,
            )
        assert producer.flush(60) == 0
    return [[offset, *record] for offset, record in zip(offsets, records, strict=True)]


def make(work: Path, bucket: Path) -> None:
    url = f"dir:{work / 'objects'}?durable=false"
    with hurried(work, tierlog_object_store=url, flush_mode="os") as broker:
        create(broker, "orders", 2, internal_segment_bytes="100")
        create(broker, "users", 1, internal_segment_bytes="700")
        written = {
            ("orders", 0): produce(broker, "orders", 0, ORDERS[0], 2, "none"),
            ("orders", 1): produce(broker, "orders", 1, ORDERS[1], 1, "none"),
            ("users", 0): produce(broker, "users", 0, USERS, 8, "gzip"),
        }
        for topic in ("orders", "users"):
            await_tiered(broker, topic)
        starts = {("orders", 0): delete_records(broker, "orders", 3, 0), ("orders", 1): 0}
        starts["users", 0] = delete_records(broker, "users", 13, 0)
        time.sleep(COPIES_S)
        ends = {place: storage(broker, place[0])[place[1]]["tiered_end_offset"] for place in written}
    shutil.copytree(work / "objects", bucket)
    parts = []
    for place, rows in written.items():
        kept = [json.dumps(row) for row in rows if starts[place] <= row[0] < ends[place]]
        lines = ",\n    ".join(kept)
        bounds = f'"start": {starts[place]}, "end": {ends[place]}'
        parts.append(f'  "{place[0]}/{place[1]}": {{{bounds}, "records": [\n    {lines}\n  ]}}')
    bucket.with_suffix(".json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch), Path(sys.argv[1]))
