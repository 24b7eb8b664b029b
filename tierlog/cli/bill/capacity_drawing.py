"""Capacity as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tierlog.cli import output
from tierlog.cli.output import size

if TYPE_CHECKING:
    from rich.console import Console

MOST_TOPICS = 40


def draw_capacity(console: Console, told: dict[str, Any]) -> None:
    made = output.table(
        *("BROKER", "LOG DIR", ">SIZE", ">LOCAL", ">OF IT ALSO REMOTE", ">OTHERS", ">USED"),
        *(f">TO {told['threshold_percent']:g} %", ">TO FULL", ">STORE AWAY"),
    )
    for row in told["disks"]:
        used = f"{row['used_percent']:.1f} %"
        made.add_row(
            str(row["broker"]),
            row["log_dir"],
            *(
                size(row[name])
                for name in ("capacity_bytes", "local_bytes", "duplicated_bytes", "others_bytes")
            ),
            f"[red]{used}[/]" if row["is_crossed"] else used,
            both(row["days_to_threshold"]),
            both(row["days_to_full"]),
            days(row["store_away_days"]),
        )
    console.print(made)
    console.print(
        "[dim]Days until then: in the middle of the possible futures, and if growth is faster than in nine of ten.\n"
        "Store away: how long the disk takes all that is written, if nothing can be copied to the bucket.[/]\n"
    )
    made = output.table("BROKER", "LOG DIR", ">OVER", ">A DAY", ">BAND FROM", ">TO", "IN 30 DAYS")
    for row in told["disks"]:
        in_month = next(each for each in row["ahead"] if each["days"] == 30)
        ahead = f"{size(in_month['p50'])} ({size(in_month['p10'])} … {size(in_month['p90'])})"
        if not row["slopes"]:
            made.add_row(str(row["broker"]), row["log_dir"], "[yellow]too short[/]", "", "", "", ahead)
        for slope in row["slopes"]:
            made.add_row(
                str(row["broker"]),
                row["log_dir"],
                f"{slope['days']} days",
                *(size(slope[name]) for name in ("per_day_bytes", "p10", "p90")),
                ahead,
            )
    console.print(made)
    _draw_topics(console, told["topics"])


def _draw_topics(console: Console, rows: list[dict[str, Any]]) -> None:
    from rich.markup import escape

    console.print()
    made = output.table(
        *("TOPIC", ">LOCAL, ALL REPLICAS", ">REMOTE", ">EACH BYTE ONCE", ">OBJECTS", ">MEAN OBJECT"),
        *(">WRITTEN A DAY", ">HOLDS", ">RETENTION", ">WILL GROW BY"),
    )
    for row in rows[:MOST_TOPICS]:
        made.add_row(
            escape(row["topic"]),
            *(size(row[name]) for name in ("local_bytes", "remote_bytes", "once_bytes")),
            output.number(row["objects"]),
            size(row["mean_object_bytes"]) if row["objects"] else "–",
            size(row["ingested_per_day_bytes"]),
            days(row["held_days"]),
            days(row["retention_days"]),
            size(row["grows_by_bytes"]),
        )
    console.print(made)
    _draw_seen(console, rows[:MOST_TOPICS])
    if len(rows) > MOST_TOPICS:
        console.print(f"[dim]and {len(rows) - MOST_TOPICS} more: --format json has them all[/]")


def _draw_seen(console: Console, rows: list[dict[str, Any]]) -> None:
    from rich.markup import escape

    seen = [row for row in rows if row["oldest_local"] or row["oldest_remote"] or row["compression_ratio"]]
    if not seen:
        return
    console.print()
    made = output.table(
        "TOPIC", "OLDEST LOCAL", "OLDEST REMOTE", ">RETENTION STILL KEEPS", ">COMPRESSION", ">SAMPLED"
    )
    for row in seen:
        ratio = row["compression_ratio"]
        made.add_row(
            escape(row["topic"]),
            *(row[name] or "–" for name in ("oldest_local", "oldest_remote")),
            days(row["headroom_days"]),
            "–" if ratio is None else f"{ratio:.2f} : 1",
            size(row["sampled_bytes"]) if row["sampled_bytes"] else "–",
        )
    console.print(made)
    console.print(
        "[dim]Times of the oldest batches on leaders' disks and in the bucket. Compression: of the batches sampled.[/]"
    )


def days(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} d"


def both(told: dict[str, float | None]) -> str:
    """``41.2 d, 30.9 d``; a dash where it is not within two years."""
    return "–" if told["p90"] is None else f"{days(told['p50'])}, {days(told['p90'])}"
