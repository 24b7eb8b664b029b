"""``python -m tests.chaos.cluster``: faults under load, as many as asked for; ends with 1 where anything is amiss, or
where fewer than a fifth of the faults befell an etcd that could have suffered them.

Needs root for namespaces and disks of its own; without, processes die, stop and pause on the loopback.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.cluster import network
from tests.chaos.cluster.campaign import Campaign
from tests.chaos.cluster.faults import possible
from tests.chaos.cluster.schedule import lacking, plan
from tests.chaos.cluster.world import BROKERS, Shape
from tests.servers import etcd, kafka


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lease-ms", type=int, default=9000)
    parser.add_argument("--minutes", type=float, default=120, help="begin no further round after so long")
    parser.add_argument("--kinds", help="only these, with commas between")
    parser.add_argument("--flush", default="os,ack", help="a topic of each of these flush modes")
    parser.add_argument("--loopback", action="store_true", help="no namespaces, no disks, SQLite")
    parser.add_argument("--rolling", type=int, default=1, help="rolling restarts at the end")
    parser.add_argument("--data", type=Path, help="keep everything there")
    arguments = parser.parse_args()
    isolated = not arguments.loopback and network.namespaces_work()
    if isolated:
        network.enter()
    shape = Shape(
        lease_ms=arguments.lease_ms,
        flush=tuple(arguments.flush.split(",")),
        namespaces=isolated,
        disks=isolated,
        etcd=etcd.binary() is not None and not arguments.loopback,
        java=kafka.absent() is None,
    )
    with tempfile.TemporaryDirectory(prefix="tierlog-chaos-") as directory:
        return run(arguments.data or Path(directory), shape, arguments)


def run(directory: Path, shape: Shape, arguments: argparse.Namespace) -> int:
    until_s = time.monotonic() + 60 * arguments.minutes
    with Campaign(directory, shape, report=True) as campaign:
        kinds = arguments.kinds.split(",") if arguments.kinds else possible(campaign.world)
        campaign.say(f"seed {arguments.seed}, {shape}, {', '.join(kinds)}")
        rounds = plan(arguments.seed, kinds, arguments.faults, shape.lease_s, BROKERS)
        came_together = all(
            campaign.round(number, each)
            for number, each in enumerate(rounds, 1)
            if time.monotonic() < until_s
        )
        if came_together:
            for _ in range(arguments.rolling):
                campaign.roll()
        campaign.finish()
    sys.stdout.write(campaign.summary() + "\n")
    lack = lacking(campaign.measures.counts, kinds)
    if lack is not None:
        sys.stdout.write(lack + "\n")
    for violation in campaign.violations:
        sys.stdout.write(f"VIOLATION {violation}\n")
    sys.stdout.write(f"{len(campaign.violations)} violations\n")
    return 1 if campaign.violations or lack is not None else 0


if __name__ == "__main__":
    sys.exit(main())
