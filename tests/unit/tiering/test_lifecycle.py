"""Each rule of the orphan protocol and of topic deletion, by itself."""

from __future__ import annotations

import pytest

from tests.unit.tiering.heads import entry, head_of
from tests.unit.tiering.heads import name as meta_name
from tiering.catalog import Catalog, EntryColumns
from tiering.errors import CorruptObject, UnsupportedFormat
from tiering.keys import SegmentName
from tiering.lifecycle import (
    SECOND_SWEEP_MS,
    Attempts,
    DeletionMarker,
    Named,
    PurgeStep,
    TopicState,
    after_step,
    purge_step,
)
from tiering.model import PageIndexRef, SegmentEntry, TierHead


def name_of(e: SegmentEntry) -> SegmentName:
    return SegmentName(e.base_offset, e.end_offset, e.leader_epoch, e.uuid)


HEAD = head_of(2, epoch=5)
NEXT = entry(20, 30, epoch=5)


def test_o1_older_epochs_that_the_head_does_not_name_go_at_once() -> None:
    attempts = Attempts(leader_epoch=5)
    zombie = name_of(entry(20, 30, number=99, epoch=4))
    named = name_of(HEAD.tail[1])
    assert attempts.sweep([zombie, named], Named(Catalog(HEAD))) == (zombie,)


def test_o1_older_epochs_that_a_page_names_stay() -> None:
    paged = HEAD.with_page(PageIndexRef(meta_name(1), 0, 10, 1, 1), 1, (), 0)
    catalog = Catalog(paged, EntryColumns.of(HEAD.tail[:1]))
    assert Attempts(leader_epoch=6).sweep([name_of(e) for e in HEAD.tail], Named(catalog)) == ()


def test_o2_a_failed_upload_and_a_refused_commit_go_at_once() -> None:
    attempts = Attempts(leader_epoch=5)
    attempts.copying(name_of(NEXT))
    attempts.failed(NEXT.uuid)
    assert attempts.settle(Named(Catalog(HEAD))) == (name_of(NEXT),)
    attempts.deleted([NEXT.uuid])
    attempts.copying(name_of(NEXT))
    attempts.committing(NEXT.uuid, HEAD.sequence)
    attempts.failed(NEXT.uuid)
    assert attempts.settle(Named(Catalog(HEAD))) == (name_of(NEXT),)


def test_o3_an_unknown_outcome_waits_for_a_later_head_that_does_not_name_it() -> None:
    attempts = Attempts(leader_epoch=5)
    attempts.copying(name_of(NEXT))
    attempts.committing(NEXT.uuid, HEAD.sequence)
    attempts.unknown(NEXT.uuid)
    assert attempts.settle(Named(Catalog(HEAD))) == (), "the delayed commit may still be applied"
    later = HEAD.with_committed(entry(20, 25, number=77, epoch=5))
    assert attempts.settle(Named(Catalog(later))) == (name_of(NEXT),)


def test_o3_an_unknown_outcome_that_was_applied_is_forgotten() -> None:
    attempts = Attempts(leader_epoch=5)
    attempts.copying(name_of(NEXT))
    attempts.committing(NEXT.uuid, HEAD.sequence)
    attempts.unknown(NEXT.uuid)
    assert attempts.settle(Named(Catalog(HEAD.with_committed(NEXT)))) == ()
    assert len(attempts) == 0


def test_o3_an_object_of_this_epoch_that_nobody_remembers_waits_too() -> None:
    attempts = Attempts(leader_epoch=5)
    stranger = name_of(entry(20, 30, number=99, epoch=5))
    assert attempts.sweep([stranger], Named(Catalog(HEAD))) == ()
    assert attempts.settle(Named(Catalog(HEAD))) == ()
    assert attempts.settle(Named(Catalog(HEAD.with_start(5, 1)))) == (stranger,)


def test_what_is_under_way_is_never_swept() -> None:
    attempts = Attempts(leader_epoch=5)
    attempts.copying(name_of(NEXT))
    assert attempts.sweep([name_of(NEXT)], Named(Catalog(HEAD.with_start(5, 1)))) == ()
    assert attempts.settle(Named(Catalog(HEAD.with_start(5, 1)))) == ()


def test_o4_newer_epochs_are_left_alone() -> None:
    attempts = Attempts(leader_epoch=5)
    successor = name_of(entry(20, 30, number=99, epoch=6))
    assert attempts.sweep([successor], Named(Catalog(HEAD))) == ()
    assert len(attempts) == 0


def test_an_attempt_never_goes_back() -> None:
    attempts = Attempts(leader_epoch=5)
    attempts.copying(name_of(NEXT))
    with pytest.raises(AssertionError):
        attempts.unknown(NEXT.uuid)
    attempts.failed(NEXT.uuid)
    with pytest.raises(AssertionError):
        attempts.committing(NEXT.uuid, 1)


def test_a_deleted_topic_is_purged_step_by_step() -> None:
    marker: DeletionMarker | None = DeletionMarker(bytes(16), "t", 3, TopicState.MARKED, 1_000)
    steps = []
    now = 1_000
    while marker is not None:
        step = purge_step(marker, 500, now)
        if step is PurgeStep.WAIT:
            now += 100
            continue
        steps.append((now, step))
        marker = after_step(marker, step, now)
    assert steps == [
        (1_500, PurgeStep.BEGIN),
        (1_500, PurgeStep.SWEEP),
        (1_500 + SECOND_SWEEP_MS, PurgeStep.FINISH),
    ]


def test_markers_survive_as_bytes() -> None:
    marker = DeletionMarker(bytes(range(16)), "täglich", 3, TopicState.PURGING, 1_000)
    assert DeletionMarker.decode(marker.encode(), "k") == marker
    with pytest.raises(UnsupportedFormat, match="format_version 2"):
        DeletionMarker.decode(marker.encode().replace(b'n": 1', b'n": 2'), "k")
    for junk in (b"", b"[]", b"{}", marker.encode().replace(b"purging", b"gone")):
        with pytest.raises(CorruptObject):
            DeletionMarker.decode(junk, "k")


def test_an_empty_head_references_nothing() -> None:
    assert not Catalog(TierHead.empty()).references(0, bytes(16))
