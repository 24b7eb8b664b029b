"""The record format, against bytes that Apache Kafka 4.4.0 wrote."""

from __future__ import annotations

import pytest

from tierlog.coordination.partitioning import java_string_hash, partition_for
from tierlog.coordination.records import (
    CommittedOffset,
    GroupStored,
    OffsetCommitted,
    decode_event,
    encode_event,
)
from tierlog.errors import MalformedMessage
from tierlog.wire.messages.group_records import GroupMetadataValue, MemberMetadata

TOPIC_ID = bytes.fromhex("4d10f2197d9d4550ad4e7b8f4150b3da")
STATIC_MEMBER = "i1-d6c4e39c-49e9-4654-a2e1-2f14db5380f0"
SUBSCRIPTION = bytes.fromhex("00010000000100017" + "4ffffffff00000000")

# As found in the log of a Kafka 4.4.0 broker: key, value, what it means.
WRITTEN_BY_KAFKA = [
    (
        "000100016700017400000000",
        "0004000000000000002a00000003026d000001a2078640680100104d10f2197d9d4550ad4e7b8f4150b3da",
        OffsetCommitted("g", "t", 0, CommittedOffset(42, 3, "m", 1795422568552, -1, TOPIC_ID)),
    ),
    (
        "0001000673696d706c6500017400000002",
        "0001000000000000002a00016d000001a207864092000001a207872af2",
        OffsetCommitted("simple", "t", 2, CommittedOffset(42, -1, "m", 1795422568594, 1795422628594)),
    ),
    ("0001000673696d706c6500017400000000", None, OffsetCommitted("simple", "t", 0, None)),
    (
        "0002000167",
        "0003000000000000ffffffff000001a207863ee200000000",
        GroupStored(
            "g",
            GroupMetadataValue(
                generation=0, protocol=None, leader=None, current_state_timestamp=1795422568162
            ),
        ),
    ),
    ("0002000673696d706c65", None, GroupStored("simple", None)),
]


@pytest.mark.parametrize(("key", "value", "event"), WRITTEN_BY_KAFKA)
def test_what_kafka_wrote_is_read_and_written_alike(
    key: str, value: str | None, event: OffsetCommitted | GroupStored
) -> None:
    raw_value = None if value is None else bytes.fromhex(value)
    assert decode_event(bytes.fromhex(key), raw_value) == event
    assert encode_event(event) == (bytes.fromhex(key), raw_value)


def group(**fields: object) -> GroupMetadataValue:
    member = MemberMetadata(
        member_id=STATIC_MEMBER,
        group_instance_id="i1",
        client_id="probe",
        client_host="/127.0.0.1",
        rebalance_timeout=5000,
        session_timeout=10000,
        subscription=SUBSCRIPTION,
        assignment=b"ZZ",
    )
    stored = GroupMetadataValue(
        protocol_type="consumer",
        generation=1,
        protocol="range",
        leader=STATIC_MEMBER,
        current_state_timestamp=1795422568784,
        members=[member],
    )
    for name, value in fields.items():
        setattr(stored, name, value)
    return stored


def test_the_record_of_a_group_with_a_static_member() -> None:
    key, value = encode_event(GroupStored("s", group()))
    assert key.hex() == "0002000173"
    assert value is not None
    member = STATIC_MEMBER.encode().hex()
    assert value.hex() == (
        "0003" + "0008636f6e73756d6572" + "00000001" + "000572616e6765" + "0027" + member + "000001a207864150"
        "00000001" + "0027" + member + "00026931" + "000570726f6265" + "000a2f3132372e302e302e31"
        "00001388" + "00002710" + "00000011" + SUBSCRIPTION.hex() + "00000002" + "5a5a"
    )
    assert decode_event(key, value) == GroupStored("s", group())


def test_a_plain_commit_is_written_in_version_3_which_all_tools_know() -> None:
    event = OffsetCommitted("g", "t", 7, CommittedOffset(42, 3, "m", 5))
    key, value = encode_event(event)
    assert value is not None
    assert value.hex() == "0003" + "000000000000002a" + "00000003" + "00016d" + "0000000000000005"
    assert decode_event(key, value) == event


OLD_VALUES = [
    ("0000000000000000002a00016d0000000000000005", CommittedOffset(42, -1, "m", 5)),
    ("0001000000000000002a00016d00000000000000050000000000000006", CommittedOffset(42, -1, "m", 5, 6)),
    ("0002000000000000002a00016d0000000000000005", CommittedOffset(42, -1, "m", 5)),
]


@pytest.mark.parametrize(("value", "committed"), OLD_VALUES)
def test_old_values_and_old_keys_are_read(value: str, committed: CommittedOffset) -> None:
    key = bytes.fromhex("000000016700017400000000")
    assert decode_event(key, bytes.fromhex(value)) == OffsetCommitted("g", "t", 0, committed)


@pytest.mark.parametrize("kind", [3, 5, 8, 15, 600])
def test_records_of_other_protocols_are_passed_over(kind: int) -> None:
    assert decode_event(kind.to_bytes(2, "big") + b"whatever", b"value") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (bytes.fromhex("0001000567"), b""),
        (bytes.fromhex("000100016700017400000000"), b""),
        (bytes.fromhex("000100016700017400000000"), b"\0\5rest"),
        (bytes.fromhex("000100016700017400000000"), b"\xff\xff"),
        (bytes.fromhex("0002000167"), b"\0\3\0"),
    ],
)
def test_garbage_is_malformed(key: bytes, value: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_event(key, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("", 0), ("a", 97), ("hello", 99162322), ("größe😀", 423021364), ("polygenelubricants", -(2**31))],
)
def test_java_string_hash(text: str, value: int) -> None:
    assert java_string_hash(text) == value


@pytest.mark.parametrize(("group_id", "partition"), [("g", 3), ("s", 15), ("simple", 26), ("gq", 6), ("", 0)])
def test_partitions_are_those_kafka_chose(group_id: str, partition: int) -> None:
    assert partition_for(group_id, 50) == partition


def test_the_least_hash_has_partition_0() -> None:
    assert partition_for("polygenelubricants", 50) == 0
