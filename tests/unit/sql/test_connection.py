"""SQL over a bucket: what is not needed is not there any more, so reading it would fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

import tierlog.sql
from tests.replay_bucket import FIRST_MS, BucketMaker, Shape
from tiering.keys import topic_id_text
from tierlog.errors import UserError

SEGMENTS, RECORDS = 6, 100
SHAPE = Shape(value_bytes=20, batch_records=25, ms_apart=60_000)


def time_of(offset: int) -> str:
    return datetime.fromtimestamp((FIRST_MS + offset * SHAPE.ms_apart) / 1_000, UTC).isoformat()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> BucketMaker:
    """Of two topics with two partitions each, the third segment of each partition alone; and one whole topic."""
    made = BucketMaker(tmp_path_factory.mktemp("bucket"))
    for topic in ("flights", "Other", "whole"):
        for partition in range(2):
            made.fill(topic, partition, SEGMENTS, RECORDS, SHAPE)
    for path in made.root.rglob("*.seg"):
        base = int(path.name.split("-")[0])
        if base != 2 * RECORDS and path.parts[-3] != topic_id_text(made.topic("whole")):
            path.unlink()
    return made


IN_THIRD = f"timestamp >= '{time_of(210)}' AND timestamp < '{time_of(290)}'"
AFTER = IN_THIRD.replace("timestamp", "o.timestamp")


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        (f"SELECT count(*) FROM flights WHERE {IN_THIRD}", 160),
        (f"SELECT count(*) FROM flights WHERE {IN_THIRD} AND partition = 1", 80),
        ('SELECT count(*) FROM flights WHERE "offset" BETWEEN 210 AND 219', 20),
        (f'SELECT min("offset") FROM flights WHERE {IN_THIRD}', 210),
        (f"WITH x AS (SELECT * FROM flights) SELECT count(*) FROM x WHERE {IN_THIRD}", 160),
        (f"SELECT count(*) FROM (SELECT key, timestamp FROM flights) WHERE {IN_THIRD}", 160),
        (
            "SELECT count(*) FROM flights f JOIN other o ON f.key = o.key AND f.partition = o.partition "
            f'WHERE {AFTER} AND f."offset" >= 200 AND f."offset" < 300',
            160,
        ),
        (
            'SELECT count(*) FROM flights f WHERE f."offset" = 250 AND EXISTS '
            f"(SELECT 1 FROM other o WHERE {AFTER} AND o.key = f.key)",
            2,
        ),
        ("SELECT count(*) FROM whole", 1200),
        ('SELECT count(*) FROM whole WHERE "offset" < 5 AND "offset" > 10', 0),
        ("SELECT count(*) FROM whole WHERE partition = 7", 0),
        ('SELECT decode(key) FROM whole WHERE "offset" = 599 AND partition = 0', "key-599"),
        ('SELECT count(*) FROM whole a, whole b WHERE a."offset" = b."offset" + 1', 2396),
        ("SELECT 6 * 7", 42),
    ],
)
def test_only_what_is_needed_is_read(bucket: BucketMaker, statement: str, answer: object) -> None:
    with tierlog.sql.connect(bucket=bucket.url) as database:
        assert database.query(statement).fetchall() == [(answer,)]


def test_what_is_read_is_told_before(bucket: BucketMaker) -> None:
    with tierlog.sql.connect(bucket=bucket.url) as database:
        (read,) = database.reads(f"SELECT key FROM flights WHERE {IN_THIRD} AND partition = 0")
        assert (read.topic, read.is_bounded, read.columns) == (
            "flights",
            True,
            ["partition", "timestamp", "key"],
        )
        assert [(p.start_offset, p.end_offset, len(p.reads)) for p in read.plan.partitions] == [(210, 290, 1)]
        (read,) = database.reads("SELECT key FROM whole")
        assert (read.is_bounded, read.plan.offsets) == (False, 1200)


def test_records_out_of_order_are_found_within_the_disorder(bucket: BucketMaker) -> None:
    with tierlog.sql.connect(bucket=bucket.url, disorder_ms=10 * SHAPE.ms_apart) as database:
        (read,) = database.reads(f"SELECT key FROM whole WHERE {IN_THIRD} AND partition = 0")
        assert [(p.start_offset, p.end_offset) for p in read.plan.partitions] == [(210, 300)]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT * FROM flight", "there is no topic flight; did you mean flights?"),
        ("SELEC 1", "syntax error"),
        ("DROP TABLE flights", "only a SELECT"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELECT nothing FROM whole", "nothing"),
    ],
)
def test_mistakes_are_one_line(bucket: BucketMaker, statement: str, told: str) -> None:
    with (
        tierlog.sql.connect(bucket=bucket.url) as database,
        pytest.raises(UserError, match=told) as found,
    ):
        database.query(statement).fetchall()
    assert "\n" not in str(found.value)


async def test_it_works_beside_a_running_loop(bucket: BucketMaker) -> None:
    assert asyncio.get_running_loop().is_running()
    with tierlog.sql.connect(bucket=bucket.url) as database:
        assert database.query("SELECT max(partition) FROM whole").fetchall() == [(1,)]


def test_what_was_asked_is_one_object_of_the_ledger(tmp_path: Path) -> None:
    made = BucketMaker(tmp_path)
    made.fill("flights", 0, 2, RECORDS, SHAPE)

    def objects() -> list[Path]:
        return list(tmp_path.glob("meta/*/ledger/*/*/*/*.parquet"))

    with tierlog.sql.connect(bucket=made.url, ledger=False) as database:
        database.query("SELECT count(*) FROM flights").fetchall()
    assert objects() == []
    with tierlog.sql.connect(bucket=made.url) as database:
        for _ in range(3):
            database.query("SELECT count(*) FROM flights").fetchall()
            assert objects() == []
    (only,) = objects()
    rows = parquet.read_table(only).to_pylist()
    gets = sum(row["requests"] for row in rows if row["operation"] == "get" and row["topic"] == "flights")
    assert {row["client_id"] for row in rows} == {"tierlog-sql"}
    assert gets >= 3 * 2, "each statement reads each segment"
