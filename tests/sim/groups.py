"""The group coordinator over a simulated partition: the production shard, decided, recorded, replayed, and built anew by
whoever leads next.

One client commits ever higher positions and reads them back, now here, now there, wherever a broker believes to lead.
What it was told is committed must be there for every later reader of the leader (I8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.clients import Attempt
from tierlog.coordination.config import GroupConfig
from tierlog.coordination.decision import Caller
from tierlog.coordination.records import Event
from tierlog.coordination.shard import GroupShard
from tierlog.errors import ErrorCode
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tierlog.wire.messages.offset_fetch import OffsetFetchRequestGroup

if TYPE_CHECKING:
    from tests.sim.replica import SimReplica
    from tests.sim.world import World

GROUP, TOPIC = "g", "t"
CONFIG = GroupConfig(group_min_session_timeout_ms=1, group_initial_rebalance_delay_ms=1)
CALLER = Caller(api_version=9)


class GroupClient:
    """``events``: value of a record → the shard's events in it. ``told``: the highest position acknowledged."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: dict[int, tuple[Event, ...]] = {}
        self.position = 0
        self.told = -1

    def commit(self, replica: SimReplica) -> None:
        leader = replica.leader
        if leader is None or not leader.accepts_all_acks:
            return
        world, shard = self.world, shard_of(replica)
        self.position += 1
        row = OffsetCommitRequestPartition(partition_index=0, committed_offset=self.position)
        request = OffsetCommitRequest(
            group_id=GROUP, topics=[OffsetCommitRequestTopic(name=TOPIC, partitions=[row])]
        )
        decision = shard.decide_offset_commit(0, request, CALLER, replica.broker.now_ms)
        for event in decision.events:
            shard.replay(event)
        world.value += 1
        self.events[world.value] = tuple(decision.events)
        world.counts["group commits"] += 1
        replica.produce(Commit(world, world.value, self.position))

    def read(self, replica: SimReplica) -> None:
        """Its answer leaves when all that the shard may have seen is committed: here, if that is so already."""
        leader = replica.leader
        if leader is None or leader.high_watermark < replica.log.log_end_offset:
            return
        asked = OffsetFetchRequestGroup(group_id=GROUP, topics=None)
        found = shard_of(replica).fetch_offsets(asked, require_stable=True)
        rows = [row for topic in found.topics for row in topic.partitions]
        position = rows[0].committed_offset if rows else -1
        self.world.counts["group reads"] += 1
        if leader.leader_epoch != self.world.checker.truth[replica.partition].leader_epoch:
            return  # a deposed coordinator does not know of its successor yet
        if position < self.told:
            self.world.checker.fail(
                f"I8: {replica} answers position {position}, {self.told} was acknowledged"
            )


class Commit(Attempt):
    """The record of one OffsetCommit; its acknowledgement is the reply."""

    __slots__ = ("position",)

    def __init__(self, world: World, value: int, position: int) -> None:
        super().__init__(world, 0, value, -1, -1)
        self.needs_all_acks = True
        self.position = position

    def answer(self, error: ErrorCode, offset: int) -> None:
        if not error:
            client = self.world.group
            client.told = max(client.told, self.position)


def shard_of(replica: SimReplica) -> GroupShard:
    """The leader's shard, loaded from its log when it is first asked."""
    if replica.shard is None:
        replica.shard = load(replica)
    return replica.shard


def load(replica: SimReplica) -> GroupShard:
    shard = GroupShard(CONFIG)
    events = replica.world.group.events
    for record in replica.log.records:
        for event in events.get(record.value, ()):
            shard.replay(event)
    shard.finish_load(replica.broker.now_ms)
    replica.world.counts["shards loaded"] += 1
    return shard
