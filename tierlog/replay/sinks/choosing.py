"""The sink that ``--sink`` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.cluster import Cluster
from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.sinks.files import BucketFiles, DirectoryFiles
from tierlog.replay.sinks.iceberg import IcebergSink
from tierlog.replay.sinks.jsonl import JsonlSink
from tierlog.replay.sinks.parquet import ParquetSink
from tierlog.replay.sinks.port import NullSink, Sink
from tierlog.replay.sinks.topic import NEEDED, TopicSink

FORMS = (
    "parquet:DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, iceberg:CATALOG.NAMESPACE.TABLE, "
    "jsonl, jsonl:FILE, topic:NAME or null"
)


def open_sink(
    text: str, schema: pa.Schema, cluster: Cluster | None, file_bytes: int, before_commit: Callable[[], None]
) -> Sink:
    """``file_bytes`` 0: as the sink has it. ``before_commit``: of a sink that commits by itself. Raises UserError."""
    kind, _, rest = text.partition(":")
    match kind:
        case "null" if not rest:
            return NullSink()
        case "parquet" if rest:
            return ParquetSink(DirectoryFiles(Path(rest)), schema, rest, file_bytes, before_commit)
        case "s3" | "gs" if rest:
            name = text.partition("?")[0]
            return ParquetSink(BucketFiles(text), schema, name, file_bytes, before_commit)
        case "iceberg" if rest:
            return IcebergSink(rest, schema, file_bytes, before_commit)
        case "jsonl":
            return JsonlSink(Path(rest) if rest else None)
        case "topic" if rest:
            if cluster is None:
                raise UserError(
                    "a topic is written to through brokers: name one with --bootstrap-server HOST:PORT"
                )
            return TopicSink(cluster, rest)
    raise UserError(f"--sink {text}: expected {FORMS}")


def columns_for(text: str, chosen: tuple[str, ...] | None, where_columns: frozenset[str]) -> list[str] | None:
    """What is to be decoded; None: nothing. Raises UserError."""
    if text.startswith("topic:"):
        if chosen is not None:
            raise UserError("--columns and --sink topic: a topic takes whole records; leave --columns out")
        return list(NEEDED)
    if text == "null" and chosen is None and not where_columns:
        return None
    names = list(chosen if chosen is not None else SCHEMA.names)
    return [*names, *sorted(where_columns - set(names))]
