"""What a load passes over, and that it costs nothing else."""

from __future__ import annotations

import asyncio

import pytest
from crc32c import crc32c

from tests.patience import PATIENT_S
from tests.unit.coordination.test_shard_runtime import Broker, MemoryLog
from tests.unit.coordination.world import subscription
from tierlog.coordination.records import CommittedOffset, Event, GroupStored, OffsetCommitted, encode_event
from tierlog.coordination.shard import GroupShard
from tierlog.errors import ErrorCode
from tierlog.records.records import Record, build_batch
from tierlog.wire.messages.group_records import GroupMetadataValue, MemberMetadata


def stored(group: str, generation: int, *members: str, instance: str | None = None) -> Event:
    rows = [
        MemberMetadata(
            member_id=member,
            group_instance_id=instance,
            client_id="c",
            client_host="/h",
            rebalance_timeout=10_000,
            session_timeout=10_000,
            subscription=subscription("t"),
            assignment=b"",
        )
        for member in members
    ]
    leader = members[0] if members else None
    metadata = GroupMetadataValue(
        protocol_type="consumer", generation=generation, protocol="range", leader=leader, members=rows
    )
    return GroupStored(group, metadata)


def raw_batch(log: MemoryLog, body: bytes, count: int) -> bytes:
    """A batch with a body that is no records, as a client could have written it; its checksum is right."""
    batch = bytearray(build_batch([Record(b"k", b"v", 5)], base_offset=log.log_end_offset))
    batch[61:] = body
    batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
    batch[57:61] = count.to_bytes(4, "big")
    batch[23:27] = (count - 1).to_bytes(4, "big")
    batch[17:21] = crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return bytes(batch)


UNREADABLE: list[tuple[bytes, bytes | None]] = [
    (b"\0\2", b"\0\3"),
    (b"\0\2\0\x03g", b"\0\3"),
    (b"\0\2\x7f\xffgroup", b"\0\3"),
    (b"\0\2\xff\xff", b"\0\3"),
    (b"\0\2\0\1\xff", b"\0\3"),
    (b"\0\2\0\1g", b""),
    (b"\0\2\0\1g", b"\0\3"),
    (b"\0\2\0\1g", b"\0\x63" + bytes(40)),
    (b"\0\2\0\1g", b"\0\3\0\1x\0\0\0\5\xff\xff\xff\xff" + bytes(8) + b"\x7f\xff\xff\xff"),
    (b"\0\1\0\1g\0\1t\0\0\0\0", b"\0\3"),
    (b"\0\1\0\1g\0\1t", b"\0\3" + bytes(30)),
    encode_event(stored("g", -5, "m")),
    encode_event(stored("g", 5, "m", "m")),
    encode_event(stored("g", 5, "m", "n", instance="i")),
]


@pytest.mark.parametrize("number", range(len(UNREADABLE)))
async def test_a_record_that_cannot_be_replayed_costs_its_group_alone(number: int) -> None:
    log = MemoryLog()
    log.append_pairs([encode_event(stored("before", 7))])
    log.append_pairs([encode_event(stored("g", 3)), UNREADABLE[number], encode_event(stored("behind", 8))])
    log.append_pairs([encode_event(stored(f"later {n}", 9)) for n in range(3000)])
    broker = await Broker(log).lead()
    shard: GroupShard = broker.led.shard
    assert shard.groups["before"].generation_id == 7
    assert shard.groups["behind"].generation_id == 8
    assert {shard.groups[f"later {n}"].generation_id for n in range(3000)} == {9}
    assert broker.runtime.unreadable_count == 1
    shard.check()
    assert broker.commit(5, "behind") is not None


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"", 1),
        (b"\x02", 1),
        (b"\xff" * 12, 1),
        (b"\x80" * 30, 3),
        (b"\x7f" + bytes(5), 1),
        (bytes(20), 2),
        (b"\x01" * 20, 2),
        (b"\x10\0\0\0\x06abc\xff\x7f\0", 1),
    ],
)
async def test_a_batch_that_cannot_be_replayed_costs_what_it_says(body: bytes, count: int) -> None:
    log = MemoryLog()
    log.append_pairs([encode_event(stored("before", 7))])
    log.batches.append((log.log_end_offset, raw_batch(log, body, count)))
    log.log_end_offset += count
    log.append_pairs([encode_event(stored("behind", 8))])
    broker = await Broker(log).lead()
    shard: GroupShard = broker.led.shard
    assert (shard.groups["before"].generation_id, shard.groups["behind"].generation_id) == (7, 8)
    assert broker.runtime.unreadable_count


async def test_a_topic_that_was_recreated_does_not_inherit_offsets() -> None:
    """Deleted where nobody had the groups; deleted while they load, and there again before that ends."""
    log = MemoryLog()
    topics = {"absent", "recreated", "kept"}
    position = CommittedOffset(5, -1, "", 1_000_000)
    for group in range(2000):
        log.append_pairs(
            [encode_event(OffsetCommitted(f"g{group}", topic, 0, position)) for topic in sorted(topics)]
        )
    topics.remove("absent")
    broker = Broker(log)
    broker.runtime.topic_exists = topics.__contains__
    broker.runtime.lead(0, log)
    for _ in range(5):
        await asyncio.sleep(0)
    assert broker.led.shard is None, "in the middle of it"
    broker.runtime.topics_deleted(frozenset({"recreated"}))
    while broker.led.shard is None:
        await asyncio.sleep(0)
    topics.add("absent")
    for _ in range(2):
        offsets = broker.led.shard.offsets.groups
        assert len(offsets) == 2000
        assert all(list(named) == ["kept"] for named in offsets.values())
        await asyncio.sleep(0.01)
        await broker.lead()  # from the log


async def test_a_deletion_that_could_not_be_recorded_is_made_up_for() -> None:
    log = MemoryLog()
    position = CommittedOffset(5, -1, "", 1_000_000)
    log.append_pairs([encode_event(OffsetCommitted("g", "t", 0, position))])
    broker = await Broker(log).lead()
    log.refusal = ErrorCode.NOT_ENOUGH_REPLICAS
    broker.runtime.topics_deleted(frozenset({"t"}))
    await asyncio.sleep(0)
    assert broker.led.shard is None
    log.refusal = None
    async with asyncio.timeout(PATIENT_S):
        while broker.led.shard is None:
            await asyncio.sleep(0.01)
    answer = broker.fetch()
    assert (await answer if isinstance(answer, asyncio.Future) else answer) == -1
