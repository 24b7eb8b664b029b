"""What a table remembers, and which files become one."""

from __future__ import annotations

import base64
import random
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.errors import UserError
from tierlog.replay.iceberg.merging import LARGE_SHARE, Piece, merges
from tierlog.replay.iceberg.offsets import Refused, as_text, holes, left, of_text
from tierlog.replay.iceberg.packed import MARK, packed
from tierlog.types import TopicPartition

WHERE = TopicPartition("a/b.c", 3)


DAMAGED = packed({WHERE: [(0, 5)]})


@given(
    st.dictionaries(
        st.builds(TopicPartition, st.text("ab/.", min_size=1), st.integers(0, 9)),
        st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)), max_size=3),
    )
)
def test_offsets_come_back(done: dict[TopicPartition, list[tuple[int, int]]]) -> None:
    assert of_text(as_text(done)) == of_text(packed(done)) == done


@pytest.mark.parametrize("highest", [100, 2**40])
def test_offsets_of_very_many_partitions_are_packed(highest: int) -> None:
    rng = random.Random(3)
    done = {TopicPartition("flights", number): [(0, rng.randrange(highest))] for number in range(10_000)}
    text = as_text(done)
    assert text.startswith(MARK) and len(text) <= 8 * len(done) and of_text(text) == done
    one = {WHERE: [(0, 5)]}
    assert as_text(one) == '{"a/b.c/3":[[0,5]]}', "few are told so that a person can read them"


@given(st.integers(0, len(DAMAGED) - 1), st.sampled_from("Az9=é"))
def test_damaged_packed_offsets_are_told_or_the_same(at: int, letter: str) -> None:
    """Some bits of base64 mean nothing."""
    try:
        assert of_text(DAMAGED[:at] + letter + DAMAGED[at + 1 :]) == {WHERE: [(0, 5)]}
    except UserError as error:
        assert "tierlog.offsets is damaged" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"a": 3}', '{"a/x": [[1, 2]]}', '{"a/1": [[1]]}', MARK),
        *(
            MARK + base64.b64encode(zlib.compress(data)).decode()
            for data in (b"", b"{}", b"[1]\n", b'{"ranges":0}')
        ),
        MARK + base64.b64encode(zlib.compress(b'{"topics":[],"partitions":-1,"ranges":1}\n')).decode(),
        MARK
        + base64.b64encode(zlib.compress(b'{"topics":[],"partitions":1,"ranges":0}\n' + bytes(24))).decode(),
    ],
)
def test_damaged_offsets_are_told(text: str) -> None:
    with pytest.raises(UserError, match=r"tierlog\.offsets is damaged"):
        of_text(text)


def test_what_is_left() -> None:
    assert left(WHERE, [], 7, 9, skips_deleted=False) == (7, 9), "from the very beginning"
    assert left(WHERE, [(0, 5)], 3, 9, skips_deleted=False) == (5, 9)
    assert left(WHERE, [(0, 5)], 5, 5, skips_deleted=False) == (5, 5)
    assert left(WHERE, [(0, 5)], 0, 4, skips_deleted=False) == (5, 5), "a bucket lags behind its brokers"


def test_deleted_records_need_a_word() -> None:
    with pytest.raises(Refused, match="5 to 7 were deleted before they were written; --skip-deleted"):
        left(WHERE, [(0, 5)], 8, 9, skips_deleted=False)
    assert left(WHERE, [(0, 5)], 8, 9, skips_deleted=True) == (8, 9)
    assert holes([(0, 5), (8, 9), (9, 9)]) == [(5, 8), (9, 9)]


@st.composite
def tables(draw: st.DrawFn) -> list[Piece]:
    found = []
    for partition in range(draw(st.integers(1, 3))):
        at = 0
        for number in range(draw(st.integers(0, 12))):
            end = at + draw(st.integers(1, 5))
            found.append(Piece(partition, at, end, draw(st.integers(1, 120)), f"{partition}/{number}"))
            at = end + draw(st.sampled_from((0, 0, 3, -1)))
    return draw(st.permutations(found))


@given(tables(), st.booleans())
def test_merges(pieces: list[Piece], is_thrifty: bool) -> None:
    found = merges(pieces, 100, is_thrifty=is_thrifty)
    taken = [piece for group in found for piece in group]
    assert len(set(taken)) == len(taken) and set(taken) <= set(pieces)
    for group in found:
        assert len(group) > 1
        assert len({piece.partition for piece in group}) == 1
        total = sum(piece.size_bytes for piece in group)
        assert total <= 100
        assert all(piece.size_bytes < LARGE_SHARE * 100 for piece in group)
        for one, other in pairwise(group):
            assert one.end <= other.start
            between = [
                p for p in pieces if p.partition == one.partition and one.start < p.start < other.start
            ]
            assert not between, "what lies between two files is merged with them"
        assert not is_thrifty or 2 * group[0].size_bytes <= total


def test_a_thrifty_table_writes_each_record_a_few_times() -> None:
    """A file of one byte comes each hour, and is merged each time."""
    sizes: list[int] = []
    written = 0
    for _ in range(1_000):
        sizes.append(1)
        pieces = [Piece(0, n, n + 1, size, str(n)) for n, size in enumerate(sizes)]
        for group in merges(pieces, 10_000, is_thrifty=True):
            first, total = int(group[0].path), sum(piece.size_bytes for piece in group)
            sizes[first : first + len(group)] = [total]
            written += total
    assert sum(sizes) == 1_000
    assert written < 12 * 1_000
    assert len(sizes) < 15
