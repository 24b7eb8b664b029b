"""Reports of cost as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tierlog.cli import output
from tierlog.cli.output import cents

if TYPE_CHECKING:
    from rich.console import Console

MOST_PARTS = 40
MOST_REQUESTS = 12


def draw_report(console: Console, report: dict[str, Any]) -> None:
    _draw_head(console, report)
    made = output.table("ITEM", "OF", ">QUANTITY", "UNIT", ">COST", ">A DAY", ">A MONTH", ">%")
    for row in report["items"]:
        made.add_row(
            row["item"],
            row["of"],
            quantity(row["quantity"]),
            row["unit"],
            *(cents(row[name]) for name in ("cost", "per_day", "per_month")),
            f"{row['percent']:.1f}",
        )
    total, without = report["total"], report["without_tier"]
    for name, row in (("total", total), ("with no tier", without)):
        made.add_row(
            f"[bold]{name}[/]", "", "", "", *(cents(row[key]) for key in ("cost", "per_day", "per_month")), ""
        )
    console.print(made)
    _draw_requests(console, report["requests"])
    _draw_parts(console, report)
    _draw_end(console, report)


def _draw_head(console: Console, report: dict[str, Any]) -> None:
    from rich.markup import escape

    book = report["book"]
    age = f", {book['age_days']} days old" if book["is_stale"] else ""
    console.print(
        f"[bold]{report['since']}[/] until [bold]{report['until']}[/]  [dim]{report['hours']} of "
        f"{report['hours_in_span']} hours are in the ledger; a month is {book['month_hours']} hours, a GB 2^30 bytes[/]"
    )
    console.print(
        f"[dim]prices of[/] {escape(book['name'])} [dim]as of[/] {book['as_of']}{age}[dim], in {book['currency']}; "
        f"{escape(book['source'])}[/]\n"
    )


def _draw_requests(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    console.print()
    made = output.table("OPERATION", "CAUSE", ">REQUESTS", ">COST", ">% OF REQUESTS")
    for row in rows[:MOST_REQUESTS]:
        made.add_row(
            row["operation"],
            row["cause"],
            output.number(row["requests"]),
            cents(row["cost"]),
            f"{row['percent']:.1f}",
        )
    console.print(made)
    if len(rows) > MOST_REQUESTS:
        console.print(f"[dim]and {len(rows) - MOST_REQUESTS} more: --format json has them all[/]")


def _draw_parts(console: Console, report: dict[str, Any]) -> None:
    from rich.markup import escape

    console.print()
    made = output.table(report["by"].upper(), ">COST", ">DIRECT", ">SHARED", ">A MONTH", ">%")
    for row in report["parts"][:MOST_PARTS]:
        made.add_row(
            escape(row["name"]),
            *(cents(row[name]) for name in ("cost", "direct", "shared", "per_month")),
            f"{row['percent']:.1f}",
        )
    console.print(made)
    if len(report["parts"]) > MOST_PARTS:
        console.print(f"[dim]and {len(report['parts']) - MOST_PARTS} more: --format json has them all[/]")
    for line in report["method"]:
        console.print(f"[dim]{line}[/]")


def _draw_end(console: Console, report: dict[str, Any]) -> None:
    costs, unknown, book = report["unit_costs"], report["unknown"], report["book"]
    console.print()
    ingested, retained = costs["per_gb_ingested"], costs["per_gb_month_retained"]
    console.print(
        f"{'–' if ingested is None else quantity(ingested)} {book['currency']} per GB written, "
        f"{'–' if retained is None else quantity(retained)} per GB-month kept "
        f"[dim](each byte counted once)[/]"
    )
    console.print(
        f"[dim]With no tier: all that is kept lies on every replica's disk, which is "
        f"{report['without_tier']['disk_fill_percent']} % full; traffic as it was.[/]"
    )
    if unknown["zone_bytes"]:
        console.print(
            f"[yellow]{output.size(unknown['zone_bytes'])} moved between peers of unknown zone[/]: not billed; "
            "give brokers a broker.rack and clients a client.rack"
        )
    if unknown["early_deletion_bytes"]:
        console.print(
            f"[yellow]{output.size(unknown['early_deletion_bytes'])} left a class with minimum days at an unknown age[/]: "
            "the ledger begins later than they came; not billed"
        )
    if not unknown["is_disk_known"]:
        console.print(
            "[yellow]No broker has told the size of its disks[/]: only what replicas hold is billed"
        )
    for row in report["idle_topics"]:
        console.print(
            f"[yellow]idle[/] {row['topic']}: nobody wrote or read; {output.size(row['local_bytes'])} on disks, "
            f"{output.size(row['remote_bytes'])} in the bucket"
        )
    budget = report["budget"]
    if budget:
        verdict = "[red]crossed[/]" if budget["is_crossed"] else "[green]kept[/]"
        console.print(f"budget of {cents(budget['per_month'])} a month: {verdict}")


def draw_whatif(console: Console, told: dict[str, Any]) -> None:
    from rich.markup import escape

    draw_book(console, told["book"], f"[bold]{escape(told['topic'])}[/], a month")
    made = output.table("ITEM", ">NOW", ">AFTER", ">DIFFERENCE")
    for row in (*told["items"], {"item": "[bold]total[/]", **told["total"]}):
        made.add_row(row["item"], *(cents(row[name]) for name in ("now", "after", "difference")))
    console.print(made)
    made = output.table("", ">NOW", ">AFTER")
    now, after = told["now"], told["after"]
    for name in dict.fromkeys([*now["remote_bytes"], *after["remote_bytes"]]):
        made.add_row(name, *(output.size(state["remote_bytes"].get(name, 0)) for state in (now, after)))
    for name, words in (("local_bytes", "local, all replicas"), ("object_bytes", "mean object")):
        made.add_row(words, *(output.size(state[name]) for state in (now, after)))
    for name, words in (("objects", "objects"), ("requests_per_day", "requests a day")):
        made.add_row(words, *(output.number(state[name]) for state in (now, after)))
    console.print()
    console.print(made)
    console.print()
    for row in told["break_even"]:
        reads = row["reads_per_month"]
        when = "never cheaper" if reads is None else f"cheaper below {reads:g} full reads a month"
        is_now = (
            "" if row["reads_per_month_now"] is None else f" [dim](now {row['reads_per_month_now']:g})[/]"
        )
        console.print(f"{row['class']}: {when} than standard{is_now}")
    for line in told["warnings"]:
        console.print(f"[yellow]{escape(line)}[/]")
    for line in told["assumptions"]:
        console.print(f"[dim]{escape(line)}[/]")


def draw_replay(console: Console, told: dict[str, Any]) -> None:
    from rich.markup import escape

    draw_book(console, told["book"], f"[bold]{escape(told['topic'])}[/]")
    made = output.table("FROM", ">BYTES", ">GETS", ">REQUESTS", ">RETRIEVAL", ">COST")
    for row in told["reads"]:
        made.add_row(
            row["class"],
            output.size(row["bytes"]),
            output.number(row["gets"]),
            *(cents(row[name]) for name in ("requests", "retrieval", "cost")),
        )
    made.add_row(
        "[bold]total[/]", output.size(told["bytes"]), output.number(told["gets"]), "", "", cents(told["cost"])
    )
    console.print(made)
    for line in told["assumptions"]:
        console.print(f"[dim]{escape(line)}[/]")
    if told["budget"]:
        verdict = "[red]crossed[/]" if told["budget"]["is_crossed"] else "[green]kept[/]"
        console.print(f"budget of {cents(told['budget']['amount'])}: {verdict}")


def draw_book(console: Console, book: dict[str, Any], what: str) -> None:
    from rich.markup import escape

    age = f", {book['age_days']} days old" if book["is_stale"] else ""
    console.print(
        f"{what}  [dim]prices of[/] {escape(book['name'])} [dim]as of[/] {book['as_of']}{age}[dim], "
        f"in {book['currency']}[/]\n"
    )


def draw_books(console: Console, rows: list[dict[str, Any]]) -> None:
    made = output.table("NAME", "AS OF", ">DAYS OLD", "CURRENCY", "SOURCE")
    for row in rows:
        made.add_row(row["name"], row["as_of"], str(row["age_days"]), row["currency"], row["source"])
    console.print(made)


def quantity(text: str) -> str:
    """A quantity as reports hold it, without the zeros behind it."""
    from decimal import Decimal

    shown = f"{Decimal(text):,}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown
