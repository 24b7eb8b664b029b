"""Committed offsets as records, in the kernel and by its twin: the same bytes, or left to the twin."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog import kernel
from tierlog.coordination import records
from tierlog.coordination.records import (
    CommittedOffset,
    Event,
    GroupStored,
    OffsetCommitted,
    decode_event,
    encode_event,
    encode_events,
)
from tierlog.records.batch import parse_header, verify_crc
from tierlog.records.records import batch_around, read_records
from tierlog.wire.messages.group_records import GroupMetadataValue
from tierlog.wire.schema import ZERO_UUID

int32s, int64s = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
names = st.one_of(st.text(max_size=20), st.sampled_from(["", "x" * 200, "ü" * 500]))
committed = st.builds(CommittedOffset, int64s, int32s, names, int64s, st.just(-1), st.just(ZERO_UUID))
commits = st.builds(OffsetCommitted, names, names, int32s, st.one_of(st.none(), committed))
unusual: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        CommittedOffset, int64s, st.just(-1), names, int64s, st.integers(0, 2**63 - 1), st.just(ZERO_UUID)
    ).map(lambda value: OffsetCommitted("g", "t", 0, value)),
    st.builds(CommittedOffset, int64s, int32s, names, int64s, st.just(-1), st.just(b"\1" * 16)).map(
        lambda value: OffsetCommitted("g", "t", 0, value)
    ),
    st.just(GroupStored("g", None)),
    st.just(
        GroupStored(
            "g", GroupMetadataValue(generation=0, protocol=None, leader=None, current_state_timestamp=5)
        )
    ),
)


def by_twin(events: list[Event], start: int, bytes_max: int) -> tuple[bytes, int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "compiled", None)
        return encode_events(events, start, bytes_max)


@given(st.lists(st.one_of(commits, commits, unusual), min_size=1, max_size=20), st.integers(0, 2000))
def test_all_events_come_back_whatever_the_room(events: list[Event], bytes_max: int) -> None:
    start = 0
    while start < len(events):
        body, end = encode_events(events, start, bytes_max)
        assert (body, end) == by_twin(events, start, bytes_max)
        assert end == start + 1 or (end > start and len(body) <= bytes_max)
        batch = batch_around(body, end - start, 7)
        header = parse_header(batch)
        assert verify_crc(batch, 0, header)
        found = read_records(batch, 0, header)
        assert [(r.offset, r.timestamp) for r in found] == [(n, 7) for n in range(end - start)]
        for record, event in zip(found, events[start:end], strict=True):
            assert record.key is not None
            value = None if record.value is None else bytes(record.value)
            assert (bytes(record.key), value) == encode_event(event)
            assert decode_event(bytes(record.key), value) == event
        start = end


@pytest.mark.skipif(kernel.compiled is None, reason="no kernel here")
class TestInTheKernel:
    @given(st.lists(commits, min_size=1, max_size=20), st.integers(0, 5))
    def test_ordinary_events_are_for_it(self, events: list[Event], start: int) -> None:
        assert kernel.compiled is not None
        found = kernel.compiled.offset_records(events, start, 1 << 30)
        assert found == (None if start >= len(events) else by_twin(events, start, 1 << 30))

    @given(st.lists(commits, max_size=5), unusual)
    def test_others_are_not(self, events: list[Event], other: Event) -> None:
        assert kernel.compiled is not None
        assert kernel.compiled.offset_records([*events, other], 0, 1 << 30) is None

    @pytest.mark.parametrize(
        "event",
        [
            None,
            (),
            ("g", "t", 0),
            OffsetCommitted("x" * 32_768, "t", 0, None),
            OffsetCommitted("\ud800", "t", 0, None),
            OffsetCommitted("g", "t", 2**31, None),
            ("g", "t", 0.0, None),
            ("g", "t", 2**80, None),
            ("g", "t", 0, (1, 2)),
            ("g", "t", 0, (1, 2, "", 3, -1, bytearray(16))),
            ("g", "t", 0, (1, 2, "", 3, -1, bytes(15))),
            ("g", "t", 0, (1, 2, b"", 3, -1, bytes(16))),
            ("g", "t", 0, (2**63, 2, "", 3, -1, bytes(16))),
        ],
    )
    def test_nor_what_is_no_event(self, event: Any) -> None:
        assert kernel.compiled is not None
        usual = OffsetCommitted("g", "t", 0, None)
        assert kernel.compiled.offset_records([usual, event], 0, 1 << 30) is None
        assert kernel.compiled.offset_records((usual,), 0, 1 << 30) is None
        assert kernel.compiled.offset_records([usual], -1, 1 << 30) is None
        assert kernel.compiled.offset_records([usual], 0, -1) is None
