"""``tierlog replay``: a range of topics into files, another topic, or lines of JSON."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from tierlog.cli.history.replay_options import (
    AnyBootstrap,
    BucketOption,
    ClientId,
    Columns,
    CommitGroup,
    DeadLetters,
    FileBytes,
    From,
    MaxCost,
    NoLedger,
    Ordered,
    Parallel,
    Partitions,
    ProgressForm,
    ProgressOption,
    Rate,
    RegistryOption,
    Resume,
    SinkOption,
    Speed,
    To,
    Topics,
    Uncommitted,
    ValueFormatOption,
    ValueSchema,
    WhereOption,
)
from tierlog.cli.memory import give_back
from tierlog.cli.options import DEFAULT_BOOTSTRAP, DryRun, Format, Output, Yes

if TYPE_CHECKING:
    from rich.console import Console

    from tierlog.replay.plan import Plan
    from tierlog.replay.resolve import Request
    from tierlog.replay.running.job import Job, Progress

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(|[kmg]i?)b?(?:/s)?", re.IGNORECASE)
_SPEED = re.compile(r"(\d+(?:\.\d+)?)x?")
TOLD_EVERY_S = 1.0


def replay(
    topics: Topics,
    start: From = "earliest",
    end: To = "end",
    partitions: Partitions = None,
    sink: SinkOption = "jsonl",
    columns: Columns = None,
    where: WhereOption = "",
    value_format: ValueFormatOption = None,
    registry: RegistryOption = None,
    value_schema: ValueSchema = None,
    dead_letters: DeadLetters = None,
    rate: Rate = None,
    speed: Speed = None,
    parallel: Parallel = 16,
    ordered: Ordered = True,
    file_bytes: FileBytes = None,
    resume: Resume = None,
    commit_group: CommitGroup = "",
    bootstrap: AnyBootstrap = None,
    bucket: BucketOption = None,
    uncommitted: Uncommitted = False,
    client_id: ClientId = "tierlog-replay",
    no_ledger: NoLedger = False,
    max_cost: MaxCost = None,
    progress: ProgressOption = ProgressForm.auto,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = Format.table,
) -> None:
    """Replay a range of topics, read straight from the bucket and resolved once.

    Ends by itself. Prints what it will read and what that costs first; moves no group's offsets without --commit-group.
    """
    give_back()
    from tierlog.replay.ledger import Caller
    from tierlog.replay.running.job import Job
    from tierlog.replay.values.formats import format_of

    job = Job(
        _request(topics, start, end, partitions),
        bootstrap if bootstrap or bucket else DEFAULT_BOOTSTRAP,
        bucket,
        sink,
        None if columns is None else tuple(name.strip() for name in columns.split(",")),
        where,
        rate_bytes=_bytes("--rate", rate),
        file_bytes=_bytes("--file-bytes", file_bytes),
        speed=_speed(speed),
        resume=resume,
        is_committed=not uncommitted,
        parallel=parallel,
        is_ordered=ordered,
        group=commit_group,
        caller=Caller(client_id, not (no_ledger or dry_run), _tell_of_ledger),
        is_dry=dry_run,
        values=format_of(value_format, registry, value_schema),
        dead_letters=dead_letters,
    )
    _run(job, max_cost, progress, yes, output)


def _tell_of_ledger(line: str) -> None:
    from tierlog.replay.ledger import on_stderr

    on_stderr(f"{line}; see --no-ledger")


def _request(topics: list[str], start: str, end: str, partitions: str | None) -> Request:
    """Raises UserError."""
    from tierlog.replay.bounds import bound_of
    from tierlog.replay.resolve import Request

    now_ms = time.time_ns() // 1_000_000
    bounds = bound_of(start, "--from", now_ms), bound_of(end, "--to", now_ms)
    return Request(tuple(dict.fromkeys(topics)), *bounds, _numbers(partitions))


def _run(job: Job, max_cost: float | None, form: ProgressForm, yes: bool, output: Format) -> None:
    import asyncio
    import sys

    from tierlog.cli.output import errors, show
    from tierlog.errors import UserError
    from tierlog.replay.running.run import run

    def agree(plan: Plan) -> bool:
        value = plan_value(plan, job)
        price = value["price_usd"]
        if max_cost is not None and price is not None and price > max_cost:
            raise UserError(
                f"the replay costs ${price:,.2f}, more than --max-cost {max_cost:,.2f}: narrow --from and --to"
            )
        if job.is_dry:
            show(value, output, lambda console: draw_plan(console, value))
            return False
        if form is not ProgressForm.json:
            draw_plan(errors(), value)
        if yes or not sys.stdin.isatty():
            return True
        return typer.confirm("Begin?", default=True, err=True)

    with _telling(form) as tell:
        done = asyncio.run(run(job, agree, tell))
    if done is not None:
        value = {"records": done.records, "written": done.written, "bytes": done.done_bytes, "sink": job.sink}
        value["dead_letters"] = done.dead
        _tell_dead(done, job)
        if output is Format.table or job.sink == "jsonl":
            errors().print(f"[green]Done[/]: {done.written:,} of {done.records:,} records into {job.sink}")
        else:
            show(value, output, lambda console: None)


def _tell_dead(done: Progress, job: Job) -> None:
    from tierlog.cli.output import errors

    if done.dead:
        kept = f"are in {job.dead_letters}" if job.dead_letters else "are kept with --dead-letters WHERE"
        errors().print(
            f"[yellow]{done.dead:,} records whose value cannot be decoded[/] {kept}; the first: ", end=""
        )
        errors().print(done.first_dead, markup=False)


def plan_value(plan: Plan, job: Job) -> dict[str, Any]:
    """What is printed before anything is read."""
    from tierlog.replay.plan import SegmentRead
    from tierlog.replay.price import price_of

    return {
        "partitions": [
            {
                "topic": part.topic,
                "partition": part.partition,
                "start_offset": part.start_offset,
                "end_offset": part.end_offset,
                "segments": sum(isinstance(read, SegmentRead) for read in part.reads),
                "remote_bytes": part.remote_bytes,
                "local_bytes": part.local_bytes,
                "gets": part.gets,
            }
            for part in plan.partitions
        ],
        "offsets": plan.offsets,
        "remote_bytes": plan.remote_bytes,
        "local_bytes": plan.local_bytes,
        "gets": plan.gets,
        "seconds": round(plan.seconds(job.parallel, 1, job.rate_bytes), 1),
        "price_usd": price_of(plan),
    }


def draw_plan(console: Console, value: dict[str, Any]) -> None:
    from tierlog.cli import output

    table = output.table(
        "topic",
        ">partition",
        ">from offset",
        ">to offset",
        ">segments",
        ">in the bucket",
        ">from brokers",
        ">GETs",
    )
    for row in value["partitions"]:
        table.add_row(
            row["topic"],
            str(row["partition"]),
            output.number(row["start_offset"]),
            output.number(row["end_offset"]),
            output.number(row["segments"]),
            output.size(row["remote_bytes"]),
            output.size(row["local_bytes"]),
            output.number(row["gets"]),
        )
    console.print(table)
    price = value["price_usd"]
    cost = "no list price for this store" if price is None else f"${price:,.2f} by list price"
    console.print(
        f"\n{output.number(value['offsets'])} offsets, {output.size(value['remote_bytes'])} from the bucket in "
        f"{output.number(value['gets'])} GETs, {output.size(value['local_bytes'])} from brokers; "
        f"about {value['seconds']:,.0f} s, {cost}"
    )


class _telling:
    """Progress on stderr, as asked for: a context that gives the function to call."""

    def __init__(self, form: ProgressForm) -> None:
        import sys

        is_bar = form is ProgressForm.bar or (form is ProgressForm.auto and sys.stderr.isatty())
        self._form = ProgressForm.bar if is_bar else form
        self._bar: Any = None
        self._task: Any = None
        self._begun_s = time.monotonic()
        self._told_s = 0.0

    def __enter__(self) -> Callable[[Progress], None]:
        if self._form is ProgressForm.bar:
            return self._draw
        return self._write if self._form is ProgressForm.json else lambda progress: None

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _draw(self, progress: Progress) -> None:
        from rich import progress as bars

        from tierlog.cli.output import errors

        if self._bar is None:
            parts = (
                *(bars.TextColumn("{task.description}"), bars.BarColumn(), bars.DownloadColumn()),
                *(bars.TransferSpeedColumn(), bars.TimeRemainingColumn()),
            )
            self._bar = bars.Progress(*parts, console=errors(), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("replay", total=progress.total_bytes)
        self._bar.update(
            self._task,
            completed=progress.done_bytes,
            description=f"{progress.records:,} records, {progress.behind}",
        )

    def _write(self, progress: Progress) -> None:
        import json
        import sys

        now_s = time.monotonic()
        is_end = progress.done_bytes >= progress.total_bytes
        if now_s - self._told_s < TOLD_EVERY_S and not is_end:
            return
        self._told_s = now_s
        rate = progress.done_bytes / max(now_s - self._begun_s, 0.001)
        left_s = max(progress.total_bytes - progress.done_bytes, 0) / rate if rate else None
        line = {
            "records": progress.records,
            "written": progress.written,
            "dead_letters": progress.dead,
            "done_bytes": progress.done_bytes,
            "total_bytes": progress.total_bytes,
            "bytes_per_second": round(rate),
            "seconds_left": None if left_s is None else round(left_s, 1),
            "behind": progress.behind,
        }
        sys.stderr.write(json.dumps(line) + "\n")


def _numbers(text: str | None) -> tuple[int, ...] | None:
    """``0,2-4``. Raises UserError."""
    from tierlog.errors import UserError

    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        if match is None:
            raise UserError(f"--partitions {text}: expected numbers and ranges, such as 0,2-4")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(dict.fromkeys(found))


def _bytes(option: str, text: str | None) -> int:
    """0 for none. Raises UserError."""
    from tierlog.errors import UserError

    match = None if text is None else _RATE.fullmatch(text.strip())
    if text is not None and (match is None or not float(match[1])):
        raise UserError(f"{option} {text}: expected a number of bytes, such as 200MB")
    return 0 if match is None else max(int(float(match[1]) * _UNITS[match[2].lower()]), 1)


def _speed(text: str | None) -> float:
    from tierlog.errors import UserError

    match = None if text is None else _SPEED.fullmatch(text.strip())
    if text is not None and (match is None or not float(match[1])):
        raise UserError(f"--speed {text}: expected how many times faster than it happened, such as 10x")
    return 0.0 if match is None else float(match[1])
