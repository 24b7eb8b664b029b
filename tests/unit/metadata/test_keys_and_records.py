"""Keys and values, byte for byte."""

from __future__ import annotations

from typing import Any

import pytest

from tierlog.errors import UserError
from tierlog.metadata import keys, records
from tierlog.metadata.records import (
    BrokerRegistration,
    BrokerState,
    CleanStop,
    ControllerLease,
    Endpoint,
    PartitionState,
    TopicRecord,
)

# What version 1 wrote; never to change (a new version gets lines of its own).
GOLDEN: list[tuple[Any, Any, Any, bytes]] = [
    (
        records.encode_registration,
        records.decode_registration,
        BrokerRegistration(
            "5f",
            (Endpoint("PLAINTEXT", "h", 9092),),
            "r1",
            "host",
            ("d1",),
            "boot",
            {"group.version": (0, 1)},
            7,
        ),
        b'{"v":1,"incarnation":"5f","endpoints":[["PLAINTEXT","h",9092,"PLAINTEXT"]],"rack":"r1","host":"host",'
        b'"dirs":["d1"],"boot_id":"boot","features":{"group.version":[0,1]},"lossless_since":7,"want_fence":true,'
        b'"want_shut_down":false,"offline_dirs":[]}',
    ),
    (
        records.encode_registration,
        records.decode_registration,
        BrokerRegistration("5f", (), dirs=("d1", "d2"), offline_dirs=("d2",), cordoned_dirs=("d1",)),
        b'{"v":1,"incarnation":"5f","endpoints":[],"rack":null,"host":"","dirs":["d1","d2"],"boot_id":"",'
        b'"features":{},"lossless_since":0,"want_fence":true,"want_shut_down":false,"offline_dirs":["d2"],'
        b'"cordoned_dirs":["d1"]}',
    ),
    (
        records.encode_broker_state,
        records.decode_broker_state,
        BrokerState(9, False, True, ("d",)),
        b'{"v":1,"bepoch":9,"fenced":false,"shutting_down":true,"offline_dirs":["d"]}',
    ),
    (
        records.encode_clean_stop,
        records.decode_clean_stop,
        CleanStop(9, ("d",), 7),
        b'{"v":1,"bepoch":9,"dirs":["d"],"lossless_since":7}',
    ),
    (
        records.encode_controller,
        records.decode_controller,
        ControllerLease(3, 9),
        b'{"v":1,"broker":3,"bepoch":9}',
    ),
    (records.encode_topic, records.decode_topic, TopicRecord("t", 6), b'{"v":1,"name":"t","n":6}'),
    (
        records.encode_topic,
        records.decode_topic,
        TopicRecord("t", 6, True, (1, 2), True),
        b'{"v":1,"name":"t","n":6,"deleting":true,"pending":[1,2],"tier_pending":true}',
    ),
    (records.encode_topic_name, records.decode_topic_name, "AAAA", b'{"v":1,"id":"AAAA"}'),
    (
        records.encode_configs,
        records.decode_configs,
        {"retention.ms": "-1", "a": "ü"},
        '{"v":1,"configs":{"a":"ü","retention.ms":"-1"}}'.encode(),
    ),
    (records.encode_next_producer_id, records.decode_next_producer_id, 3000, b'{"v":1,"next":3000}'),
    (records.encode_cluster_id, records.decode_cluster_id, "abc", b'{"v":1,"id":"abc"}'),
]


@pytest.mark.parametrize(("encode", "decode", "record", "golden"), GOLDEN)
def test_golden_bytes(encode: Any, decode: Any, record: Any, golden: bytes) -> None:
    assert encode(record) == golden
    assert decode(golden) == record
    with pytest.raises(UserError, match="format version 2"):
        decode(golden.replace(b'"v":1', b'"v":2'))


def test_feature_levels_are_refused_by_what_knows_no_levels() -> None:
    """Earlier versions read this key too, in format 1, and never wrote it: any other number keeps them away."""
    golden = b'{"v":2,"features":{"a":3,"f":2}}'
    assert records.encode_features({"f": 2, "a": 3}) == golden
    assert records.decode_features(golden) == {"f": 2, "a": 3}
    with pytest.raises(
        UserError, match=r"record of feature levels has format version 3, this tierlog knows 2; upgrade"
    ):
        records.decode_features(golden.replace(b'"v":2', b'"v":3'))


def test_partition_golden_bytes() -> None:
    small = PartitionState(1, 5, (1, 2), (1, 2), 2)
    assert records.encode_partition(small) == b'{"v":1,"l":1,"e":5,"i":[1,2],"r":[1,2],"m":2}'
    full = PartitionState(-1, 5, (), (1, 2), 2, (1,), ("a", "b"), (3,), (2,), True)
    golden = b'{"v":1,"l":-1,"e":5,"i":[],"r":[1,2],"m":2,"q":[1],"d":["a","b"],"a":[3],"x":[2],"c":1}'
    assert records.encode_partition(full) == golden
    assert records.decode_partition(golden, 77) == full._replace(partition_epoch=77)


def test_who_was_eligible_last_is_kept_and_may_be_absent() -> None:
    state = PartitionState(-1, 5, (), (1, 2), 2, last_eligible=(2,))
    golden = b'{"v":1,"l":-1,"e":5,"i":[],"r":[1,2],"m":2,"p":[2]}'
    assert records.encode_partition(state) == golden
    assert records.decode_partition(golden, 0) == state


def test_a_log_end_says_whether_it_is_whole_and_need_not() -> None:
    golden = b'{"v":1,"bepoch":7,"e":5,"last":4,"end":90}'
    plain = records.LogEnd(7, 5, 4, 90)
    assert (records.encode_log_end(plain), records.decode_log_end(golden)) == (golden, plain)
    whole = plain._replace(is_whole=True)
    assert records.encode_log_end(whole) == golden[:-1] + b',"whole":1}'
    assert records.decode_log_end(records.encode_log_end(whole)) == whole


def test_partition_fits_its_bound() -> None:
    replicas = (100_001, 100_002, 100_003)
    state = PartitionState(100_001, 1_000_000, replicas, replicas, 2, dirs=("A" * 22,) * 3)
    assert len(records.encode_partition(state)) <= 200


def test_keys() -> None:
    tid = bytes(range(16))
    text = keys.format_topic_id(tid)
    assert keys.parse_topic_id(text) == tid
    assert keys.parse_partition(keys.partition(tid, 12)) == (tid, 12)
    assert keys.parse_partition(keys.tier_head(tid, 3), keys.TIER_HEADS) == (tid, 3)
    assert keys.prefix_end("/p/") == "/p0"
    with pytest.raises(ValueError, match="not a topic id"):
        keys.parse_topic_id("abcd")
