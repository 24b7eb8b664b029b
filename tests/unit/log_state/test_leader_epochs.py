"""Epoch lineage: Kafka's answers, conflicts dropped, checkpoint text; and against a plain model of a log."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.log.leader_epochs import EpochLineage
from tierlog.types import EpochEntry

LINEAGE = [(1, 0), (3, 10), (4, 25)]


def test_end_offsets_as_kafka_answers() -> None:
    lineage = EpochLineage(LINEAGE)
    answers = {epoch: lineage.end_offset_for(epoch, 40) for epoch in (-1, 0, 1, 2, 3, 4, 5)}
    assert answers == {
        -1: (-1, -1),
        0: (0, 0),  # below all known: ends where the first one starts
        1: (1, 10),
        2: (1, 10),  # unknown in between: the floor epoch and where the next starts
        3: (3, 25),
        4: (4, 40),  # the latest ends at the log end
        5: (-1, -1),
    }
    assert EpochLineage().end_offset_for(0, 0) == (-1, -1)


def test_epoch_for_offset() -> None:
    lineage = EpochLineage([(1, 5), (3, 10)])
    assert [lineage.epoch_for_offset(offset) for offset in (4, 5, 9, 10, 99)] == [None, 1, 1, 3, 3]


@pytest.mark.parametrize(
    ("assigned", "entries"),
    [
        ((4, 30), [(1, 0), (3, 10), (4, 25)]),
        ((5, 30), [(1, 0), (3, 10), (4, 25), (5, 30)]),
        ((5, 25), [(1, 0), (3, 10), (5, 25)]),  # epoch 4 wrote nothing
        ((5, 10), [(1, 0), (5, 10)]),
        ((3, 25), [(1, 0), (3, 10)]),  # an older epoch goes on: 4 was empty here
        ((2, 5), [(1, 0), (2, 5)]),
        ((4, 25), [(1, 0), (3, 10), (4, 25)]),
        ((4, 20), [(1, 0), (3, 10), (4, 20)]),
        ((0, 0), [(0, 0)]),
        ((-1, 50), [(1, 0), (3, 10), (4, 25)]),  # batches without an epoch say nothing
    ],
)
def test_assign_drops_what_it_contradicts(assigned: tuple[int, int], entries: list[tuple[int, int]]) -> None:
    lineage = EpochLineage(LINEAGE)
    changed = lineage.assign(*assigned)
    assert lineage.entries == tuple(EpochEntry(*entry) for entry in entries)
    assert changed is (entries != LINEAGE)


def test_truncation_from_both_ends() -> None:
    lineage = EpochLineage(LINEAGE)
    assert not lineage.truncate_from_end(26)
    assert lineage.truncate_from_end(25) and lineage.latest == EpochEntry(3, 10)
    assert lineage.truncate_from_end(0) and lineage.latest is None and lineage.latest_epoch == -1
    lineage = EpochLineage(LINEAGE)
    assert not lineage.truncate_from_start(0)
    assert lineage.truncate_from_start(12) and lineage.entries == ((3, 12), (4, 25))
    assert lineage.truncate_from_start(100) and lineage.earliest == EpochEntry(4, 100)
    assert EpochLineage(LINEAGE).within(5, 25) == ((1, 5), (3, 10))


def test_checkpoint_text_is_kafkas() -> None:
    text = "0\n3\n1 0\n3 10\n4 25\n"
    assert EpochLineage(LINEAGE).encode() == text
    assert EpochLineage.decode(text) == EpochLineage(LINEAGE)
    assert EpochLineage.decode(EpochLineage().encode()).latest is None


@pytest.mark.parametrize("text", ["", "0", "1\n0\n", "0\n2\n1 0\n", "0\n1\n1\n", "0\nx\n", "0\n1\na b\n"])
def test_a_broken_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        EpochLineage.decode(text)


class ModelLog:
    """The epoch of each offset, and the current leader's own (epoch, log end): the lineage is a function of both."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.start = 0

    def expected(self) -> list[tuple[int, int]]:
        entries: list[tuple[int, int]] = []
        for offset, epoch in enumerate(self.epochs):
            if offset >= self.start and (not entries or entries[-1][0] != epoch):
                entries.append((epoch, offset))
        return entries


@given(st.lists(st.tuples(st.sampled_from(["append", "cut", "advance"]), st.integers(0, 12)), max_size=60))
def test_lineage_is_a_function_of_the_log(actions: list[tuple[str, int]]) -> None:
    model, lineage, epoch = ModelLog(), EpochLineage(), 0
    for action, number in actions:
        if action == "append":
            epoch += number // 6
            for _ in range(number % 6):
                lineage.assign(epoch, len(model.epochs))
                model.epochs.append(epoch)
        elif action == "cut":
            end = max(model.start, len(model.epochs) - number)
            del model.epochs[end:]
            lineage.truncate_from_end(end)
        elif model.epochs:
            model.start = max(model.start, min(len(model.epochs) - 1, model.start + number))
            lineage.truncate_from_start(model.start)
        assert list(lineage.entries) == model.expected()
        for offset in range(model.start, len(model.epochs)):
            assert lineage.epoch_for_offset(offset) == model.epochs[offset]


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 30)), max_size=25),
    st.integers(0, 9),
    st.integers(30, 40),
)
def test_any_assignments_keep_entries_strictly_growing(
    assigned: list[tuple[int, int]], asked: int, log_end_offset: int
) -> None:
    lineage = EpochLineage()
    for epoch, offset in assigned:
        lineage.assign(epoch, offset)
        assert lineage.latest_epoch == epoch
    entries = lineage.entries
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(entries))
    epoch, end = lineage.end_offset_for(asked, log_end_offset)
    higher = [entry for entry in entries if entry[0] > asked]
    floor = [entry for entry in entries if entry[0] <= asked]
    if entries and entries[-1][0] == asked:
        assert (epoch, end) == (asked, log_end_offset)
    elif not higher:
        assert (epoch, end) == (-1, -1)
    else:
        assert (epoch, end) == (floor[-1][0] if floor else asked, higher[0][1])
