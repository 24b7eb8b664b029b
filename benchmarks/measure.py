"""One run of one client against one broker, as figures.

The client is a program of its own; its CPU comes from the kernel's account of an ended child. The broker's CPU is
the difference of its process tree over the whole run of the client, so that work that it puts off until the
client has gone is not counted: rows that care (uploads, compaction) measure it by themselves.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.sides import Side
from benchmarks.wire import Refused
from tests.servers.kafka import SERVER_FLAGS, java
from tests.servers.parents import die_with_parent

Figures = dict[str, float]
Sample = tuple[str, str, Figures]  # row, column, one run
CLIENT_BOUND_BELOW = 0.6  # cores of broker
_CLIENT_TIMEOUT_S = 1200.0
_SUMMARY = re.compile(
    r"(\d+) records sent, ([\d.]+) records/sec \([\d.]+ MB/sec\), [\d.]+ ms avg latency, [\d.]+ ms max latency, "
    r"(\d+) ms 50th, \d+ ms 95th, (\d+) ms 99th"
)


class ClientFailed(Exception):
    """A client program ended badly or said nothing that can be measured."""


@dataclass(frozen=True, slots=True)
class Client:
    """A command and how its output becomes figures."""

    command: Sequence[str]
    parse: Callable[[str], Figures]


def raw(program: str, side: Side, topic: str, **options: object) -> Client:
    """One of ``benchmarks.raw_*``: options become ``--name value``."""
    command = [sys.executable, "-m", f"benchmarks.{program}", "--bootstrap", side.bootstrap, "--topic", topic]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return Client(command, _last_json)


def librdkafka(
    work: str, side: Side, topic: str, properties: Mapping[str, str] | None = None, **options: object
) -> Client:
    command = [sys.executable, "-m", "benchmarks.librdkafka", work, "--bootstrap", side.bootstrap]
    command += ["--topic", topic]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    command += [f"--property={key}={value}" for key, value in (properties or {}).items()]
    return Client(command, _last_json)


def _last_json(out: str) -> Figures:
    figures = json.loads(out.splitlines()[-1])
    assert isinstance(figures, dict)
    return figures


def producer_perf(
    side: Side,
    topic: str,
    records: int,
    size: int,
    properties: Mapping[str, str] | None = None,
    records_per_s: int = -1,
) -> Client:
    """Kafka's own ProducerPerformance, with the properties that are asked for and its defaults; -1: as fast as it can."""
    command = [*java("tools", ("-Xmx512M", *SERVER_FLAGS)), "org.apache.kafka.tools.ProducerPerformance"]
    command += ["--bootstrap-server", side.bootstrap, "--topic", topic, "--num-records", str(records)]
    command += ["--record-size", str(size), "--throughput", str(records_per_s)]
    if properties:
        command += ["--command-property", *(f"{key}={value}" for key, value in properties.items())]

    def parse(out: str) -> Figures:
        summary = _SUMMARY.findall(out)
        if not summary or int(summary[-1][0]) != records:
            raise ClientFailed(f"ProducerPerformance: {out[-2000:]}")
        _, rate, p50, p99 = summary[-1]
        wall_s = records / float(rate)
        figures = {"records": records, "bytes": records * size, "wall_s": wall_s}
        return {**figures, "p50_ms": float(p50), "p99_ms": float(p99)}

    return Client(command, parse)


def consumer_perf(side: Side, topic: str, records: int, size: int) -> Client:
    """Kafka's own ConsumerPerformance with a fresh group; the time is what it spent fetching."""
    command = [*java("tools", ("-Xmx512M", *SERVER_FLAGS)), "org.apache.kafka.tools.ConsumerPerformance"]
    command += ["--bootstrap-server", side.bootstrap, "--topic", topic, "--num-records", str(records)]
    command += ["--timeout", "60000", "--hide-header"]

    def parse(out: str) -> Figures:
        rows = [line.split(", ") for line in out.splitlines() if re.match(r"\d{4}-\d\d-\d\d ", line)]
        if not rows or int(rows[-1][4]) < records:
            raise ClientFailed(f"ConsumerPerformance: {out[-2000:]}")
        read = int(rows[-1][4])
        return {"records": read, "bytes": read * size, "wall_s": int(rows[-1][7]) / 1000}

    return Client(command, parse)


def run_client(client: Client) -> tuple[Figures, float]:
    """(figures, client CPU seconds). Raises ClientFailed with the client's own words."""
    process = subprocess.Popen(
        client.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TIERLOG_PEER_LOG": "error"},
        preexec_fn=die_with_parent,
        text=True,
    )
    assert process.stdout is not None
    before = os.times()
    out = process.stdout.read()
    process.wait(_CLIENT_TIMEOUT_S)
    after = os.times()
    if process.returncode:
        raise ClientFailed(f"{' '.join(client.command[-12:])}: exit code {process.returncode}\n{out[-3000:]}")
    used_s = after.children_user - before.children_user + after.children_system - before.children_system
    return client.parse(out), used_s


def measure(side: Side, client: Client) -> Figures:
    """Everything about one run; see ``rates`` for what is derived."""
    tree = side.tree
    tree.forget_peak()
    before_s = tree.cpu_s()
    figures, client_cpu_s = run_client(client)
    figures["broker_cpu_s"] = tree.cpu_s() - before_s
    figures["client_cpu_s"] = client_cpu_s
    figures["peak_rss_mib"] = tree.memory().peak_mib
    return rates(figures)


def guarded(row: str, samples: Iterator[Sample], failures: list[str]) -> Iterator[Sample]:
    """What comes of ``samples``; a row that fails is noted and does not take the others with it."""
    try:
        yield from samples
    except (ClientFailed, Refused, OSError, RuntimeError) as error:
        failures.append(f"{row}: {error}")


def rates(figures: Figures) -> Figures:
    """Adds throughput and costs per unit: 1 GB is 1e9 bytes of record values."""
    wall_s = max(figures["wall_s"], 1e-9)
    figures["records_per_s"] = figures["records"] / wall_s
    figures["mb_per_s"] = figures["bytes"] / 1e6 / wall_s
    figures["broker_cpu_s_per_gb"] = figures["broker_cpu_s"] / (figures["bytes"] / 1e9)
    if "requests" in figures:
        figures["broker_cpu_s_per_million_requests"] = figures["broker_cpu_s"] / (figures["requests"] / 1e6)
    figures["broker_cores"] = figures["broker_cpu_s"] / wall_s
    figures["client_bound"] = float(figures["broker_cores"] < CLIENT_BOUND_BELOW)
    return figures


def median(samples: Sequence[Figures]) -> Figures:
    """Median of each figure over the runs that have it."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    return {name: statistics.median(sample[name] for sample in samples if name in sample) for name in names}
