"""kill -9 under idempotent load, aimed at each phase of the log and of the tier: ``python -m tests.chaos.kill9``.

Topics: ``tiered`` (small segments, little local retention), ``aged`` (the same with remote retention), ``local`` and
``compacted``. After each kill the broker is started again and looked at; after the last one every record is read back
from offset 0, through the tier where it is there. Ends with 1 and a list where anything was lost, doubled or moved.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.chaos.checks import Reader
from tests.chaos.load import Committer, Producer, Target, Violations
from tests.chaos.phases import PHASES, Phase
from tests.servers.parents import die_with_parent
from tests.servers.raw_client import RawClient
from tests.servers.tierlog import BrokerProcess

SEGMENT_BYTES = "65536"
OVERRIDES = {
    "offsets.topic.num.partitions": "2",
    "offsets.topic.segment.bytes": "1048576",
    "log.cleaner.backoff.ms": "200",
    "log.retention.check.interval.ms": "500",
    "log.segment.delete.delay.ms": "300",
    "replica.high.watermark.checkpoint.interval.ms": "500",
    "remote.log.manager.task.interval.ms": "500",
    "tierlog.remote.delete.grace.ms": "300",
    "tierlog.upload.concurrency": "4",
}
COMMON = {"internal_segment_bytes": SEGMENT_BYTES, "file_delete_delay_ms": "300"}
TIERED = {**COMMON, "remote_storage_enable": "true", "local_retention_bytes": "200000"}
TOPICS: dict[str, tuple[int, dict[str, str]]] = {
    "tiered": (3, {**TIERED, "retention_ms": "-1", "retention_bytes": "-1"}),
    "aged": (1, {**TIERED, "retention_bytes": "600000"}),
    "local": (1, {**COMMON, "retention_ms": "-1"}),
    "compacted": (
        2,
        {**COMMON, "cleanup_policy": "compact", "min_cleanable_dirty_ratio": "0.01", "segment_ms": "1000"},
    ),
}
AIM_TIMEOUT_S = 8.0
TIERED_WITHIN_S = 90.0


class Kill9:
    """One broker, its load and its deaths."""

    def __init__(self, directory: Path, seed: int, overrides: dict[str, str] | None = None) -> None:
        self.rng = Random(seed)
        self.violations = Violations()
        self.aimed: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.recovery_s: list[float] = []
        self.late_s: list[float] = []
        self.broker = BrokerProcess(directory, {**OVERRIDES, **(overrides or {})})
        self.broker.start()
        with RawClient(self.broker.port) as client:
            for name, (partitions, configs) in TOPICS.items():
                client.create_topic(name, partitions, **configs)
        self.producers = [
            Producer(self.broker.port, Target(name, n), self.violations, 0.01, 6)
            for name, (partitions, _) in TOPICS.items()
            for n in range(partitions)
        ]
        self.committer = Committer(self.broker.port, Target("tiered", 0), self.violations)
        for thread in (*self.producers, self.committer):
            thread.start()

    # -- one death

    def kill(self, phase: Phase) -> None:
        """Waits until the broker does what ``phase`` says, kills it at that, starts it again and looks."""
        broker = self.broker
        assert broker.process is not None
        command = [sys.executable, "-m", "tests.chaos.trigger", "--pid", str(broker.process.pid)]
        command += ["--timeout", str(AIM_TIMEOUT_S), *phase.arguments(broker, self.rng)]
        aim = subprocess.run(command, capture_output=True, text=True, preexec_fn=die_with_parent, check=False)
        name = phase.name
        if aim.returncode:
            assert broker.process.poll() is None, f"it ended by itself:\n{broker.log.read_text()[-3000:]}"
            name = f"({phase.name} not seen)"
        broker.kill()
        self.aimed[name] += 1
        if phase.left_behind(broker):
            self.cut[name] += 1
        committed, acked = self.committer.acked, {p.target: p.acked for p in self.producers}
        orphans = self._log_lines("deleting orphans")
        started_s = time.monotonic()
        broker.start()
        self.recovery_s.append(time.monotonic() - started_s)
        self._look(acked)
        self.committer.check(broker.port, committed)
        if phase.name == "commit" and self._log_lines("deleting orphans") > orphans:
            self.cut[name] += 1

    def _look(self, acked: dict[Target, int]) -> None:
        """Right after a restart: nothing acknowledged is missing at the end, and some of the rest is as it was."""
        with RawClient(self.broker.port) as client:
            for target, end in acked.items():
                reader = Reader(client, target, self.violations)
                if (found := reader.high_watermark()) < end:
                    self.violations.add(
                        f"{target}: {end} records acknowledged, {found} found after a restart"
                    )
                    continue
                if target.topic in ("aged", "compacted"):
                    reader.read(max(0, end - 10), end, compacted=target.topic == "compacted")
                    continue
                start = self.rng.randrange(max(1, end))
                reader.read(start, min(end, start + 60))
                reader.read(max(0, end - 30), end)

    def _log_lines(self, event: str) -> int:
        return self.broker.log.read_text().count(event)

    # -- the end

    def finish(self) -> int:
        """Stops the load, kills once more, reads everything; returns the number of records."""
        self._load_until_tiered()
        for thread in (*self.producers, self.committer):
            thread.stop()
        for producer in self.producers:
            producer.join(60)
            if producer.is_alive():
                self.violations.add(f"{producer.target}: stuck at {producer.acked} of {producer.sent}")
        self.committer.join(60)
        self.broker.kill()
        self.broker.start()
        self.committer.check(self.broker.port, self.committer.acked)
        self._read_everything()
        if code := self.broker.stop():
            self.violations.add(f"exit code {code} of the clean stop")
        self.broker.start()
        self._read_everything()
        self._check_logs()
        return sum(producer.acked for producer in self.producers)

    def _load_until_tiered(self) -> None:
        """Keeps the load up until each tiered partition has records only in the tier.

        The phases may all be caught so soon, or the machine be so busy, that there is less than the local retention.
        """
        waiting = [producer.target for producer in self.producers if producer.target.topic == "tiered"]
        deadline_s = time.monotonic() + TIERED_WITHIN_S
        with RawClient(self.broker.port, timeout_s=60) as client:
            while waiting and time.monotonic() < deadline_s:
                waiting = [t for t in waiting if client.offset(t.topic, -4, t.partition) == 0]
                time.sleep(0.1)

    def _read_everything(self) -> None:
        with RawClient(self.broker.port, timeout_s=60) as client:
            for producer in self.producers:
                target, end = producer.target, producer.acked
                reader = Reader(client, target, self.violations)
                if (found := reader.high_watermark()) != end:
                    self.violations.add(f"{target}: {end} records acknowledged, the log ends at {found}")
                if target.topic == "compacted":
                    reader.read_compacted(end)
                    continue
                earliest = client.offset(target.topic, -2, target.partition)
                if target.topic != "aged" and earliest != 0:
                    self.violations.add(f"{target}: begins at {earliest}")
                reader.read(earliest, end)
                local = client.offset(target.topic, -4, target.partition)
                if target.topic == "tiered" and not earliest < local:
                    self.violations.add(f"{target}: nothing of it is only in the tier")

    def _check_logs(self) -> None:
        metrics = self.broker.metrics()
        if metrics["tierlog_handler_bugs_total"]:
            self.violations.add("a handler failed")
        for sign in ('"level": "critical"', "AssertionError", "an assertion failed"):
            if sign in self.broker.log.read_text():
                self.violations.add(f"the log says {sign}")

    def close(self) -> None:
        for thread in (*self.producers, self.committer):
            thread.stop()
        self.broker.kill()

    def table(self) -> str:
        """Kills by phase, and in how many of them the phase was found cut in two on the disk."""
        rows = [f"{'phase':<24}{'kills':>6}{'cut':>6}"]
        rows += [f"{name:<24}{count:>6}{self.cut[name]:>6}" for name, count in sorted(self.aimed.items())]
        rows.append(f"{'all':<24}{self.aimed.total():>6}{self.cut.total():>6}")
        slowest = max(self.recovery_s, default=0.0)
        rows.append(
            f"restarts: median {sorted(self.recovery_s)[len(self.recovery_s) // 2]:.2f} s, longest {slowest:.2f} s"
        )
        rows.append(f"acknowledged records visible again after {max(self.late_s, default=0):.3f} s at most")
        return "\n".join(rows)


def run(
    directory: Path, kills: int, seed: int, phases: Sequence[Phase] = PHASES, report: bool = False
) -> tuple[Kill9, int]:
    """``kills`` deaths, the phases in turn; returns the world and the number of records checked."""
    world = Kill9(directory, seed)
    try:
        for number in range(kills):
            phase = phases[number % len(phases)]
            world.kill(phase)
            if report:
                acked = sum(producer.acked for producer in world.producers)
                sys.stderr.write(
                    f"{number + 1:>3} {phase.name:<14} up in {world.recovery_s[-1]:.2f} s, {acked} records"
                    f", {len(world.violations.found)} violations\n"
                )
        records = world.finish()
    finally:
        world.close()
    return world, records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="keep the broker's files there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierlog-kill9-") as directory:
        world, records = run(arguments.data or Path(directory), arguments.kills, arguments.seed, report=True)
    sys.stdout.write(world.table() + f"\n{records} acknowledged records read back twice\n")
    for violation in world.violations.found:
        sys.stdout.write(f"VIOLATION {violation}\n")
    return 1 if world.violations.found else 0


if __name__ == "__main__":
    sys.exit(main())
