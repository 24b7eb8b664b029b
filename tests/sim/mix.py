"""What a seed is made of (swarm testing): cluster shape, weights of the actions, which faults exist at all."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate

PROGRESS = {
    "net": 60.0,
    "fetch": 20.0,
    "feed": 14.0,
    "store": 12.0,
    "produce": 8.0,
    "control": 6.0,
    "isr": 5.0,
    "serve": 5.0,
    "time": 4.0,
    "restart": 4.0,
    "sync": 2.0,
    "consume": 1.0,
    "heal": 2.0,
    "checkpoint": 0.5,
}
FAULTS = {
    "expire": 0.4,
    "crash": 0.25,
    "power": 0.25,
    "stop": 0.1,
    "pause": 0.15,
    "cut": 0.15,
    "clock": 0.1,
    "min_isr": 0.1,
    "compact": 0.1,
    "give_up": 1.0,
    "break": 1.5,
}


@dataclass
class Mix:
    """``flush_acks``: every topic has ``flush.mode=ack``, and power losses are not limited. ``counts_boots``: after one a
    broker cannot vouch for its data, though all that counted is there. ``loses_all``: power losses are not limited
    although they lose data. ``is_unclean``: ``unclean.leader.election.enable``. ``changes_mode``: ``flush.mode`` is now
    this, now that, and a power loss may take what was synced as well, which the start finds out. ``session_trouble``: how
    often a keepalive, a grant or a look of a session takes its time. ``control_pause``: healthy rounds between two of the
    controller's; seven take as long as a lease lives."""

    broker_count: int
    partition_count: int
    replica_count: int
    min_isr: int
    flush_acks: bool
    weights: dict[str, float]
    reorder: float
    in_order: bool
    drop: float
    duplicate: float
    store_loss: float
    lag_time_max_ms: int
    max_in_flight: int
    is_tiered: bool = False
    counts_boots: bool = False
    loses_all: bool = False
    is_unclean: bool = False
    changes_mode: bool = False
    session_trouble: float = 0.0
    control_pause: int = 0

    @property
    def begins_synced(self) -> bool:
        """With ``flush.mode=ack``."""
        return self.flush_acks or self.changes_mode

    @property
    def may_lose(self) -> bool:
        """An election without proof may lose what was committed: it alone, and only where it says so."""
        return self.is_unclean or (self.loses_all and not self.flush_acks)

    def __post_init__(self) -> None:
        self.count_weights()

    def count_weights(self) -> None:
        self.actions = tuple(self.weights)
        self.cum_weights = list(accumulate(self.weights.values()))


def draw(rng: random.Random) -> Mix:
    brokers = rng.choice((3, 3, 3, 4, 5))
    weights = {name: weight * rng.choice((0.4, 1, 1, 2)) for name, weight in PROGRESS.items()}
    weights["feed"] *= rng.choice((0.1, 0.3, 1, 1))  # how long brokers go on with old metadata
    for name, weight in FAULTS.items():
        weights[name] = 0.0 if rng.random() < 0.3 else weight * rng.choice((0.3, 1, 1, 3))
    flush_acks = rng.random() < 0.3
    weights["sync"] *= 5 if flush_acks else 1
    is_tiered = rng.random() < 0.5
    for name, weight in (("tier", 8.0), ("delete_local", 1.0), ("delete_records", 0.2)):
        weights[name] = weight * rng.choice((0.4, 1, 2)) if is_tiered else 0.0
    # The coordinator's topic is never tiered.
    weights["group"] = 0.0 if is_tiered else rng.choice((0.0, 3.0, 8.0))
    replicas = 3 if brokers < 5 else rng.choice((3, 3, 5))
    # Drawn beside the other numbers, which were there before partitions could move.
    beside = random.Random(rng.getstate()[1][0])
    weights["move"] = 1.5 if brokers > replicas and beside.random() < 0.5 else 0.0
    mix = Mix(
        broker_count=brokers,
        partition_count=rng.choice((1, 1, 2)),
        replica_count=replicas,
        min_isr=2,
        flush_acks=flush_acks,
        weights=weights,
        reorder=rng.choice((0, 0.5, 0.9)),
        in_order=rng.random() < 0.4,
        drop=rng.choice((0, 0, 0.02, 0.15)),
        duplicate=rng.choice((0, 0.03, 0.1)),
        store_loss=rng.choice((0, 0.03, 0.1)),
        lag_time_max_ms=rng.choice((0, 100, 400)),
        is_tiered=is_tiered,
        max_in_flight=rng.choice((1, 5, 5)),
    )
    _draw_losses(mix, beside)
    _draw_store_trouble(mix, beside)
    return mix


def _draw_store_trouble(mix: Mix, rng: random.Random) -> None:
    if rng.random() < 0.5:
        return
    mix.session_trouble = rng.choice((0, 0.2, 0.6))
    mix.weights["outage"] = rng.choice((0.0, 0.3, 1.0))
    mix.weights["cordon"] = rng.choice((0.0, 1.0))
    if rng.random() < 0.2:
        mix.control_pause = 10
        mix.weights["control"] *= 0.2
    mix.count_weights()


def _draw_losses(mix: Mix, rng: random.Random) -> None:
    """What an election may have to do without, and leaders that change without a fault."""
    weights = mix.weights
    weights["elect"] = rng.choice((0.0, 1.0, 3.0, 5.0))
    weights["members"] = rng.choice((0.0, 30.0)) if weights["group"] else 0.0
    weights["retire"] = rng.choice((0.0, 0.0, 0.0, 0.6))
    if mix.flush_acks:
        mix.counts_boots = rng.random() < 0.5
        _may_lose_all(mix, mix.counts_boots)
    elif rng.random() < 0.3:
        mix.loses_all = True
        mix.is_unclean = rng.random() < 0.5
        weights["group"] = weights["members"] = 0.0
        _may_lose_all(mix, True)
        mix.changes_mode = rng.random() < 0.5
        if mix.changes_mode:
            weights["mode"] = rng.choice((0.5, 2.0))
            weights["sync"] *= rng.choice((1, 3))
            weights["note"] = 8.0
            weights["power_cut"] = 1.5
    mix.count_weights()


def _may_lose_all(mix: Mix, is_so: bool) -> None:
    mix.weights["power_cut"] = 0.5 if is_so else 0.0
    mix.weights["report"] = 4.0 if is_so else 0.0
    mix.weights["note"] = 4.0 if is_so else 0.0
