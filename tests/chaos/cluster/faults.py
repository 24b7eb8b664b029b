"""What can befall the cluster: each begins, lasts, and is healed, whatever else happens meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from threading import Event, Thread
from typing import Protocol

from tests.chaos.cluster.disks import Disk
from tests.chaos.cluster.network import CLIENT
from tests.chaos.cluster.schedule import Planned
from tests.chaos.cluster.store import Etcd
from tests.chaos.cluster.world import BROKERS, World, broker_host


class Fault(Protocol):
    """``begin`` and ``heal`` in this order, once each. ``note``: what was drawn, for the protocol of the run."""

    note: str

    def begin(self) -> None: ...

    def heal(self) -> None: ...


class Kill:
    """kill -9, and a start."""

    def __init__(self, world: World, planned: Planned) -> None:
        self.note = ""
        self._world, self._victim = world, planned.victim

    def begin(self) -> None:
        self._world.kill(self._victim)

    def heal(self) -> None:
        self._world.start(self._victim)


class Stop(Kill):
    """A clean stop, and a start. Whatever else is wrong, it ends in time."""

    def begin(self) -> None:
        code = self._world.brokers[self._victim].stop()
        self.note = f"exit code {code}" if code else ""


class Pause:
    """SIGSTOP: the broker goes on afterwards as if no time had passed."""

    def __init__(self, world: World, planned: Planned) -> None:
        self.note = ""
        self._world, self._victim = world, planned.victim

    def begin(self) -> None:
        self._world.pause(self._victim)

    def heal(self) -> None:
        self._world.resume(self._victim)


class Cut:
    """The broker and its peers, or everybody, do not hear each other."""

    def __init__(self, world: World, planned: Planned) -> None:
        self._network = world.network
        me = broker_host(planned.victim)
        peers = [broker_host(n) for n in BROKERS if n != planned.victim]
        reaches = {"peers": peers, "everybody": [*peers, *world.store.hosts, CLIENT]}
        self._pairs = self._choose(Random(planned.salt), me, reaches, list(world.store.hosts))

    def _choose(
        self, rng: Random, me: str, reaches: dict[str, list[str]], store: list[str]
    ) -> list[tuple[list[str], list[str]]]:
        self.note = f"from {rng.choice(sorted(reaches))}"
        others = reaches[self.note.removeprefix("from ")]
        return [([me], others), (others, [me])]

    def begin(self) -> None:
        for sources, targets in self._pairs:
            self._network.cut(sources, targets)

    def heal(self) -> None:
        for sources, targets in self._pairs:
            self._network.heal(sources, targets)


class OneWayCut(Cut):
    """One side does not hear the other, which hears it."""

    def _choose(
        self, rng: Random, me: str, reaches: dict[str, list[str]], store: list[str]
    ) -> list[tuple[list[str], list[str]]]:
        others = reaches[rng.choice(sorted(reaches))]
        if rng.random() < 0.5:
            self.note = "is not heard"
            return [([me], others)]
        self.note = "does not hear"
        return [(others, [me])]


class StoreCut(Cut):
    """The broker and the metadata store; its clients and peers still reach it."""

    def _choose(
        self, rng: Random, me: str, reaches: dict[str, list[str]], store: list[str]
    ) -> list[tuple[list[str], list[str]]]:
        self.note = rng.choice(("both ways", "towards the store"))
        back = [(store, [me])] if self.note == "both ways" else []
        return [([me], store), *back]


class LostAnswers(StoreCut):
    """What the broker asks of the store is done, and it never hears of it."""

    def _choose(
        self, rng: Random, me: str, reaches: dict[str, list[str]], store: list[str]
    ) -> list[tuple[list[str], list[str]]]:
        self.note = "answers are lost"
        return [(store, [me])]


class EtcdOutage:
    """No member answers; the connections stand."""

    def __init__(self, world: World, planned: Planned) -> None:
        assert isinstance(world.store, Etcd)
        self._store = world.store
        self.note = ""

    def begin(self) -> None:
        self._store.pause()

    def heal(self) -> None:
        self._store.resume()


class EtcdSlow(EtcdOutage):
    """It stands still again and again, each time for less than anybody gives up."""

    def begin(self) -> None:
        self._is_over = Event()
        self._slows = Thread(target=self._slow, daemon=True)
        self._slows.start()

    def heal(self) -> None:
        self._is_over.set()
        self._slows.join()
        self._store.resume()

    def _slow(self) -> None:
        while not self._is_over.is_set():
            self._store.pause()
            self._is_over.wait(0.6)
            self._store.resume()
            self._is_over.wait(0.15)


class LeaseLost:
    """The lease of a broker that lives is ended, twice where that hits its new one too."""

    def __init__(self, world: World, planned: Planned) -> None:
        self._world, self._victim = world, planned.victim
        self._is_twice = Random(planned.salt).random() < 0.5
        self.note = "twice" if self._is_twice else ""

    def begin(self) -> None:
        self._revoke()

    def heal(self) -> None:
        if self._is_twice:
            self._revoke()

    def _revoke(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.cluster.revoke"]
        done = subprocess.run(
            [*command, self._world.store.address, str(self._victim)],
            capture_output=True,
            text=True,
            check=False,
        )
        if (
            done.returncode
        ):  # of a broker that is dead, or a store that is away: another fault does not let it
            self.note = (self.note + " missed").strip()


class DiskFull:
    """Not a byte is free for as long as it lasts, whatever the broker frees."""

    def __init__(self, world: World, planned: Planned) -> None:
        disk = world.disks[planned.victim]
        assert isinstance(disk, Disk)
        self.note = ""
        self._disk, self._hold_s = disk, planned.hold_s

    def begin(self) -> None:
        self._disk.fill()

    def heal(self) -> None:
        self._disk.clear()


class PowerLoss:
    """The disk forgets what was not synced, the process dies, the file system is mounted anew."""

    def __init__(self, world: World, planned: Planned) -> None:
        disk = world.disks[planned.victim]
        assert isinstance(disk, Disk)
        self.note = ""
        self._world, self._victim, self._disk = world, planned.victim, disk

    def begin(self) -> None:
        # In this order nothing can be acknowledged of what the disk did not keep: its writes fail from here on.
        self._disk.lose_power()
        self._world.kill(self._victim)

    def heal(self) -> None:
        self._disk.mend()
        self._world.start(self._victim)


class PowerLossOfAll:
    """The whole room goes dark: only what ``flush.mode=ack`` had synced is promised to be there afterwards."""

    def __init__(self, world: World, planned: Planned) -> None:
        self.note = ""
        self._losses = [PowerLoss(world, replace(planned, victim=node_id)) for node_id in BROKERS]

    def begin(self) -> None:
        for loss in self._losses:
            loss.begin()

    def heal(self) -> None:
        # At once, as they would be: alone, none of them may lead.
        with ThreadPoolExecutor(len(self._losses)) as threads:
            for healed in [threads.submit(loss.heal) for loss in self._losses]:
                healed.result()


class EtcdLoss:
    """One member of the store dies and comes back."""

    def __init__(self, world: World, planned: Planned) -> None:
        assert isinstance(world.store, Etcd)
        self._world, self._store = world, world.store
        self._rng = Random(planned.salt)
        self.note = ""

    def begin(self) -> None:
        self._member = self._store.kill(self._rng)
        self.note = self._member.name

    def heal(self) -> None:
        self._world.by_keeper(self._member.start)
        self._member.await_health()


FAULTS: dict[str, Callable[[World, Planned], Fault]] = {
    "kill": Kill,
    "stop": Stop,
    "pause": Pause,
    "cut": Cut,
    "one-way cut": OneWayCut,
    "store cut": StoreCut,
    "disk full": DiskFull,
    "power": PowerLoss,
    "power of all": PowerLossOfAll,
    "etcd loss": EtcdLoss,
    "lost answers": LostAnswers,
    "etcd outage": EtcdOutage,
    "etcd slow": EtcdSlow,
    "lease lost": LeaseLost,
}


def possible(world: World) -> list[str]:
    """The kinds that this world can suffer."""
    needs = {
        "cut": world.network.can_cut,
        "one-way cut": world.network.can_cut,
        "store cut": world.network.can_cut and isinstance(world.store, Etcd),
        "disk full": world.shape.disks,
        "power": world.shape.disks,
        "power of all": world.shape.disks and set(world.shape.flush) == {"ack"},
        "lost answers": world.network.can_cut and isinstance(world.store, Etcd),
        **dict.fromkeys(
            ("etcd loss", "etcd outage", "etcd slow", "lease lost"), isinstance(world.store, Etcd)
        ),
    }
    return [kind for kind in FAULTS if needs.get(kind, True)]


def suffer(world: World, planned: Planned, began_round_s: float) -> tuple[Fault, float, float]:
    """Waits for its time, lets it last, heals it; returns when it began and when it was healed."""
    fault = FAULTS[planned.kind](world, planned)
    time.sleep(max(0.0, began_round_s + planned.at_s - time.monotonic()))
    began_s = time.monotonic()
    try:
        fault.begin()
        time.sleep(max(0.0, began_s + planned.hold_s - time.monotonic()))
    finally:
        fault.heal()
    return fault, began_s, time.monotonic()
