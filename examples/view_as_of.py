"""Rebuilds a PostgreSQL table from a topic's events, as it was at a time: ``BOOTSTRAP TOPIC DSN [TIME]``.

Events are keyed by flight; a value is the flight's newest state, and null ends the flight. The table is replaced in one
transaction, batch by batch: readers see the old rows or the new ones, and memory is that of a batch.
"""

import os
import sys

import psycopg
import pyarrow as pa

import tierlog.replay
from tierlog.errors import UserError

TABLE = """
CREATE TABLE IF NOT EXISTS seats (
  flight text PRIMARY KEY, booked bigint NOT NULL, gate text, changed_at timestamptz NOT NULL)
"""
# A batch holds events of one partition, and a flight's events are all in one: its largest offset is the newest.
APPLY = """
WITH newest AS (SELECT DISTINCT ON (flight) * FROM events ORDER BY flight, "offset" DESC),
     gone AS (DELETE FROM seats USING newest WHERE seats.flight = newest.flight AND newest.booked IS NULL)
INSERT INTO seats SELECT flight, booked, gate, changed_at FROM newest WHERE booked IS NOT NULL
ON CONFLICT (flight) DO UPDATE
SET booked = excluded.booked, gate = excluded.gate, changed_at = excluded.changed_at
"""
STATE = pa.schema({"booked": pa.int64(), "gate": pa.string()})


def main(bootstrap: str, topic: str, dsn: str, time: str = "end") -> None:
    bad: list[pa.RecordBatch] = []
    reader = tierlog.replay.open(
        topic,
        end=time,
        bootstrap=bootstrap,
        columns=["offset", "timestamp", "key", "value"],
        decode=tierlog.replay.Json(STATE),
        dead_letters=bad.append,
    )
    with psycopg.connect(dsn) as database, database.cursor() as cursor:
        cursor.execute(TABLE)
        cursor.execute("DELETE FROM seats")
        cursor.execute(
            'CREATE TEMP TABLE events ("offset" bigint, flight text, booked bigint, gate text, changed_at timestamptz)'
            " ON COMMIT DROP"
        )
        for batch in reader:
            with cursor.copy('COPY events ("offset", changed_at, flight, booked, gate) FROM STDIN') as copy:
                for row in batch.to_pylist():
                    state = row["value"] or {"booked": None, "gate": None}
                    flight = row["key"].decode()
                    copy.write_row((row["offset"], row["timestamp"], flight, state["booked"], state["gate"]))
            cursor.execute(APPLY)
            cursor.execute("TRUNCATE events")
        cursor.execute("SELECT count(*), coalesce(sum(booked), 0) FROM seats")
        flights, booked = cursor.fetchone() or (0, 0)
    unread = sum(batch.num_rows for batch in bad)
    print(f"as of {time}: {flights:,} flights, {booked:,} seats booked; {unread} events that cannot be read")


if __name__ == "__main__":
    given = sys.argv[1:] or [os.environ.get("BOOTSTRAP", "127.0.0.1:9092"), "seats", os.environ["DSN"]]
    try:
        main(*given)
    except UserError as error:  # Such as a time before the first event; the table stays as it was.
        sys.exit(f"view_as_of: {error}")
