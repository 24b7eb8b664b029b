"""A report as one page that needs nothing else: tables and inline charts, readable in the dark too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from tiering.capacity.held import Disk
from tiering.cost.bill import Bill
from tiering.cost.division import SHARED
from tiering.cost.prices import GB
from tierlog.admin.cost.asked import Answer
from tierlog.admin.cost.charts import Line, lines_over_time, stacked_bars
from tierlog.admin.cost.watched import DAY_MS, Day

MOST_BARS = 20
MOST_TOPICS = 200
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .2rem .9rem .2rem 0; text-align: left; }
th { border-bottom: 1px solid #8888; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.legend span { margin-right: 1.2rem; white-space: nowrap; } .legend i { display: inline-block; width: .8rem;
height: .8rem; margin-right: .4rem; border-radius: 2px; } .note { opacity: .75; } .bad { color: #c0392b; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def html_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A heading that starts with ``>`` marks a column of numbers, as in the tables of the command line."""
    kinds = [' class="n"' if heading.startswith(">") else "" for heading in headings]

    def line(tag: str, cells: Sequence[Any]) -> str:
        made = (f"<{tag}{kind}>{escape(str(cell))}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(made)}</tr>"

    head = line("th", [heading.removeprefix(">") for heading in headings])
    return f"<table>{head}{''.join(line('td', row) for row in rows)}</table>"


def report_page(answer: Answer) -> str:
    """``cost report --format html``."""
    report, currency = answer.value, answer.value["book"]["currency"]
    bars = {row["name"]: _numbers(row["items"], row["shared"]) for row in report["parts"][:MOST_BARS]}
    totals = [
        ["total", *report["total"].values()],
        ["with no tier", *(report["without_tier"][name] for name in report["total"])],
    ]
    items = [
        [row["item"], row["of"], row["quantity"], row["unit"], row["cost"], row["per_month"], row["percent"]]
        for row in report["items"]
    ]
    requests = [
        [row["operation"], row["cause"], row["requests"], row["cost"], row["percent"]]
        for row in report["requests"]
    ]
    return page(
        f"Cost from {report['since']} until {report['until']}",
        [
            book_line(report["book"]),
            html_table(["", f">cost, {currency}", ">a day", ">a month"], totals),
            f"<h2>By {escape(report['by'])} and item</h2>",
            stacked_bars(bars, currency),
            *(f'<p class="note">{escape(line)}</p>' for line in report["method"]),
            "<h2>Requests and retrieval by topic and cause</h2>",
            stacked_bars(by_cause(answer.bill), currency),
            "<h2>Local and remote bytes</h2>",
            lines_over_time(held_lines(answer.watched.days), "GB"),
            "<h2>Items</h2>",
            html_table(["item", "of", ">quantity", "unit", ">cost", ">a month", ">%"], items),
            "<h2>Requests</h2>",
            html_table(["operation", "cause", ">requests", ">cost", ">% of requests"], requests),
        ],
    )


def book_line(book: dict[str, Any]) -> str:
    kind = "bad" if book["is_stale"] else "note"
    age = f", {book['age_days']} days old" if book["is_stale"] else ""
    return (
        f'<p class="{kind}">Prices of {escape(book["name"])} as of {book["as_of"]}{age}, in {book["currency"]}. '
        f"{escape(book['source'])}</p>"
    )


def _numbers(items: dict[str, str], shared: str) -> dict[str, float]:
    parts = {name: float(cost) for name, cost in items.items()}
    return parts | {"shared": float(shared)} if float(shared) else parts


def by_cause(bill: Bill) -> dict[str, dict[str, float]]:
    """What the object store was asked for: cost by topic and cause, the dearest topics first."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for charge in bill.charges:
        if charge.use.cause:
            sums[charge.use.topic or SHARED][charge.use.cause] += float(charge.cost)
    dearest = sorted(sums, key=lambda topic: -sum(sums[topic].values()))
    return {topic: dict(sums[topic]) for topic in dearest[:MOST_BARS]}


def held_lines(days: Mapping[int, Day]) -> list[Line]:
    """Mean GB of each day: on the disks of all replicas, and in the bucket."""
    ordered = sorted(days.items())
    return [
        Line("local, all replicas", [(at, day.local_byte_hours / day.hours / GB) for at, day in ordered]),
        Line("remote", [(at, day.remote_byte_hours / day.hours / GB) for at, day in ordered]),
    ]


def capacity_page(told: dict[str, Any], days: Mapping[int, Day], disks: Sequence[Disk]) -> str:
    """``capacity report --format html``. ``disks``: as they were, in the order of ``told``."""
    parts = ["<h2>Local and remote bytes</h2>", lines_over_time(held_lines(days), "GB")]
    for disk, was in zip(told["disks"], disks, strict=True):
        history = [(hour_ms / DAY_MS, used / GB) for hour_ms, used in was.series]
        last_day, last_gb = history[-1]
        ahead = [
            (last_day + each["days"], *(each[name] / GB for name in ("p10", "p50", "p90")))
            for each in disk["ahead"]
        ]
        lines = [
            Line("used", history),
            Line(
                "forecast",
                [(last_day, last_gb), *((day, middle) for day, _, middle, _ in ahead)],
                [(last_day, last_gb, last_gb), *((day, low, high) for day, low, _, high in ahead)],
            ),
        ]
        full = disk["days_to_full"]
        parts += [
            f"<h2>Broker {disk['broker']}, {escape(disk['log_dir'])}</h2>",
            f"<p>{disk['used_percent']} % used; full in {_or_never(full['p50'])}, or {_or_never(full['p90'])} "
            "if growth is faster than in nine of ten futures.</p>",
            lines_over_time(lines, "GB", disk["capacity_bytes"] / GB),
        ]
    names = ("local_bytes", "remote_bytes", "objects", "mean_object_bytes")
    ages = ("oldest_local", "oldest_remote", "headroom_days", "compression_ratio")
    topics = [
        [
            row["topic"],
            *(f"{row[name]:,}" for name in names),
            *("–" if row[name] is None else row[name] for name in ages),
        ]
        for row in told["topics"][:MOST_TOPICS]
    ]
    headings = (">local bytes", ">remote bytes", ">objects", ">mean object", "oldest local", "oldest remote",
                ">days that retention still keeps", ">compression")  # fmt: skip
    parts += ["<h2>Topics</h2>", html_table(["topic", *headings], topics)]
    return page("Capacity", parts)


def _or_never(days: float | None) -> str:
    return "more than two years" if days is None else f"{days:,.1f} days"
