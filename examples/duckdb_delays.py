"""The mean delay of each carrier in DuckDB, over decoded values and over the topic as a table: ``BOOTSTRAP TOPIC``."""

import os
import sys

import duckdb

import tierlog.replay
import tierlog.sql

bootstrap, topic = [*sys.argv[1:], *(None,) * 2][:2]
bootstrap = bootstrap or os.environ.get("BOOTSTRAP", "127.0.0.1:9092")
topic = topic or "flights"

# DuckDB pulls the batches as it needs them: the topic is never in memory as a whole.
flights = tierlog.replay.open(topic, bootstrap=bootstrap, columns=["value"], decode="json")
print(
    duckdb.sql(
        "SELECT value.carrier, count(*) AS flights, round(avg(value.dep_delay), 2) AS delay "
        "FROM flights GROUP BY ALL ORDER BY 1"
    )
)

# And what only looks at columns of the log needs no decoding; bounds on time and offset leave segments unread.
with tierlog.sql.connect(bootstrap=bootstrap) as database:
    found = database.query(f'SELECT count(*), max("offset") FROM "{topic}" WHERE partition = 0').fetchall()
print(f"partition 0: {found[0][0]:,} records, the last one at offset {found[0][1]:,}")
