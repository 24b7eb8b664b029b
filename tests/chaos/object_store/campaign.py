"""Faults one after the other, things that go on meanwhile, and what must hold at the end."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from tests.bucket_reader import Bucket
from tests.chaos.object_store.ledger import Ledger, Load, read_all
from tests.chaos.object_store.stores import Store
from tests.e2e.failures import check_log
from tests.e2e.tiered import HURRY, TIERED, alter, delete, delete_records, topic_id
from tests.patience import PATIENT_S
from tests.servers.fault_proxy import Mode
from tests.servers.several import Several
from tests.servers.tierlog import BrokerProcess

TOPIC, PARTITIONS, BROKERS = "kept", 3, 2
LADDER = "standard:2s,infrequent:forever"
SEGMENT_BYTES = 200_000
MOVES_FROM_BYTES = 128 << 10
"""Smaller objects stay where they are."""
WHILE = {
    "PUT": ("PUT",),
    "POST": ("POST",),
    "GET": ("GET",),
    "HEAD": ("HEAD",),
    "DELETE": ("DELETE",),
    "all": (),
}
"""To which methods a fault may be limited."""
MODES = [mode for mode in Mode if mode is not Mode.PASS]
FAULT_S, SLOW_S = (0.2, 1.0), 2.0
FAULTS_PER_EVENT = 6
SETTLE_S = 3 * PATIENT_S
"""Orphans wait for a sweep."""


class Campaign:
    """A cluster on a store that fails. A context manager."""

    def __init__(self, directory: Path, store: Store, seed: int) -> None:
        self._store = store
        self._rng = random.Random(seed)
        overrides = {name.replace(".", "_"): value for name, value in HURRY.items()}
        self._several = Several(directory, BROKERS, tierlog_object_store=store.url, **overrides)
        for broker in self._several.brokers.values():
            broker.env.update(store.env)
        self._ledger = Ledger(PARTITIONS)
        self.counts: Counter[str] = Counter()
        self._topics: list[str] = []
        self._gone: list[str] = []

    def __enter__(self) -> Campaign:
        self._several.__enter__()
        self._create(TOPIC)
        return self

    def __exit__(self, *exc: object) -> None:
        self._several.kill()

    @property
    def violations(self) -> list[str]:
        return self._ledger.violations

    @property
    def _bootstrap(self) -> str:
        return ",".join(broker.bootstrap for broker in self._several.brokers.values())

    @property
    def _broker(self) -> BrokerProcess:
        return self._several[1]

    def run(self, faults: int) -> None:
        """So many faults that were met by a request, under load, then peace, and the comparison."""
        with Load(self._bootstrap, TOPIC, self._ledger, self._rng.randrange(2**31)) as load:
            while self.counts["faults"] < faults:
                self._fault()
                self.counts["rounds"] += 1
                if self.counts["rounds"] % FAULTS_PER_EVENT == 0:
                    self._event(load)
                    say(f"{self.counts['faults']} of {faults} faults, {self._ledger.compared} records read")
            self._store.proxy.heal()
        self._compare()

    # -- what befalls the store

    def _fault(self) -> None:
        mode, methods = self._rng.choice(MODES), self._rng.choice(list(WHILE.values()))
        began_s = time.monotonic()
        self._store.proxy.fail(mode, *methods, delay_s=SLOW_S)
        time.sleep(self._rng.uniform(*FAULT_S))
        met = len(self._store.proxy.failed(began_s)) or mode is Mode.REFUSE
        self._store.proxy.heal()
        time.sleep(self._rng.uniform(0, 0.3))
        if met:
            self.counts["faults"] += 1
            self.counts[mode.name] += 1

    # -- what goes on meanwhile

    def _event(self, load: Load) -> None:
        events: list[Callable[[Load], None]] = [
            self._delete_records,
            self._change_leaders,
            self._change_ladder,
            self._change_topics,
        ]
        event = events[self.counts["events"] % len(events)]
        event(load)
        self.counts["events"] += 1

    def _delete_records(self, load: Load) -> None:
        partition = self._rng.randrange(PARTITIONS)
        end = max(self._ledger.rows[partition], default=0)
        load.lows[partition] = max(load.lows[partition], end // 2)
        delete_records(self._broker, TOPIC, load.lows[partition], partition)

    def _change_leaders(self, load: Load) -> None:
        """By a kill, every other time by a clean stop."""
        broker = self._several[self._rng.randint(1, BROKERS)]
        self.counts["leader changes"] += 1
        if self.counts["leader changes"] % 2:
            broker.kill()
        else:
            broker.stop()
        self._fault()
        broker.start()

    def _change_ladder(self, load: Load) -> None:
        alter(self._broker, TOPIC, tierlog_tiers=LADDER)

    def _change_topics(self, load: Load) -> None:
        """One that is tiered is deleted, another one comes."""
        if self._topics:
            name = self._topics.pop()
            self._gone.append(topic_id(self._broker, name))
            delete(self._broker, name)
        name = f"passing-{self.counts['events']}"
        self._create(name)
        ledger = Ledger(PARTITIONS)
        with Load(self._bootstrap, name, ledger, self._rng.randrange(2**31)):
            time.sleep(1)
        self._ledger.violations += ledger.violations
        self._topics.append(name)

    def _create(self, name: str) -> None:
        config = TIERED | {"internal.segment.bytes": str(SEGMENT_BYTES), "min.insync.replicas": "1"}
        client = AdminClient({"bootstrap.servers": self._bootstrap})
        topic = NewTopic(name, num_partitions=PARTITIONS, replication_factor=BROKERS, config=config)
        client.create_topics([topic])[name].result(PATIENT_S)

    # -- what must hold

    def _compare(self) -> None:
        alter(self._broker, TOPIC, tierlog_tiers=LADDER)
        read_all(self._bootstrap, TOPIC, self._ledger)
        which = [topic_id(self._broker, name) for name in (TOPIC, *self._topics)]
        began_s = time.monotonic()
        found = self._unsettled(which)
        while found and time.monotonic() - began_s < SETTLE_S:
            say(f"waits for {len(found)}: {found[0]}")
            time.sleep(2)
            found = self._unsettled(which)
        self.violations.extend(found)
        self.counts["seconds to settle"] = round(time.monotonic() - began_s)
        for broker in self._several.brokers.values():
            try:
                check_log(broker)
            except AssertionError as error:
                self.violations.append(f"a bug in {broker.log}: {str(error)[:5000]}")

    def _unsettled(self, which: list[str]) -> list[str]:
        """What is in the bucket and not named, or named and not there, or not where the ladder says. What a copy that was
        under way has left of a deleted topic goes by its second sweep, an hour later, and is counted."""
        classes, bucket = self._store.classes(), self._store.bucket()
        there = {name for name in classes if name.endswith(".seg")}
        named, found = set(), []
        for topic in which:
            for partition in range(PARTITIONS):
                with suppress(
                    KeyError
                ):  # Nothing of the partition was ever committed, or its copy was just replaced.
                    for name, is_to_move in _entries(bucket, topic, partition):
                        named.add(name)
                        if topic == which[0] and is_to_move and classes.get(name) != self._store.cold:
                            found.append(f"not in its class: {name}")
        found += [f"named and not there: {name}" for name in named - there]
        late = {name for name in there - named if any(f"/{topic}/" in name for topic in self._gone)}
        self.counts["late objects of deleted topics"] = len(late)
        found += [f"there and not named: {name}" for name in there - named - late]
        return found


def _entries(bucket: Bucket, topic: str, partition: int) -> list[tuple[str, bool]]:
    """The name of each live segment, and whether it is large enough to move. Raises KeyError for what is not there."""
    head = bucket.head(topic, partition)
    return [
        (bucket.segment_name(topic, partition, head, entry), entry.object_bytes >= MOVES_FROM_BYTES)
        for entry in bucket.entries(topic, partition, head)
    ]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
