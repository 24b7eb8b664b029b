"""The head's transitions keep its invariants and its bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from crc32c import crc32c

from tests.unit.tiering.heads import entry, head_of, name
from tiering.errors import CorruptObject, UnsupportedFormat
from tiering.formats import FORMAT_VERSION
from tiering.head_codec import decode_head, encode_head
from tiering.model import (
    DISPLACED_MAX,
    ORIGINS_MAX,
    RETIRED_MARKS_MAX,
    STALE_OBJECTS_MAX,
    TAIL_ENTRIES_MAX,
    MetaObject,
    PageIndexRef,
    SegmentEntry,
    TierHead,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "tiering"


def test_an_entry_must_begin_at_the_end() -> None:
    head = head_of(2)
    with pytest.raises(AssertionError, match="H1"):
        head.with_committed(entry(21, 30))
    with pytest.raises(AssertionError, match="H1"):
        head.with_committed(entry(19, 30))
    assert head.with_committed(entry(20, 30), entry(30, 31)).end == 31


def test_a_full_tail_takes_no_entry() -> None:
    head = head_of(TAIL_ENTRIES_MAX)
    with pytest.raises(AssertionError, match="tail is full"):
        head.with_committed(entry(head.end, head.end + 1))


def test_a_start_inside_an_entry_keeps_it() -> None:
    head = head_of(3).with_start(15, 100)
    assert [e.base_offset for e in head.live_tail] == [10, 20]
    assert head.retired_ms_of(10) == 100
    assert head.retired_ms_of(20) is None


def test_a_lower_start_changes_nothing() -> None:
    head = head_of(3).with_start(15, 100)
    assert head.with_start(15, 200) is head
    assert head.with_start(3, 200) is head


def test_a_start_past_the_end_drags_the_end_along_and_retires_everything() -> None:
    head = head_of(3).with_start(77, 100)
    assert (head.start, head.end, head.live_tail) == (77, 77, ())
    assert head.retired_ms_of(30) == 100
    head = head.with_committed(entry(77, 80))
    assert [e.base_offset for e in head.live_tail] == [77]
    head.check()


def test_removal_takes_the_retired_alone() -> None:
    head = head_of(4).with_start(20, 100)
    with pytest.raises(AssertionError):
        head.with_retired_removed(30, 200)
    head = head.with_retired_removed(20, 200)
    assert [e.base_offset for e in head.tail] == [20, 30]
    assert (head.retired, head.removed_end) == ((), 20)
    assert head.with_retired_removed(20, 300) is head


def test_removable_end_waits_for_the_grace_of_each_mark() -> None:
    head = head_of(4).with_start(10, 100).with_start(30, 500)
    assert head.removable_end(599, 500) == 0
    assert head.removable_end(600, 500) == 10
    assert head.removable_end(1_000, 500) == 30


def test_marks_are_bounded_and_old_ones_still_run_out() -> None:
    head = head_of(60)
    for i in range(1, 60):
        head = head.with_start(10 * i, i * 100)
    assert len(head.retired) == RETIRED_MARKS_MAX
    assert head.removable_end(100 + 1_000, 1_000) == 10
    for at in range(0, 20_000, 50):
        end = head.removable_end(at, 1_000)
        assert all(i * 100 + 1_000 <= at for i in range(1, 60) if 10 * i <= end)


def test_a_clock_that_goes_back_never_shortens_a_grace() -> None:
    head = head_of(4).with_start(10, 1_000).with_start(20, 400)
    assert head.removable_end(1_499, 500) == 0
    assert head.removable_end(1_500, 500) == 20


def test_pages_take_the_oldest_entries_and_leave_the_former_index_stale() -> None:
    head = head_of(10)
    ref = PageIndexRef(name(1), 0, 60, 6, 1)
    head = head.with_page(ref, 6, (), 100)
    assert [e.base_offset for e in head.tail] == [60, 70, 80, 90]
    with pytest.raises(AssertionError, match="former index"):
        head.with_page(PageIndexRef(name(2), 0, 80, 8, 1), 2, (), 100)
    head = head.with_page(PageIndexRef(name(2), 0, 80, 8, 1), 2, (name(1),), 100)
    assert head.meta_objects() == {name(1), name(2)}
    assert head.with_stale_removed(frozenset({name(1)})).meta_objects() == {name(2)}


def test_a_start_past_all_pages_retires_them_and_removal_drops_the_index() -> None:
    head = head_of(10).with_page(PageIndexRef(name(1), 0, 60, 6, 1), 6, (), 100)
    head = head.with_start(75, 200)
    assert head.retired_ms_of(60) == 200
    assert head.retired_ms_of(70) == 200
    head = head.with_retired_removed(70, 900)
    assert head.page_index is None
    assert [s.name for s in head.stale] == [name(1)]


def worst_head(version: int = FORMAT_VERSION) -> TierHead:
    head = TierHead.empty(1 << 40, version)
    for i in range(TAIL_ENTRIES_MAX):
        head = head.with_committed(
            SegmentEntry(
                (1 << 40) + i * 10**7,
                (1 << 40) + (i + 1) * 10**7,
                70_000 + i,
                bytes(range(i, i + 16)),
                1 << 30,
                1 << 30,
                (1 << 30) + 300_000,
                1_700_000_000_000 + i,
                1_700_000_900_000 + i,
                1_700_000_999_000 + i,
                70_000 + i,
                1,
                2,
                class_since_ms=1_700_000_999_000 + i,
            )
        )
    stale = tuple(
        replace_name for replace_name in (MetaObject(1 << 40, 70_000, bytes([i] * 16)) for i in range(62))
    )
    ref = PageIndexRef(MetaObject(5, 6, b"i" * 16), 1, (1 << 40) + 10**7, 10**6, 10**3)
    head = head.with_page(ref, 1, stale, 1_700_000_000_000)
    head = head.with_committed(
        head.tail[-1]._replace(base_offset=head.end, end_offset=head.end + 1, uuid=b"z" * 16)
    )
    for i in range(RETIRED_MARKS_MAX):
        head = head.with_start((1 << 40) + (i + 1) * 10**7, 1_700_000_000_000 + i)
    return head


def test_the_largest_head_stays_small() -> None:
    head = worst_head()
    assert len(head.stale) <= STALE_OBJECTS_MAX
    data = encode_head(head)
    assert decode_head(data) == head
    assert len(data) <= 7 << 10, len(data)


def full_head() -> TierHead:
    """With everything that the second version has room for."""
    head = worst_head()
    told = {
        "storage_class": 3,
        "class_since_ms": 1,
        "generation": 9,
        "origin": 16,
        "version_hash": (1 << 63) - 1,
    }
    tail = tuple(e._replace(stored_bytes=e.data_bytes - i, **told) for i, e in enumerate(head.tail))
    gone = tuple(e._replace(uuid=bytes([200 + i % 50] * 15 + [i])) for i, e in enumerate(head.tail))
    origins = tuple(f"cluster-of-old-{i:06}-abcdef" for i in range(ORIGINS_MAX))
    head = replace(head, tail=tail, origins=origins)
    return head.with_replaced(head.tail, head.page_index, (), gone, 1_800_000_000_000)


def test_the_second_version_keeps_all_that_entries_tell() -> None:
    head = full_head()
    assert len(head.displaced) == DISPLACED_MAX
    data = encode_head(head)
    assert decode_head(data) == head
    assert len(data) <= 13 << 10, len(data)


def test_a_head_is_kept_in_its_version_until_it_is_raised() -> None:
    old = TierHead.empty(0, 1).with_committed(entry(0, 10))
    found = decode_head(encode_head(old))
    assert (found.format_version, encode_head(found)[0]) == (1, 1)
    assert found.with_start(5, 1).format_version == 1
    raised = found.raised_to(2)
    assert (raised.sequence, decode_head(encode_head(raised))) == (found.sequence, raised)
    assert raised.raised_to(1) is raised
    with pytest.raises(AssertionError, match="the first version has no room"):
        old.with_replaced(old.tail, None, (), (), 1)


def test_what_a_later_release_adds_to_entries_is_skipped_and_features_are_refused() -> None:
    head = head_of(1)
    data = bytearray(encode_head(head)[:-4])
    longer = entry_body(data)
    data[longer.start - 1] += 2
    data[longer.stop : longer.stop] = b"\x07\x09"
    assert decode_head(sealed(data)) == head
    data = bytearray(encode_head(head)[:-4])
    data[1] = 2
    with pytest.raises(UnsupportedFormat, match=r"^k: uses features 0x2 of a newer release; upgrade"):
        decode_head(sealed(data), "k")


def entry_body(data: bytearray) -> slice:
    """Where the only entry lies: behind version, features, four numbers, no index, one entry, and its length."""
    start = next(at + 1 for at in range(8, len(data)) if data[at] == len(data) - at - 1 - 4)
    return slice(start, len(data) - 4)


def sealed(data: bytearray) -> bytes:
    return bytes(data) + crc32c(bytes(data)).to_bytes(4, "little")


def test_an_unknown_version_is_refused_with_one_line() -> None:
    data = bytearray(encode_head(head_of(1)))
    data[0] = 3
    with pytest.raises(UnsupportedFormat, match=r"^k: format_version 3; this release knows 1 to 2$"):
        decode_head(bytes(data), "k")


def test_damaged_heads_are_refused() -> None:
    data = encode_head(head_of(3))
    for at in range(1, len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x40
        with pytest.raises(CorruptObject):
            decode_head(bytes(broken))
    for size in range(1, len(data)):
        with pytest.raises(CorruptObject):
            decode_head(data[:size])
    with pytest.raises(CorruptObject):
        decode_head(b"")


def test_heads_of_released_versions_are_read(request: pytest.FixtureRequest) -> None:
    """``head-v1.bin`` was written by the first release; it must be read for ever, byte for byte."""
    for head, file in ((worst_head(1), "head-v1.bin"), (full_head(), "head-v2.bin")):
        data = (GOLDEN / file).read_bytes()
        assert decode_head(data) == head
        assert encode_head(replace(head)) == data
