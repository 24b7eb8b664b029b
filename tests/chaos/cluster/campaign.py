"""One run: the load, the rounds of faults, a rolling restart, the reading of everything, the verdict."""

from __future__ import annotations

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.cluster.checker import Anomaly, check, sent_again
from tests.chaos.cluster.consume import Watcher, read_all, read_batches
from tests.chaos.cluster.faults import suffer
from tests.chaos.cluster.history import History, Outcome, Place
from tests.chaos.cluster.load import AiokafkaLoad, ConfluentLoad, JavaLoad, Load
from tests.chaos.cluster.measures import (
    KILL_MARGIN_S,
    ROLLING_BAR_S,
    STOP_BAR_S,
    Latency,
    Measures,
    latency,
    longest_silence_s,
    writable_again_s,
)
from tests.chaos.cluster.schedule import OF_STORE, Round, overlapping
from tests.chaos.cluster.world import BROKERS, CONVERGE_S, NotConverged, Shape, World, await_true

RATE = 60.0


class Campaign:
    """``violations``: what must not have been, in words. A context manager that ends everything."""

    def __init__(self, directory: Path, shape: Shape, *, report: bool = False) -> None:
        self.shape = shape
        self.history = History()
        self.measures = Measures()
        self.violations: list[str] = []
        self.rolling: Latency | None = None
        self._stalled: set[str] = set()
        self._report = report
        self._began_s = time.monotonic()
        self.world = World(directory, shape)
        places, bootstrap = shape.places, self.world.bootstrap
        self.loads: list[Load] = [
            ConfluentLoad(
                "confluent-1", bootstrap, places, self.history, RATE, directory / "confluent-1.log"
            ),
            ConfluentLoad(
                "confluent-2", bootstrap, places[::-1], self.history, RATE, directory / "confluent-2.log"
            ),
            AiokafkaLoad("aiokafka", bootstrap, places, self.history, RATE / 2),
        ]
        if shape.java:
            self.loads.append(
                JavaLoad("java", bootstrap, places[::-1], self.history, RATE / 2, directory / "java.log")
            )
        self.watchers = [
            Watcher("assigned", bootstrap, places, self.history, group=False),
            Watcher("grouped", bootstrap, places, self.history, group=True),
        ]
        for thread in (*self.loads, *self.watchers):
            thread.start()

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *exc: object) -> None:
        self.world.close()

    def say(self, line: str) -> None:
        if self._report:
            sys.stderr.write(f"{time.monotonic() - self._began_s:7.1f} s  {line}\n")

    def _violation(self, what: str) -> None:
        self.violations.append(what)
        self.say(f"VIOLATION {what}")

    # -- rounds

    def await_written(self, since_s: float, timeout_s: float = CONVERGE_S) -> float:
        """Until every partition has taken a record that was sent after ``since_s``; the longest any of them took."""
        places = self.shape.places

        def times() -> dict[object, float]:
            return dict(writable_again_s(self.history.snapshot()[-20_000:], places, since_s))

        def missing() -> str:
            return f"not written: {', '.join(str(place) for place in places if place not in times())}"

        await_true(lambda: len(times()) == len(places), missing, timeout_s)
        return max(times().values())

    def note_stalled(self, since_s: float, timeout_s: float = CONVERGE_S) -> None:
        """A client that brings nothing home where the others do is stuck, whoever is at fault; it is named once."""
        loads = [load.name for load in self.loads if load.name not in self._stalled]
        due = {(name, place) for name in loads for place in self.shape.places}

        def missing() -> set[tuple[str, Place]]:
            sends = self.history.snapshot()[-20_000:]
            return due - {
                (send.record.producer, send.place)
                for send in sends
                if send.began_s >= since_s and send.outcome is Outcome.ACKNOWLEDGED
            }

        try:
            await_true(lambda: not missing(), "a client is stuck", timeout_s)
        except NotConverged:
            stuck = sorted(f"{name} on {place}" for name, place in missing())
            self._stalled |= {name for name, _ in missing()}
            self._violation(f"{timeout_s:.0f} s after all was healed still stuck: {', '.join(stuck)}")

    def round(self, number: int, each: Round) -> bool:
        """Whether the cluster came together again."""
        self.say(f"round {number}: " + "; ".join(map(str, each)))
        began_s = time.monotonic()
        with ThreadPoolExecutor(len(each)) as threads:
            running = [threads.submit(suffer, self.world, planned, began_s) for planned in each]
        for planned in each:
            self.measures.counts[planned.kind] += 1
            self.measures.overlapped[planned.kind] += overlapping(each) > 0
        try:
            done = [future.result() for future in running]
            healed_s = max(healed for _, _, healed in done)
            for node_id in BROKERS:
                self.world.await_ready(node_id)
            whole_s = time.monotonic() + self.world.await_whole() - healed_s
            self.await_written(healed_s)
            self.note_stalled(healed_s)
        except (NotConverged, RuntimeError, OSError) as error:
            self._violation(f"round {number} ({'; '.join(map(str, each))}): {error}")
            return False
        self.measures.whole_s.append(whole_s)
        sends, since_s = self.history.snapshot(), min(began_s for _, began_s, _ in done)
        silence_s = longest_silence_s(sends[-20_000:], self.shape.places, since_s, time.monotonic())
        notes = ", ".join(fault.note for fault, *_ in done if fault.note) or "-"
        self.say(f"  {notes}: longest silence {silence_s:.2f} s, whole {whole_s:.1f} s after the healing")
        if len(each) == 1:
            self._judge(number, each[0].kind, silence_s)
        return True

    def _judge(self, number: int, kind: str, silence_s: float) -> None:
        self.measures.alone[kind].append(silence_s)
        bars = {"kill": self.shape.lease_s + KILL_MARGIN_S, "stop": STOP_BAR_S}
        if silence_s > bars.get(kind, float("inf")):
            self._violation(f"round {number}: {kind}: silent for {silence_s:.2f} s, bar {bars[kind]} s")

    def roll(self) -> None:
        """Every broker is stopped and started, one after the other, each once the cluster is whole."""
        try:
            self._roll()
        except NotConverged as error:
            self._violation(f"rolling restart: {error}")

    def _roll(self) -> None:
        since_s = time.monotonic()
        for node_id in BROKERS:
            self.say(f"rolling restart: broker {node_id}")
            if code := self.world.brokers[node_id].stop():
                self._violation(f"exit code {code} of broker {node_id}'s clean stop")
            self.world.start(node_id)
            self.world.await_whole()
        until_s = time.monotonic()
        self.await_written(until_s)
        await_true(lambda: not self._under_way(until_s), "some records have no answer", CONVERGE_S)
        self.rolling = latency(self.history.snapshot(), since_s, until_s)
        if self.rolling.failed or self.rolling.p999_s > ROLLING_BAR_S:
            self._violation(f"rolling restart: {self.rolling}")

    def _under_way(self, until_s: float) -> bool:
        sends = self.history.snapshot()[-20_000:]
        return any(
            send.began_s < until_s and not send.ended_s and send.record.producer not in self._stalled
            for send in sends
        )

    # -- the end

    def finish(self) -> list[Anomaly]:
        """Ends the load, reads everything back, and checks."""
        for load in self.loads:
            load.stop()
        until_s = time.monotonic() + 5
        await_true(lambda: self._watched_all() or time.monotonic() > until_s, "watchers", 10)
        for watcher in self.watchers:
            watcher.stop()
            self.violations += [f"{watcher.name}: {error}" for error in watcher.errors]
        self.history.final = read_all(self.world.bootstrap, self.shape.places)
        ends = {place: rows[-1][0] + 1 for place, rows in self.history.final.items() if rows}
        self.history.batches = read_batches(self.world.bootstrap, ends)
        anomalies = check(self.history)
        for anomaly in anomalies[:50]:
            self._violation(str(anomaly))
        try:
            await_true(self._are_alike, lambda: f"replicas differ: {self.world.differing()}", 15)
        except NotConverged as error:
            self._violation(str(error))
        for bug in self.world.bugs():
            self._violation(bug)
        return anomalies

    def _are_alike(self) -> bool:
        return not self.world.differing()

    def _watched_all(self) -> bool:
        sent = len(self.history.sends)
        return all(sum(p.consumer == w.name for p in self.history.polls) >= sent for w in self.watchers)

    def summary(self) -> str:
        outcomes = {send.outcome: 0 for send in self.history.sends}
        for send in self.history.sends:
            outcomes[send.outcome] += 1
        told = ", ".join(f"{count} {outcome.value}" for outcome, count in outcomes.items())
        read = sum(map(len, self.history.final.values()))
        rows = [self.measures.table()]
        of_store = sum(self.measures.counts[kind] for kind in OF_STORE)
        rows.append(f"{of_store} of {sum(self.measures.counts.values())} faults befell the metadata store")
        if self.rolling is not None:
            rows.append(f"rolling restart of three brokers: {self.rolling}")
        rows.append(f"{len(self.history.sends)} records sent: {told}")
        by_client = Counter(send.record.producer for send in self.history.sends)
        rows.append("by " + ", ".join(f"{name}: {count}" for name, count in sorted(by_client.items())))
        rows.append(f"{read} records read at the end, {len(self.history.polls)} read meanwhile")
        for name, count in sorted(sent_again(self.history).items()):
            rows.append(f"{name}: {count} records sent again by its client under a newer epoch")
        for load in self.loads:
            rows += [f"{load.name}: {count} times {why}" for why, count in load.errors.most_common(5)]
        return "\n".join(rows)
