"""Who pays: the charges of a bill by topic, partition, principal, consumer group or owner; ``METHODS`` says how.

Every way adds up to the bill. What belongs to no topic is shared where topics, partitions and owners pay; principals and
groups pay only for what they caused, and the rest stands beside them under its own name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from tiering.cost.bill import Bill, Charge, share
from tiering.cost.exact import exact
from tiering.cost.payers import By
from tiering.cost.prices import ZERO
from tiering.cost.usage import Item, Use
from tiering.ledger.rows import ALL, Cause, Direction

SHARED = "(shared)"
UNKNOWN_GROUP = "(unknown group)"
NO_CONSUMER = "(not of consumers)"
NO_PRINCIPAL = "(no principal)"
NO_OWNER = "(no owner)"


_SHARED = (
    "Free space of the disks is shared in the ratio of the bytes that replicas hold on them.",
    "Other costs of no one topic (listings, sweeps, starts, the ledger) are shared in the ratio of the direct costs.",
)
METHODS: dict[By, tuple[str, ...]] = {
    By.TOPIC: _SHARED,
    By.PARTITION: _SHARED,
    By.OWNER: (
        "An owner pays for his topics: tierlog.owner of the topic, else the first rule that fits its name.",
        *_SHARED,
    ),
    By.PRINCIPAL: (
        "A principal pays for the traffic and the requests that it caused; what is stored belongs to topics.",
    ),
    By.GROUP: (
        "A group pays for what its members fetched: they are told by client id and host. What is stored belongs to topics.",
    ),
}


class Part(NamedTuple):
    """``direct``: caused by it alone, by item; ``shared``: its part of what belongs to nobody."""

    name: str
    direct: dict[Item, Decimal]
    shared: Decimal

    @property
    @exact
    def cost(self) -> Decimal:
        return sum(self.direct.values(), self.shared)


class Weights(NamedTuple):
    """Of each name: what its bytes on disk cost, and all that it causes directly."""

    names: Sequence[str]
    on_disk: Sequence[Decimal]
    direct: Sequence[Decimal]


class Names(NamedTuple):
    """Who is who. ``groups``: by client id and host, or by client id and an empty host; ``owners``: by topic."""

    groups: Mapping[tuple[str, str], str] = {}
    owners: Mapping[str, str] = {}


@exact
def divide(bill: Bill, by: By, names: Names) -> list[Part]:
    """Largest first."""
    if by in (By.TOPIC, By.PARTITION, By.OWNER):
        parts = _shared_out(bill, by, names)
    else:
        name_of = _principal if by is By.PRINCIPAL else _group_of(names)
        parts = [Part(name, direct, ZERO) for name, direct in _sums(bill.charges, name_of).items()]
    return sorted(parts, key=lambda part: (-part.cost, part.name))


def _sums(charges: Sequence[Charge], name_of: Callable[[Use], str]) -> dict[str, dict[Item, Decimal]]:
    sums: dict[str, dict[Item, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for charge in charges:
        sums[name_of(charge.use)][charge.use.item] += charge.cost
    return {name: dict(direct) for name, direct in sums.items()}


def _shared_out(bill: Bill, by: By, names: Names) -> list[Part]:
    def name_of(use: Use) -> str:
        if not use.topic:
            return SHARED
        if by is By.OWNER:
            return names.owners.get(use.topic) or NO_OWNER
        return use.topic if by is By.TOPIC or use.partition == ALL else f"{use.topic}-{use.partition}"

    sums = _sums(bill.charges, name_of)
    common = sums.pop(SHARED, {})
    weights = _weights(sums)
    free_disk = common.pop(Item.DISK_FREE, ZERO)
    rest = sum(common.values(), ZERO)
    of_disk = share(free_disk, weights.on_disk if any(weights.on_disk) else weights.direct)
    of_rest = share(rest, weights.direct)
    order = weights.names
    parts = [Part(name, sums[name], a + b) for name, a, b in zip(order, of_disk, of_rest, strict=True)]
    left = free_disk + rest - sum(of_disk, ZERO) - sum(of_rest, ZERO)
    return [*parts, Part(SHARED, {}, left)] if left else parts


def topic_weights(bill: Bill) -> Weights:
    """What topics pay of common costs, in these ratios."""
    return _weights(_sums([charge for charge in bill.charges if charge.use.topic], lambda use: use.topic))


def _weights(sums: Mapping[str, Mapping[Item, Decimal]]) -> Weights:
    order = sorted(sums)
    return Weights(
        order,
        [sums[name].get(Item.DISK, ZERO) for name in order],
        [sum(sums[name].values(), ZERO) for name in order],
    )


def _principal(use: Use) -> str:
    return use.principal or NO_PRINCIPAL


def _group_of(names: Names) -> Callable[[Use], str]:
    def name_of(use: Use) -> str:
        is_read = use.what in (Direction.CONSUME, Direction.CONSUME_REMOTE) or use.cause in (
            Cause.FETCH,
            Cause.REPLAY,
        )
        if not is_read:
            return NO_CONSUMER
        known = names.groups
        return known.get((use.client_id, use.host)) or known.get((use.client_id, "")) or UNKNOWN_GROUP

    return name_of
