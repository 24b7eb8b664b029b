"""The options of ``tierlog table``. Imported for each start, so it imports only typer."""

from __future__ import annotations

from typing import Annotated

import typer

TopicName = Annotated[str, typer.Argument(metavar="TOPIC")]
CatalogOption = Annotated[
    str,
    typer.Option(
        "--iceberg",
        metavar="CATALOG",
        envvar="TIERLOG_ICEBERG",
        help="A name that ~/.pyiceberg.yaml knows, or a URI: sqlite:////DIR/catalog.db, https://HOST/….",
    ),
]
TableName = Annotated[
    str | None,
    typer.Option("--table", metavar="NAMESPACE.NAME", help="In the catalog.", show_default="tierlog.TOPIC"),
]
Warehouse = Annotated[
    str | None,
    typer.Option("--warehouse", metavar="URL", help="Where tables go, if the catalog does not know it."),
]
CatalogProperties = Annotated[
    list[str] | None,
    typer.Option(
        "--catalog-property", metavar="KEY=VALUE", help="Such as token=… or s3.endpoint=…; may be repeated."
    ),
]
Interval = Annotated[
    str, typer.Option("--follow-interval", metavar="60s", help="How often to look for what is new.")
]
Once = Annotated[bool, typer.Option("--once", help="Write what there is now, and end.")]
SkipDeleted = Annotated[
    bool,
    typer.Option("--skip-deleted", help="Go on where records were deleted before they were written."),
]
CompactInterval = Annotated[
    str,
    typer.Option("--compact-interval", metavar="1h", help="How often to merge small files meanwhile; never."),
]
ExpireSnapshots = Annotated[
    str | None,
    typer.Option(
        "--expire-snapshots",
        metavar="7d",
        help="Forget older ones: no time travel before then.",
        show_default="none",
    ),
]
SnapshotAge = Annotated[
    str,
    typer.Option(
        "--expire-snapshots",
        metavar="5d",
        help="Forget older ones at each compaction: no time travel before then; never.",
    ),
]
RemoveLeftovers = Annotated[
    str | None,
    typer.Option(
        "--remove-leftovers",
        metavar="24h",
        help="Delete files that no snapshot names and that are older than this, 1h at least.",
        show_default="none",
    ),
]
Namespace = Annotated[str, typer.Option(help="Of the catalog: where to look.")]
Purge = Annotated[bool, typer.Option("--purge", help="Delete its files too.")]
FileSize = Annotated[
    str | None,
    typer.Option("--file-bytes", metavar="128MB", help="How large files become.", show_default="128MiB"),
]
