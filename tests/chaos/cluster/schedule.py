"""Which fault befalls whom, when and for how long: from a seed alone, so that a run can be had again.

A schedule is rounds. In most rounds one thing fails; in others a second or third begins while the first lasts. After each
round all is healed and the cluster must come together. Kinds come by turns, in a new order each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

# Of these a broker can have one at a time; the others need no broker or may be laid over them.
OF_PROCESS = {"kill", "stop", "pause", "power", "disk full"}
CUTS = {"cut", "one-way cut", "store cut", "lost answers"}
# Of the metadata store.
OF_STORE = ("store cut", "etcd loss", "lost answers", "etcd outage", "etcd slow", "lease lost")
# Each is all that may befall its members at a time.
OF_MEMBERS = {"etcd loss", "etcd outage", "etcd slow"}
KINDS = ("kill", "stop", "pause", "cut", "one-way cut", "disk full", "power", *OF_STORE)
# Nothing else is left to fail beside it.
OF_ALL = {"power of all"}
STORE_SHARE_MIN = 0.2
OVERLAPPING_ROUNDS = 0.3
LEAST_OVERLAP_S = 0.3


@dataclass(frozen=True, slots=True)
class Planned:
    """``at_s``: after the begin of its round; ``salt``: for what the fault itself decides."""

    kind: str
    victim: int
    at_s: float
    hold_s: float
    salt: int

    @property
    def until_s(self) -> float:
        return self.at_s + self.hold_s

    def __str__(self) -> str:
        return f"{self.kind} of {self.victim} at {self.at_s:.1f} s for {self.hold_s:.1f} s"


Round = tuple[Planned, ...]


def plan(seed: int, kinds: Sequence[str], faults: int, lease_s: float, brokers: Sequence[int]) -> list[Round]:
    """``faults`` of them or one more."""
    rng = Random(seed)
    deck: list[str] = []
    rounds: list[Round] = []
    while sum(map(len, rounds)) < faults:
        size = rng.choice((2, 2, 3)) if rng.random() < OVERLAPPING_ROUNDS else 1
        rounds.append(_round(rng, deck, kinds, size, lease_s, brokers))
    return rounds


def _round(
    rng: Random, deck: list[str], kinds: Sequence[str], size: int, lease_s: float, brokers: Sequence[int]
) -> Round:
    free = list(brokers)
    found: list[Planned] = []
    for _ in range(size):
        if not deck:
            deck.extend(rng.sample(kinds, len(kinds)))
        kind = next((k for k in deck if _fits(k, found)), None)
        if kind is None:
            break
        deck.remove(kind)
        victim = rng.choice(free if kind in OF_PROCESS else list(brokers))
        if kind in OF_PROCESS:
            free.remove(victim)
        # Each begins while the one before it lasts.
        at_s = 0.0
        if found:
            at_s = rng.uniform(found[-1].at_s, max(found[-1].at_s, found[-1].until_s - LEAST_OVERLAP_S))
        found.append(Planned(kind, victim, at_s, hold_s(rng, kind, lease_s), rng.randrange(1 << 30)))
    return tuple(found)


def _fits(kind: str, beside: Sequence[Planned]) -> bool:
    """One power loss and one store member at a time: more than that may lose what ``flush.mode=os`` and a quorum keep."""
    if beside and (kind in OF_ALL or beside[0].kind in OF_ALL):
        return False
    if kind in OF_MEMBERS:
        return all(other.kind not in OF_MEMBERS for other in beside)
    return kind != "power" or all(other.kind != kind for other in beside)


def hold_s(rng: Random, kind: str, lease_s: float) -> float:
    """How long it lasts; half of the deaths end before the lease does."""
    beyond = lease_s + rng.uniform(1.0, 3.0)
    short = rng.uniform(0.4, 2.0)
    match kind:
        case "pause":
            return beyond
        case "kill":
            return rng.choice((beyond, short))
        case "cut" | "one-way cut" | "store cut" | "lost answers" | "etcd outage" | "etcd slow":
            return rng.choice((beyond, rng.uniform(1.0, lease_s)))
        case "disk full" | "etcd loss":
            return rng.uniform(2.0, 5.0)
        case _:
            return short


def lacking(counts: Mapping[str, int], kinds: Sequence[str]) -> str | None:
    """What a run with these faults has not tried enough. Only a run that may do all to the store has to."""
    total, of_store = sum(counts.values()), sum(counts.get(kind, 0) for kind in OF_STORE)
    if not set(OF_STORE) <= set(kinds) or of_store >= STORE_SHARE_MIN * total:
        return None
    return f"only {of_store} of {total} faults befell the metadata store; at least {STORE_SHARE_MIN:.0%} must"


def overlapping(each: Round) -> int:
    """How many of a round's faults last while another does."""
    return sum(any(a is not b and a.at_s < b.until_s and b.at_s < a.until_s for b in each) for a in each)
