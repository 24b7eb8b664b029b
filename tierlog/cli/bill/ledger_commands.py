"""``tierlog ledger``: what was asked of the object store, moved and held, hour by hour."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tierlog.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Format, Output, Timeout

if TYPE_CHECKING:
    from rich.console import Console

    from tiering.ledger.rows import LedgerRow

app = typer.Typer(
    no_args_is_help=True, help="What was asked of the store, moved and held: the rows behind reports."
)

FIGURES = ("requests", "failed", "records", "sent_bytes", "received_bytes", "held_bytes", "byte_hours")
_BYTES = ("sent_bytes", "received_bytes", "held_bytes")

Bucket = Annotated[
    str | None,
    typer.Option(
        "--bucket",
        metavar="URL",
        help="Read this bucket, as tierlog.object.store names it; asks no broker but those of --bootstrap-server.",
    ),
]
Since = Annotated[
    str,
    typer.Option(
        "--since", metavar="TIME", help="24h, 30d, or a date in UTC: the first hour that begins then."
    ),
]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="Before the hour that begins then.")]


@app.command()
def show(
    ctx: typer.Context,
    since: Since = "24h",
    until: Until = "now",
    kind: Annotated[list[str] | None, typer.Option(help="Only these; may be repeated.")] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="COLUMN,…", help="Sum the table over all other columns.")
    ] = "kind,cause,operation,direction,storage_class",
    bucket: Bucket = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    format: Output = Format.table,
    timeout: Timeout = 30.0,
) -> None:
    """Rows of the ledger. JSON and YAML have all columns of each row, the table has sums.

    The running hour comes from the brokers, all others from the bucket.
    """
    from tierlog.admin import ledger as admin
    from tierlog.admin.client import Client
    from tierlog.cli import output
    from tierlog.errors import UserError
    from tierlog.times import time_ms

    now_ms = int(time.time() * 1_000)
    since_ms, until_ms = time_ms(since, "--since", now_ms), time_ms(until, "--until", now_ms)
    if since_ms >= until_ms:
        raise UserError(f"--since {since} is not before --until {until}; name an earlier --since")
    kinds, columns = _kinds(kind or []), _columns(by)
    source = ctx.get_parameter_source("bootstrap_server")
    if bucket is not None and (source is None or source.name == "DEFAULT"):
        ledger = admin.of_bucket(bucket)
    else:
        with Client(bootstrap_server, timeout) as client:
            ledger = admin.of_cluster(client, bucket, timeout)
    found = admin.rows_of(ledger, since_ms, until_ms)
    if not found and not ledger.warnings:
        hint = "name an earlier --since, or have brokers write one (tierlog.ledger.enable=true)"
        raise UserError(f"the ledger has no row from {since} until {until}; {hint}")
    rows = [row for row in found if not kinds or row.kind in kinds]
    answer = [{**row._asdict(), "kind": row.kind.value} for row in rows]
    output.show(answer, format, lambda console: draw(console, rows, columns))
    for warning in ledger.warnings:
        output.complain(warning)
    if ledger.warnings:
        raise typer.Exit(1)


def _kinds(given: list[str]) -> set[str]:
    from tiering.ledger.rows import Kind
    from tierlog.errors import UserError

    known = [kind.value for kind in Kind]
    for kind in given:
        if kind not in known:
            raise UserError(f"--kind {kind}: expected one of {', '.join(known)}")
    return set(given)


def _columns(by: str) -> list[str]:
    from tiering.ledger.rows import LedgerRow
    from tierlog.errors import UserError

    known = LedgerRow._fields[: LedgerRow._fields.index(FIGURES[0])]
    columns = [name.strip() for name in by.split(",") if name.strip()]
    for name in columns:
        if name not in known:
            raise UserError(f"--by {name}: expected some of {', '.join(known)}")
    return columns


def draw(console: Console, rows: list[LedgerRow], columns: list[str]) -> None:
    """Sums; what is held is that of the last hour that there is of a broker."""
    from rich.markup import escape

    from tierlog.cli import output
    from tierlog.cli.output import number, size

    newest: dict[int, int] = {}
    for row in rows:
        newest[row.broker_id] = max(row.hour_ms, newest.get(row.broker_id, 0))
    sums: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        total = sums.setdefault(tuple(getattr(row, name) for name in columns), dict.fromkeys(FIGURES, 0))
        for name in FIGURES:
            if name != "held_bytes" or row.hour_ms == newest[row.broker_id]:
                total[name] += getattr(row, name)
    made = output.table(*(name.upper() for name in columns), *(f">{name.upper()}" for name in FIGURES))
    for group, total in sorted(sums.items(), key=lambda item: [str(value) for value in item[0]]):
        cells = [escape(str(value)) for value in group]
        for name in FIGURES:
            value = int(total[name])
            shown = size if name in _BYTES else number
            cells.append(shown(value) if value else "")
        made.add_row(*cells)
    console.print(made)
