"""The mean delay of each carrier in Polars, some batches at a time: ``BOOTSTRAP TOPIC``."""

import os
import sys

import polars as pl
import pyarrow as pa

import tierlog.replay

bootstrap, topic = [*sys.argv[1:], *(None,) * 2][:2]
reader = tierlog.replay.open(
    topic or "flights",
    bootstrap=bootstrap or os.environ.get("BOOTSTRAP", "127.0.0.1:9092"),
    columns=["timestamp", "value"],
    decode=tierlog.replay.Json(pa.schema({"carrier": pa.string(), "dep_delay": pa.float64()})),
)

# Sums of each batch, and then of the sums: as much memory as there are carriers.
sums = []
for batch in reader:
    frame = pl.DataFrame(pl.from_arrow(batch)).unnest("value")
    delay = pl.col("dep_delay")
    sums.append(frame.group_by("carrier").agg(pl.len(), delay.count().alias("known"), delay.sum()))
carriers = pl.concat(sums).group_by("carrier").sum().sort("carrier")
for carrier, flights, known, minutes in carriers.iter_rows():
    print(f"{carrier}: {flights:,} flights, {minutes / max(known, 1):.2f} min late")
