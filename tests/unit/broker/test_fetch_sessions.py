"""Incremental fetch sessions answer as KIP-227 says."""

from __future__ import annotations

from itertools import count

import pytest

from tierlog.broker.fetch import sessions as fetch_sessions
from tierlog.broker.fetch.sessions import (
    LARGE_COUNT,
    LARGE_WAIT_MS,
    MAX_SESSION_PARTITIONS,
    MIN_EVICTION_IDLE_S,
    FetchSessions,
    is_news,
)
from tierlog.errors import ErrorCode
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic

ID = bytes(range(16))


def request(
    session_id: int, epoch: int, partitions: dict[int, int], forgotten: list[int] | None = None
) -> FetchRequest:
    topics = []
    if partitions:
        rows = [
            FetchPartition(partition=p, fetch_offset=o, partition_max_bytes=100)
            for p, o in partitions.items()
        ]
        topics = [FetchTopic(topic_id=ID, partitions=rows)]
    return FetchRequest(
        session_id=session_id,
        session_epoch=epoch,
        topics=topics,
        forgotten_topics_data=[ForgottenTopic(topic_id=ID, partitions=forgotten)] if forgotten else [],
    )


def sessions(slots: int = 10) -> FetchSessions:
    ids = count(7)
    return FetchSessions(slots, lambda: next(ids))


def test_a_session_is_opened_continued_and_changed() -> None:
    cache = sessions()
    opened = cache.resolve(request(0, 0, {0: 5, 1: 6}), 13, 0.0)
    assert (opened.error, opened.session_id, opened.is_incremental) == (ErrorCode.NONE, 7, False)
    second = cache.resolve(request(7, 1, {1: 9}, forgotten=[0]), 13, 1.0)
    assert second.is_incremental
    assert [(p.partition, p.fetch_offset) for p in second.partitions] == [(1, 9)]
    third = cache.resolve(request(7, 2, {}), 13, 2.0)
    assert [(p.partition, p.fetch_offset) for p in third.partitions] == [(1, 9)]


def test_wrong_ids_epochs_and_kinds() -> None:
    cache = sessions()
    cache.resolve(request(0, 0, {0: 5}), 13, 0.0)
    assert cache.resolve(request(8, 1, {}), 13, 0.0).error is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert cache.resolve(request(7, 5, {}), 13, 0.0).error is ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert cache.resolve(request(7, 1, {}), 12, 0.0).error is ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_final_epoch_closes_and_epoch_zero_replaces() -> None:
    cache = sessions()
    cache.resolve(request(0, 0, {0: 5}), 13, 0.0)
    replaced = cache.resolve(request(7, 0, {0: 5}), 13, 0.0)
    assert (replaced.session_id, len(cache)) == (8, 1)
    closed = cache.resolve(request(8, -1, {0: 5}), 13, 0.0)
    assert (closed.session_id, len(cache), len(closed.partitions)) == (0, 0, 1)


def test_an_empty_session_is_opened_but_does_not_stay() -> None:
    cache = sessions()
    assert cache.resolve(request(0, 0, {}), 13, 0.0).session_id == 7
    assert cache.resolve(request(7, 1, {}), 13, 0.0)[1:] == (None, [], False)
    assert len(cache) == 0
    assert cache.resolve(request(0, 0, {0: 5}), 13, 0.0).session_id == 8
    assert cache.resolve(request(8, 1, {}, forgotten=[0]), 13, 0.0).session_id == 0
    assert cache.resolve(request(8, 2, {}), 13, 0.0).error is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_partition_named_twice_is_asked_for_once() -> None:
    asked = request(0, -1, {0: 5, 1: 6})
    asked.topics.append(FetchTopic(topic_id=ID, partitions=[FetchPartition(partition=0, fetch_offset=9)]))
    found = sessions().resolve(asked, 13, 0.0).partitions
    assert [(p.partition, p.fetch_offset) for p in found] == [(0, 9), (1, 6)]


def test_no_session_without_room_until_one_is_idle() -> None:
    cache = sessions(slots=1)
    assert cache.resolve(request(0, 0, {0: 5}), 13, 0.0).session_id == 7
    assert cache.resolve(request(0, 0, {0: 5}), 13, 1.0).session is None
    assert cache.resolve(request(0, 0, {0: 5}), 13, MIN_EVICTION_IDLE_S + 1).session_id == 8
    assert (len(cache), cache.evicted_count) == (1, 1)


def test_news_is_data_errors_and_moved_watermarks() -> None:
    partition = sessions().resolve(request(0, 0, {0: 5}), 13, 0.0).partitions[0]
    assert is_news(partition, False, 0, 10, 0)
    assert not is_news(partition, False, 0, 10, 0)
    assert is_news(partition, False, 0, 11, 0)
    assert is_news(partition, True, 0, 11, 0)
    assert is_news(partition, False, ErrorCode.KAFKA_STORAGE_ERROR, 11, 0)
    assert is_news(partition, False, 0, 11, 0), "the end of an error is told"
    assert not is_news(partition, False, 0, 11, 0)


def test_who_asks_for_very_much_is_answered_soon() -> None:
    cache = sessions()
    much = cache.resolve(request(0, -1, dict.fromkeys(range(LARGE_COUNT + 1), 0)), 13, 0.0)
    assert much.wait_ms(2**31 - 1) == LARGE_WAIT_MS
    assert much.wait_ms(10) == 10
    little = cache.resolve(request(0, -1, dict.fromkeys(range(LARGE_COUNT), 0)), 13, 0.0)
    assert little.wait_ms(2**31 - 1) == 2**31 - 1


def test_a_session_holds_a_bounded_number_of_partitions() -> None:
    cache = sessions()
    many = cache.resolve(request(0, 0, dict.fromkeys(range(MAX_SESSION_PARTITIONS + 1), 5)), 13, 0.0)
    assert (many.error, many.session, len(many.partitions)) == (
        ErrorCode.NONE,
        None,
        MAX_SESSION_PARTITIONS + 1,
    )
    full = cache.resolve(request(0, 0, dict.fromkeys(range(MAX_SESSION_PARTITIONS), 5)), 13, 0.0)
    assert full.session is not None
    assert cache.resolve(request(full.session_id, 1, {0: 7}), 13, 0.0).error is ErrorCode.NONE
    moved = request(full.session_id, 2, {MAX_SESSION_PARTITIONS: 7}, forgotten=[0])
    assert cache.resolve(moved, 13, 0.0).error is ErrorCode.NONE
    assert cache.partition_count == MAX_SESSION_PARTITIONS
    grown = cache.resolve(request(full.session_id, 3, {0: 7}), 13, 0.0)
    assert grown.error is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert len(cache) == 0


def test_all_sessions_together_hold_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_sessions, "MAX_PARTITIONS", 5)
    cache = sessions()
    first = cache.resolve(request(0, 0, {0: 5, 1: 5, 2: 5}), 13, 0.0)
    assert first.session is not None
    assert cache.resolve(request(0, 0, {0: 5, 1: 5, 2: 5}), 13, 0.0).session is None
    second = cache.resolve(request(0, 0, {0: 5, 1: 5}), 13, 0.0)
    assert second.session is not None
    assert cache.resolve(request(first.session_id, 1, {}), 13, 0.0).error is ErrorCode.NONE
    assert (
        cache.resolve(request(first.session_id, 2, {3: 1}), 13, 0.0).error
        is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    )
    assert cache.resolve(request(second.session_id, 1, {3: 1}), 13, 0.0).error is ErrorCode.NONE
