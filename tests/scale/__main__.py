"""The cluster at size, against its bars: ``python -m tests.scale [--only PATTERN] [--quick]``.

Real broker processes on SQLite and, where this machine has it, on etcd. Ends with 1 when a bar does not hold.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.scale.failover import failover
from tests.scale.figures import Figure, show
from tests.scale.image import image
from tests.scale.rolling import rolling
from tests.servers.etcd import binary, etcd

Row = Callable[[str, Path], Iterator[Figure]]


def failover_row(partitions: int, replication_factor: int, store: str) -> Row:
    def run(row: str, directory: Path) -> Iterator[Figure]:
        with ExitStack() as stack:
            url = None
            if store == "etcd":
                (member,) = stack.enter_context(etcd(directory))
                url = f"etcd://{member.address}"
            yield from failover(
                row,
                directory,
                partitions=partitions,
                replication_factor=replication_factor,
                metadata_store=url,
            )

    return run


def rows(is_quick: bool) -> dict[str, Row]:
    led = 300 if is_quick else 3000
    found = {f"failover, {led} led, RF {rf}, sqlite": failover_row(led, rf, "sqlite") for rf in (2, 3)}
    found["rolling restart, 30 partitions, RF 3, sqlite"] = partial(rolling, partitions=30)
    if not is_quick:
        found["rolling restart, 600 partitions, RF 3, sqlite"] = partial(rolling, partitions=600)
    if binary() is not None:
        found[f"failover, {led} led, RF 3, etcd"] = failover_row(led, 3, "etcd")
        size = 5_000 if is_quick else 100_000
        found[f"{size:,} partitions in the image, etcd"] = partial(image, partitions=size)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="a regular expression that row names must contain")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--keep", action="store_true", help="keep the brokers' directories")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    wanted = {name: row for name, row in rows(asked.quick).items() if re.search(asked.only, name)}
    figures: list[Figure] = []
    for name, row in wanted.items():
        if asked.list:
            console.print(name, highlight=False)
            continue
        directory = Path(tempfile.mkdtemp(prefix="tierlog-scale-"))
        try:
            for figure in row(name, directory):
                figures.append(figure)
                console.print(f"{name} | {figure.name}: {figure.value:,.4g}", highlight=False)
        finally:
            if asked.keep:
                console.print(f"kept: {directory}", highlight=False)
            else:
                shutil.rmtree(directory, ignore_errors=True)
    if figures:
        show(console, figures)
    if not all(figure.holds for figure in figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
