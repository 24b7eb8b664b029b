"""What the demo shows: two bars of progress, and where the log of each partition is while it moves."""

from __future__ import annotations

import threading
import time
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.flights import CARRIERS, Ledger
from demo.passes import Pass
from tierlog.admin.storage import get_json, total
from tierlog.cli.output import number, size, table, width_of
from tierlog.errors import UserError

POLL_S = 0.4
LINE_EVERY_S = 2.0
BAR_CELLS = 28
NARROW_BAR_CELLS = 12
HEADINGS = (">PARTITION", ">RECORDS", ">SEALED", ">UPLOADED", ">DELETED LOCALLY", ">LOCAL", ">REMOTE")
WIDE_HEADINGS = (">BOTH", "LOG")


class StorageWatch:
    """Asks the broker again and again where the bytes of ``topic`` are; ``rows`` is the last answer."""

    def __init__(self, http: str, topic: str) -> None:
        self._url = f"{http}/v1/topics/{topic}/storage"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)
        self.rows: list[dict[str, Any]] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def refresh(self) -> None:
        try:
            answer = get_json(self._url, 5.0)
        except UserError:
            return  # between two answers the last one stands; a broker that is gone ends the passes
        if answer is not None:
            self.rows = answer["partitions"]

    def _run(self) -> None:
        while not self._stopping.wait(POLL_S):
            self.refresh()

    @property
    def is_settled(self) -> bool:
        """Everything sealed is in the object store, and what may go of it is deleted locally."""
        return bool(self.rows) and all(
            row["remote"] is not None
            and row["remote"]["is_loaded"]
            and row["both"]["segments"] == row["local"]["segments"] - 1
            and row["both"]["segments"] <= 1
            for row in self.rows
        )


class Screen:
    """Live on a terminal; a line every two seconds elsewhere."""

    def __init__(self, console: Console, watch: StorageWatch, passes: dict[str, Pass]) -> None:
        self._console = console
        self._watch = watch
        self._passes = passes
        self.note = ""
        self._live = Live(get_renderable=lambda: self, console=console, refresh_per_second=5, transient=False)
        self._stopping = threading.Event()
        self._lines = threading.Thread(target=self._print_lines, name="progress", daemon=True)

    def __enter__(self) -> Screen:
        self._watch.start()
        if self._console.is_terminal:
            self._live.start()
        else:
            self._lines.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.stop()
        self._watch.refresh()
        self.note = ""
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._stopping.set()
            self._lines.join()
            self._print_line()

    # -- lines

    def _print_lines(self) -> None:
        while not self._stopping.wait(LINE_EVERY_S):
            self._print_line()

    def _print_line(self) -> None:
        sums = total(self._watch.rows)
        done = "  ".join(f"{name} {run.count:,}/{run.expected:,}" for name, run in self._passes.items())
        self._console.print(
            f"{done}  uploaded {sums['remote']['segments']} segments {size(sums['remote']['bytes'])}"
            f"  local {size(sums['local']['bytes'])}"
        )

    # -- live

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bars = Table.grid(padding=(0, 2), expand=False)
        for name, run in self._passes.items():
            bars.add_row(*_progress(name, run, BAR_CELLS if options.max_width >= 100 else NARROW_BAR_CELLS))
        yield Padding(bars, (0, 0, 1, 0))
        whole = storage_table(self._watch.rows, wide=True)
        fits = width_of(whole, console) <= options.max_width
        yield whole if fits else storage_table(self._watch.rows, wide=False)
        if self.note:
            yield Text(f"\n{self.note}", style="dim")


def _progress(name: str, run: Pass, cells: int) -> tuple[Any, ...]:
    rate, mb_s = run.rate()
    if run.ended_s:
        rest = f"[green]done in {run.elapsed_s:.1f} s[/]"
    elif run.count:
        rest = f"[dim]ETA[/] {max(run.expected - run.count, 0) / max(rate, 1):.0f} s"
    else:
        rest = ""
    return (
        f"[bold]{name}[/]",
        ProgressBar(total=run.expected, completed=run.count, width=cells),
        f"{run.count:>7,} / {run.expected:,}",
        f"{rate:>6,.0f} rec/s" if run.count else "",
        f"[bold]{mb_s:>5.1f} MB/s[/]" if run.count else "",
        rest,
    )


