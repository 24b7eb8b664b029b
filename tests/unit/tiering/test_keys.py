"""Names in the bucket, and whose bucket it is."""

from __future__ import annotations

import pytest

from tests.unit.tiering.heads import entry, name
from tests.unit.tiering.segments import KEYS
from tiering.errors import ForeignBucket, UnsupportedFormat
from tiering.keys import (
    CLUSTER_MARKER,
    PartitionKeys,
    SegmentName,
    check_cluster_marker,
    cluster_marker,
    deletion_marker,
    topic_id_text,
    topic_of,
    topic_record,
)
from tiering.model import MetaObject
from tiering.objects.port import check_key, check_prefix


def test_keys_are_valid_and_parse_back() -> None:
    one = entry(1_000, 2_000, number=7, epoch=3)
    key = KEYS.segment(one)
    assert key.endswith(
        "/cluster-1/AAECAwQFBgcICQoLDA0ODw/3/"
        "00000000000000001000-00000000000000002000-3-00000000000000000000000000000007.seg"
    )
    assert len(key.split("/")[0]) == 4
    assert KEYS.parse_segment(key) == SegmentName(1_000, 2_000, 3, one.uuid)
    assert KEYS.parse_meta(KEYS.page(name(5))) == name(5)
    assert KEYS.parse_meta(KEYS.page_index(name(5))) == name(5)
    for other in (
        key,
        KEYS.page(name(5)),
        KEYS.page_index(name(5)),
        KEYS.head_copy(5),
        KEYS.unordered_head_copy,
        topic_record("c", bytes(16)),
        deletion_marker("c", bytes(16)),
    ):
        check_key(other)
    check_prefix(KEYS.segments_prefix)
    check_prefix(KEYS.meta_prefix)


def test_foreign_names_are_nothing() -> None:
    other = PartitionKeys("cluster-1", bytes(16), 3)
    assert KEYS.parse_segment(other.segment(entry(0, 1))) is None
    assert KEYS.parse_segment(KEYS.segments_prefix + "notes.txt") is None
    assert KEYS.parse_meta(KEYS.head_copy(5)) is None


def test_keys_sort_by_offset() -> None:
    bases = [0, 9, 10, 10**9, 10**18]
    keys = [KEYS.segment(entry(b, b + 1)) for b in bases]
    assert sorted(keys) == keys


def test_topic_ids_as_kafka_prints_them() -> None:
    assert topic_id_text(bytes(range(16))) == "AAECAwQFBgcICQoLDA0ODw"


def test_a_foreign_bucket_is_refused_with_one_line() -> None:
    check_cluster_marker(cluster_marker("c1"), "c1")
    with pytest.raises(ForeignBucket, match=r"^the bucket belongs to cluster c1, this broker to cluster c2$"):
        check_cluster_marker(cluster_marker("c1"), "c2")
    with pytest.raises(ForeignBucket):
        check_cluster_marker(b"hello", "c2")
    with pytest.raises(UnsupportedFormat, match="format_version 9"):
        check_cluster_marker(cluster_marker("c1").replace(b"1}", b"9}"), "c1")


def test_copies_of_the_head_sort_by_sequence_behind_the_unordered_one() -> None:
    copies = [KEYS.head_copy(sequence) for sequence in (0, 9, 10, 2**40)]
    assert [KEYS.parse_head_copy(key) for key in copies] == [0, 9, 10, 2**40]
    assert sorted([*copies, KEYS.unordered_head_copy]) == [KEYS.unordered_head_copy, *copies]
    assert KEYS.parse_head_copy(KEYS.unordered_head_copy) is None
    others = [KEYS.page(name(9)), KEYS.unordered_head_copy]
    assert KEYS.older_head_copies([copies[2], *others, copies[0], copies[1]]) == copies[:2]
    assert KEYS.older_head_copies([copies[1], *others]) == []
    assert KEYS.older_head_copies(others) == []


@pytest.mark.parametrize("topic_id", [bytes(16), bytes(range(16)), b"\xff" * 16])
def test_every_key_tells_its_topic(topic_id: bytes) -> None:
    keys = PartitionKeys("cluster", topic_id, 3)
    meta = MetaObject(1, 2, bytes(16))
    named = [
        keys.segments_prefix,
        keys.meta_prefix,
        keys.segment(SegmentName(0, 5, 1, bytes(16))),
        keys.page(meta),
        keys.page_index(meta),
        keys.head_copy(7),
        keys.unordered_head_copy,
        topic_record("cluster", topic_id),
        deletion_marker("cluster", topic_id),
    ]
    assert {topic_of(each) for each in named} == {topic_id}


@pytest.mark.parametrize(
    "key",
    [
        "",
        CLUSTER_MARKER,
        "meta/c/deleted/",
        "meta/c/deleted/x",
        "meta",
        "0abc/c/",
        "doctor-1",
        "a/b/" + "!" * 22,
    ],
)
def test_what_is_of_no_topic(key: str) -> None:
    assert topic_of(key) is None
