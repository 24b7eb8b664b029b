"""Counts what clients send and are sent, by topic and client, for the ledger.

What is appended is counted by the partition anyway. So only turns are noted here: as long as one connection appends to a
partition, the growth of the partition's counts is that client's, and a request costs one comparison. What is read is added
up per request, in tallies that the connection keeps.

A client id is that of the connection's first request that counts. A drain begins new tallies: a connection sees that its own
are of an earlier drain by the table that they are from.

Bounds: ``TALLIES_MAX`` tallies between two drains; beyond that clients are counted together, by topic and direction. A
connection keeps those of ``KEPT_TOPICS_MAX`` topics.
"""

from __future__ import annotations

from collections.abc import Iterator

from tierlog.broker.network.context import RequestContext
from tierlog.broker.network.tallies import NOBODY, ConnectionTraffic, Counted, Hosted, Table, Tally

TALLIES_MAX = 4_000
KEPT_TOPICS_MAX = 64
CLIENT_ID_CHARS_MAX = 128

PRODUCE = "produce"
CONSUME = "consume"
CONSUME_REMOTE = "consume-remote"
REPLICATE = "replicate"


class ClientTraffic:
    """One per broker."""

    def __init__(self) -> None:
        self._table: Table = {}
        # Of the present table, by topic id and rack: a follower's fetch looks them up once per partition.
        self._replicated: dict[tuple[bytes, str], Tally] = {}
        # Partitions with a turn of the present table.
        self._turns: dict[Hosted, None] = {}

    def takes_turn(self, ctx: RequestContext, partition: Hosted) -> None:
        """To be called before this connection appends, unless it is the partition's ``producer`` already."""
        _settle(partition)
        mine = ctx.session.traffic
        if mine is None or mine.table is not self._table:
            mine = self._begin(ctx, "")
        partition.traffic.producer = mine
        self._turns[partition] = None

    def consumed(
        self, ctx: RequestContext, partition: Hosted, size_bytes: int, rack: str, is_remote: bool
    ) -> None:
        """Records were sent. ``is_remote``: they came from the object store, or from a cache of it."""
        mine = ctx.session.traffic
        if mine is None or mine.table is not self._table or mine.rack != rack:
            mine = self._begin(ctx, rack)
        kept = mine.consumed_remote if is_remote else mine.consumed
        tally = kept.get(partition.topic_id)
        if tally is None:
            tally = _keep(kept, CONSUME_REMOTE if is_remote else CONSUME, mine, partition, rack)
        tally.size_bytes += size_bytes

    def replicated(self, partition: Hosted, size_bytes: int, rack: str) -> None:
        """Records were sent to a follower in ``rack``."""
        key = (partition.topic_id, rack)
        tally = self._replicated.get(key)
        if tally is None:
            about = Counted(REPLICATE, partition.topic_id, partition.topic_partition.topic, rack=rack)
            tally = self._replicated[key] = self._table[about] = Tally()  # as many as topics and racks
        tally.size_bytes += size_bytes

    def drain(self) -> Iterator[tuple[Counted, Tally] | None]:
        """What was counted since the last drain; begins anew at once. None where the caller may pause."""
        table, self._table = self._table, {}
        self._replicated = {}
        turns, self._turns = self._turns, {}
        for partition in turns:
            if partition.traffic.producer.table is table:  # else another turn has begun since
                _settle(partition)
                partition.traffic.producer = NOBODY
            yield None
        yield from table.items()

    def _begin(self, ctx: RequestContext, rack: str) -> ConnectionTraffic:
        client_id = (ctx.client_id or "")[:CLIENT_ID_CHARS_MAX]
        mine = ConnectionTraffic(self._table, ctx.principal, client_id, ctx.peer_host, rack)
        ctx.session.traffic = mine
        return mine


def _settle(partition: Hosted) -> None:
    """Counts what was appended in the turn that ends."""
    counts = partition.traffic
    mine = counts.producer
    size_bytes, records = (
        counts.bytes_in - counts.counted_bytes_in,
        counts.messages_in - counts.counted_messages_in,
    )
    counts.counted_bytes_in, counts.counted_messages_in = counts.bytes_in, counts.messages_in
    if mine is NOBODY or not size_bytes:
        return
    tally = mine.produced.get(partition.topic_id)
    if tally is None:
        tally = _keep(mine.produced, PRODUCE, mine, partition, "")
    tally.size_bytes += size_bytes
    tally.records += records


def _keep(
    kept: dict[bytes, Tally], direction: str, mine: ConnectionTraffic, partition: Hosted, rack: str
) -> Tally:
    topic_id, topic, table = partition.topic_id, partition.topic_partition.topic, mine.table
    about = Counted(direction, topic_id, topic, mine.principal, mine.client_id, mine.host, rack)
    tally = table.get(about)
    if tally is None and len(table) >= TALLIES_MAX:
        about = Counted(direction, topic_id, topic)
        tally = table.get(about)
    if tally is None:
        tally = table[about] = Tally()
    if len(kept) >= KEPT_TOPICS_MAX:
        kept.clear()
    kept[topic_id] = tally
    return tally
