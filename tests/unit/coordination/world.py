"""One shard with its clock and its callers: what the tests of groups share.

Every event goes through its bytes before it is replayed, and the shard's invariants are checked after each
step, so that each test also checks the record format and I8/I9.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tierlog.coordination.config import GroupConfig
from tierlog.coordination.decision import Caller, Decision
from tierlog.coordination.records import decode_event, encode_event
from tierlog.coordination.shard import GroupShard
from tierlog.wire.messages.heartbeat import HeartbeatRequest
from tierlog.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tierlog.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tierlog.wire.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchRequestTopics
from tierlog.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

INITIAL_DELAY_MS = 100


def subscription(*topics: str) -> bytes:
    """Consumer protocol metadata, version 0."""
    names = b"".join(len(t).to_bytes(2, "big") + t.encode() for t in topics)
    return b"\0\0" + len(topics).to_bytes(4, "big") + names + b"\xff\xff\xff\xff"


class World:
    """``log`` holds every record; ``answers`` every reply by ticket."""

    def __init__(self, **config: Any) -> None:
        self.config = replace(GroupConfig(group_initial_rebalance_delay_ms=INITIAL_DELAY_MS), **config)
        self.now_ms = 1_000_000
        self.log: list[tuple[bytes, bytes | None]] = []
        self.answers: dict[int, Any] = {}
        self._next_ticket = 1
        self._next_id = 1
        self.shard = GroupShard(self.config)
        self.carry_out(self.shard.finish_load(self.now_ms))

    def carry_out(self, decision: Decision) -> None:
        for event in decision.events:
            key, value = encode_event(event)
            again = decode_event(key, value)
            assert again == event
            assert again is not None
            self.log.append((key, value))
            self.shard.replay(again)
        for ticket, response in decision.replies:
            assert ticket not in self.answers, "answered twice"
            self.answers[ticket] = response
        self.shard.check()

    def ticket(self) -> int:
        self._next_ticket += 1
        return self._next_ticket - 1

    def caller(self, api_version: int, client_id: str = "c") -> Caller:
        self._next_id += 1
        return Caller(api_version, client_id, "/127.0.0.1", f"{self._next_id - 1:04}")

    def restart(self) -> None:
        """The shard dies and is built from its records."""
        self.shard = GroupShard(self.config)
        for key, value in self.log:
            event = decode_event(key, value)
            assert event is not None
            self.shard.replay(event)
        self.carry_out(self.shard.finish_load(self.now_ms))

    def advance(self, ms: int) -> None:
        """Lets time pass, deadline by deadline."""
        end_ms = self.now_ms + ms
        while self.shard.next_deadline_ms <= end_ms:
            self.now_ms = max(self.now_ms, self.shard.next_deadline_ms)
            self.carry_out(self.shard.tick(self.now_ms))
        self.now_ms = end_ms

    # -- requests; each gives its ticket, the answer is in ``answers``
    # ------------------------------------------

    def send_join(
        self,
        group: str = "g",
        member: str = "",
        *,
        version: int = 9,
        instance: str | None = None,
        protocols: dict[str, bytes] | list[tuple[str, bytes]] | None = None,
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        client_id: str = "c",
    ) -> int:
        offered = {"range": subscription("t")} if protocols is None else protocols
        pairs = offered.items() if isinstance(offered, dict) else offered
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            member_id=member,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocols=[JoinGroupRequestProtocol(name=n, metadata=m) for n, m in pairs],
        )
        ticket = self.ticket()
        caller = self.caller(version, client_id)
        self.carry_out(self.shard.decide_join(ticket, request, caller, self.now_ms))
        return ticket

    def send_sync(
        self,
        member: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        group: str = "g",
        instance: str | None = None,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
    ) -> int:
        request = SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocol_name=protocol_name,
            assignments=[
                SyncGroupRequestAssignment(member_id=m, assignment=a) for m, a in (assignments or {}).items()
            ],
        )
        ticket = self.ticket()
        self.carry_out(self.shard.decide_sync(ticket, request, self.now_ms))
        return ticket

    def heartbeat(
        self, member: str, generation: int, *, group: str = "g", instance: str | None = None
    ) -> int:
        """The error code."""
        request = HeartbeatRequest(
            group_id=group, generation_id=generation, member_id=member, group_instance_id=instance
        )
        ticket = self.ticket()
        self.carry_out(self.shard.decide_heartbeat(ticket, request, self.now_ms))
        code: int = self.answers[ticket].error_code
        return code

    def leave(self, *members: str, group: str = "g", version: int = 5, instance: str | None = None) -> Any:
        request = LeaveGroupRequest(
            group_id=group,
            member_id=members[0],
            members=[MemberIdentity(member_id=m, group_instance_id=instance) for m in members],
        )
        ticket = self.ticket()
        caller = self.caller(version)
        self.carry_out(self.shard.decide_leave(ticket, request, caller, self.now_ms))
        return self.answers[ticket]

    def commit(
        self,
        offset: int,
        member: str = "",
        generation: int = -1,
        *,
        group: str = "g",
        topic: str = "t",
        partition: int = 0,
        version: int = 8,
        metadata: str | None = "",
        leader_epoch: int = -1,
        retention_ms: int = -1,
        instance: str | None = None,
    ) -> int:
        """The error code of the one partition."""
        row = OffsetCommitRequestPartition(
            partition_index=partition,
            committed_offset=offset,
            committed_leader_epoch=leader_epoch,
            committed_metadata=metadata,
        )
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member,
            group_instance_id=instance,
            retention_time_ms=retention_ms,
            topics=[OffsetCommitRequestTopic(name=topic, partitions=[row])],
        )
        ticket = self.ticket()
        caller = self.caller(version)
        self.carry_out(self.shard.decide_offset_commit(ticket, request, caller, self.now_ms))
        code: int = self.answers[ticket].topics[0].partitions[0].error_code
        return code

    def fetch(
        self, group: str = "g", topic: str = "t", partition: int = 0, require_stable: bool = False
    ) -> Any:
        """The row of one partition."""
        wanted = [OffsetFetchRequestTopics(name=topic, partition_indexes=[partition])]
        asked = OffsetFetchRequestGroup(group_id=group, topics=wanted)
        return self.shard.fetch_offsets(asked, require_stable).topics[0].partitions[0]

    # -- whole dances
    # -------------------------------------------------------------------------------------------

    def member_id(self, group: str = "g", **join: Any) -> str:
        """A member id as KIP-394 gives it out."""
        answer: str = self.answers[self.send_join(group, **join)].member_id
        return answer

    def state(self, group: str = "g") -> str:
        return self.shard.describe_group(group, 6).group_state

    def stable(self, count: int = 1, group: str = "g", **join: Any) -> list[str]:
        """A Stable group of ``count`` members, leader first; each is assigned its number."""
        members = [self.member_id(group, **join) for _ in range(count)]
        tickets = [self.send_join(group, member, **join) for member in members]
        self.advance(2 * INITIAL_DELAY_MS)
        assert all(ticket in self.answers for ticket in tickets)
        leader = self.shard.groups[group].leader_id
        assert leader is not None
        members.sort(key=lambda member: member != leader)
        generation = self.generation(group)
        for member in members[1:]:
            self.send_sync(member, generation, group=group)
        self.send_sync(leader, generation, {m: str(i).encode() for i, m in enumerate(members)}, group=group)
        assert self.state(group) == "Stable"
        return members

    def generation(self, group: str = "g") -> int:
        return self.shard.groups[group].generation_id