def storage_table(rows: list[dict[str, Any]], *, wide: bool) -> Group:
    """Sealed, uploaded, deleted locally: per partition and in sum, with a bar from the oldest record to the newest."""
    made = table(*HEADINGS, *(WIDE_HEADINGS if wide else ()))
    longest = max((_held_once(row) for row in rows), default=0)
    for row in rows:
        records = number(row["log_end_offset"] - row["log_start_offset"])
        more = (_both(row), _bar(row, longest)) if wide else ()
        made.add_row(str(row["partition"]), records, *_figures(row), *more)
    sums = total(rows)
    if rows:
        made.add_section()
        records = number(sum(row["log_end_offset"] - row["log_start_offset"] for row in rows))
        figures = [f"[bold]{text}[/]" for text in _figures({**sums, "active": len(rows)})]
        made.add_row("[bold]total[/]", f"[bold]{records}[/]", *figures, *((_both(sums), "") if wide else ()))
    legend = Text.from_markup(
        "[blue]█[/] object store only  [yellow]█[/] both  [green]█[/] local disk only   "
        "[dim]SEALED, UPLOADED, DELETED count segments[/]"
        if wide
        else "[dim]SEALED, UPLOADED, DELETED LOCALLY count segments[/]"
    )
    return Group(made, legend)


def _figures(row: dict[str, Any]) -> tuple[str, ...]:
    remote = row["remote"] or {"segments": 0, "bytes": 0}
    local, both = row["local"], row["both"]
    sealed = local["segments"] - row.get("active", 1) - both["segments"] + remote["segments"]
    return (
        str(sealed),
        f"[blue]{remote['segments']}[/]",
        str(remote["segments"] - both["segments"]),
        f"[green]{size(local['bytes'])}[/]",
        f"[blue]{size(remote['bytes'])}[/]",
    )


def _both(row: dict[str, Any]) -> str:
    return f"[yellow]{size(row['both']['bytes'])}[/]"


def _held_once(row: dict[str, Any]) -> int:
    remote_bytes = row["remote"]["bytes"] if row["remote"] else 0
    return int(row["local"]["bytes"] + remote_bytes - row["both"]["bytes"])


def _bar(row: dict[str, Any], longest: int) -> Text:
    remote_bytes = row["remote"]["bytes"] if row["remote"] else 0
    both_bytes = row["both"]["bytes"]
    drawn = Text()
    for value, colour in (
        (remote_bytes - both_bytes, "blue"),
        (both_bytes, "yellow"),
        (row["local"]["bytes"] - both_bytes, "green"),
    ):
        if value > 0 and longest:
            drawn.append("█" * max(1, round(BAR_CELLS * value / longest)), style=colour)
    return drawn


def check_table(written: Ledger, read: Ledger) -> Table:
    """Each carrier's count and digest, written and read."""
    made = table("CARRIER", "", ">WRITTEN", ">READ", "DIGEST OF BOTH", "")
    for key in sorted(written.counts.keys() | read.counts.keys()):
        is_same = is_whole(written, read, key)
        made.add_row(
            key.decode(errors="replace"),
            f"[dim]{CARRIERS.get(key.decode(errors='replace'), '')}[/]",
            f"{written.counts.get(key, 0):,}",
            f"{read.counts.get(key, 0):,}",
            f"[dim]{written.digest(key)}" + ("[/]" if is_same else f" ≠ {read.digest(key)}[/]"),
            "[green]✓[/]" if is_same else "[bold red]✗ differs[/]",
        )
    return made


def is_whole(written: Ledger, read: Ledger, key: bytes) -> bool:
    return written.counts.get(key) == read.counts.get(key) and written.digest(key) == read.digest(key)


def wait_until_settled(watch: StorageWatch, timeout_s: float) -> bool:
    """Whether the tier came to rest in time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        # Not by what was seen last: before the first seal everything looks settled.
        watch.refresh()
        if watch.is_settled:
            return True
        time.sleep(POLL_S / 2)
    return watch.is_settled
