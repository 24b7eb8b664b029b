"""The options of ``tierlog replay``. Imported for each start, so it imports only typer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ProgressForm(StrEnum):
    """How progress is told on stderr; ``auto``: a bar on a terminal, else nothing."""

    auto = "auto"
    bar = "bar"
    json = "json"
    none = "none"


class ValueFormat(StrEnum):
    """What values are decoded from."""

    json = "json"
    avro = "avro"
    protobuf = "protobuf"


Topics = Annotated[list[str], typer.Argument(metavar="TOPIC", help="One or more.")]
From = Annotated[
    str, typer.Option("--from", metavar="WHEN", help="Offset, time, duration ago (7d), or earliest.")
]
To = Annotated[
    str, typer.Option("--to", metavar="WHEN", help="Offset, time, duration ago, or end; not included.")
]
Partitions = Annotated[
    str | None, typer.Option("--partitions", metavar="N,N-N", help="Only these.", show_default="all")
]
SinkOption = Annotated[
    str,
    typer.Option(
        "--sink",
        metavar="WHERE",
        help="jsonl[:FILE], parquet:DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, topic:NAME, null.",
    ),
]
Columns = Annotated[
    str | None, typer.Option("--columns", metavar="NAME,…", help="Only these.", show_default="all")
]
WhereOption = Annotated[
    str, typer.Option("--where", metavar="EXPR", help="Such as \"key = 'AF' and partition < 3\".")
]
ValueFormatOption = Annotated[
    ValueFormat | None,
    typer.Option(
        "--value-format", help="Decode values into typed columns.", show_default="bytes as they are"
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        envvar="TIERLOG_SCHEMA_REGISTRY",
        metavar="URL",
        help="Schema registry, of Avro and Protobuf.",
        show_default=False,
    ),
]
ValueSchema = Annotated[
    str | None,
    typer.Option(
        "--value-schema",
        metavar="NAME:TYPE,…",
        help="Only these fields of JSON values.",
        show_default="as the first values have them",
    ),
]
DeadLetters = Annotated[
    str | None,
    typer.Option(
        "--dead-letters",
        metavar="WHERE",
        help="What cannot be decoded: FILE for lines of JSON, parquet:DIR, topic:NAME.",
        show_default="only counted",
    ),
]
Rate = Annotated[
    str | None, typer.Option("--rate", metavar="200MB/s", help="Read no faster.", show_default="no limit")
]
Speed = Annotated[
    str | None,
    typer.Option("--speed", metavar="10x", help="By the records' own time.", show_default="no limit"),
]
FileBytes = Annotated[
    str | None,
    typer.Option(
        "--file-bytes", metavar="128MB", help="Close Parquet files at this size.", show_default="by sink"
    ),
]
Resume = Annotated[
    Path | None, typer.Option("--resume", metavar="FILE", help="Go on from it, or begin and keep it.")
]
Parallel = Annotated[
    int,
    typer.Option("--parallel", metavar="N", help="GETs under way at once, of 4 MiB each, from 1 to 32."),
]
Ordered = Annotated[
    bool,
    typer.Option("--ordered/--unordered", help="Partitions in order of offsets, or segments as they come."),
]
CommitGroup = Annotated[
    str,
    typer.Option(
        "--commit-group", metavar="GROUP", help="Let this group go on behind the range.", show_default="none"
    ),
]
ClientId = Annotated[str, typer.Option("--client-id", metavar="NAME", help="Towards brokers and the ledger.")]
NoLedger = Annotated[bool, typer.Option("--no-ledger", help="Do not write requests to the bucket's ledger.")]
AnyBootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-server",
        "-b",
        envvar="TIERLOG_BOOTSTRAP_SERVER",
        metavar="HOST:PORT,…",
        help="Any brokers of the cluster.",
        show_default="127.0.0.1:9092 without --bucket",
    ),
]
BucketOption = Annotated[
    str | None,
    typer.Option(
        "--bucket", metavar="URL", help="Where the topic is tiered to. Alone: read without brokers."
    ),
]
Uncommitted = Annotated[bool, typer.Option("--read-uncommitted", help="Aborted transactions too.")]
MaxCost = Annotated[
    float | None, typer.Option("--max-cost", metavar="USD", help="Do not begin if it costs more.")
]
ProgressOption = Annotated[ProgressForm, typer.Option("--progress", help="On stderr.")]
