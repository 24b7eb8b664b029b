"""The accounts of requests: no request is lost or counted twice, however they are taken; and who pays for what is shared."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tiering.segments import KEYS, Tier, extend
from tiering.keys import deletion_marker, owner_of, topic_id_text, topic_record
from tiering.ledger.rows import ALL, Cause, Kind, LedgerRow, Operation
from tiering.metering.accounts import Account, Accounts
from tiering.metering.attribution import attributed, current, of_class
from tiering.metering.meter import Meter
from tiering.model import MetaObject, SegmentEntry
from tiering.objects.measured import MeasuredStore
from tiering.objects.memory import MemoryStore
from tiering.reading.holding import Reader
from tiering.reading.reader import RemoteReader
from tiering.tasks import begin

MIB = 1 << 20
accounts_of = st.builds(
    Account,
    st.sampled_from(["", "a" * 22, "b" * 22]),
    st.integers(-1, 3),
    st.sampled_from([Cause.COPY.value, Cause.FETCH.value]),
    st.sampled_from([Operation.GET.value, Operation.PUT.value]),
    st.sampled_from(["", "standard", "cold"]),
    st.sampled_from(["", "app"]),
)
notes = st.tuples(accounts_of, st.integers(1, 5), st.booleans(), st.integers(0, 1 << 40))


def name_of(topic_id: str) -> str:
    return topic_id[:1]


def sums(rows: list[LedgerRow]) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in rows:
        found.update({"requests": row.requests, "failed": row.failed, "sent": row.sent_bytes})
    return found


@given(st.lists(st.lists(notes, max_size=8), max_size=6), st.integers(1, 6), st.data())
def test_what_is_drained_is_what_was_told(
    pieces: list[list[tuple[Account, int, bool, int]]], rows_max: int, data: st.DataObject
) -> None:
    """Whatever is drained, given back or told by another process between."""
    accounts, written = Accounts(rows_max), list[LedgerRow]()
    expected: Counter[str] = Counter()
    for piece in pieces:
        elsewhere = Accounts()
        told_to = data.draw(st.sampled_from([accounts, elsewhere]))
        for account, requests, failed, size_bytes in piece:
            told_to.add(account, requests, requests * failed, size_bytes)
            expected.update({"requests": requests, "failed": requests * failed, "sent": size_bytes})
        accounts.hear(json.loads(json.dumps(elsewhere.tell())))
        rows = list(accounts.drain(name_of))
        assert len(rows) <= rows_max + 2 * 3, "one more for each operation and class"
        written += rows
    written += list(accounts.drain(name_of))
    assert +sums(written) == +expected
    assert {(row.hour_ms, row.broker_id, row.kind) for row in written} <= {(0, 0, Kind.REQUESTS)}
    assert all(row.topic == row.topic_id[:1] for row in written)
    assert sum(each.requests for each in accounts.totals.values()) == expected["requests"]
    assert not list(accounts.drain(name_of))


def test_beyond_the_bound_requests_lose_their_topic_and_nothing_else() -> None:
    accounts = Accounts(rows_max=100, topic_rows_max=10)
    for n in range(1_000):
        account = Account(f"{n:022}", n, Cause.FETCH, Operation.GET, "cold", f"client {n}")
        accounts.add(account, received_bytes=10)
    rows = list(accounts.drain(name_of))
    (rest,) = [row for row in rows if not row.topic_id]
    assert (len(rows), rest.requests, rest.received_bytes) == (101, 900, 9_000)
    assert (rest.partition, rest.cause, rest.operation, rest.storage_class) == (ALL, "other", "get", "cold")
    assert accounts.folded_count == 900
    assert len(accounts.by_topic) == 10
    accounts.forget_topics(f"{n:022}" for n in range(5))
    assert len(accounts.by_topic) == 5
    assert sum(each.requests for each in accounts.totals.values()) == 1_000


def test_whose_an_object_is() -> None:
    owner = topic_id_text(KEYS.topic_id), KEYS.partition
    entry = SegmentEntry(0, 9, 0, bytes(16), 1, 1, 1, 0, 0, 0, 0)
    meta = MetaObject(1, 2, bytes(16))
    of_partition = [KEYS.segment(entry), KEYS.page(meta), KEYS.page_index(meta), KEYS.head_copy(3)]
    of_partition += [KEYS.segments_prefix, KEYS.meta_prefix, KEYS.unordered_head_copy]
    assert [owner_of(key) for key in of_partition] == [owner] * len(of_partition)
    of_topic = [topic_record("c", KEYS.topic_id), deletion_marker("c", KEYS.topic_id)]
    assert [owner_of(key) for key in of_topic] == [(owner[0], ALL)] * 2
    of_nobody = ["", "meta/cluster.json", "meta/c/deleted/", "doctor-0123", "a/b/c/d/e"]
    assert [owner_of(key) for key in of_nobody] == [("", ALL)] * len(of_nobody)


async def test_a_task_keeps_what_held_when_it_began() -> None:
    go_on = asyncio.Event()

    async def ask() -> Cause:
        await go_on.wait()
        return current().cause

    with attributed(Cause.COPY):
        task = begin(ask())
        with of_class("cold"):
            assert current() == (Cause.COPY, "", "", "cold")
    with attributed(Cause.SWEEP):
        go_on.set()
        assert await task is Cause.COPY
        assert current().cause is Cause.SWEEP
    assert current().cause is Cause.OTHER


async def test_a_request_that_was_given_up_counts_and_one_that_never_left_does_not() -> None:
    meter = Meter()
    with pytest.raises(asyncio.CancelledError), meter.asked(Operation.GET, "k"):
        raise asyncio.CancelledError
    with pytest.raises(OSError, match="tcp"), meter.asked(Operation.GET, "k"):
        raise OSError("error sending request: tcp connect error: Connection refused")
    with pytest.raises(OSError, match="reset"), meter.asked(Operation.PUT, "k", sent_bytes=5):
        raise OSError("connection reset")
    rows = list(meter.accounts.drain(name_of))
    assert [(row.operation, row.requests, row.failed, row.sent_bytes) for row in rows] == [
        ("get", 1, 1, 0),
        ("put", 1, 1, 5),
    ]


async def test_whoever_asks_first_pays_for_a_shared_chunk(tmp_path: Path) -> None:
    """And the loads of one client, begun when another one made room, are still the first one's."""
    store = MeasuredStore(MemoryStore())
    tier = Tier(store, tmp_path)
    await tier.add(extend(tier.log, random.Random(3), 120, payload_bytes=(20_000, 30_000)))
    list(store.stats.accounts.drain(name_of))
    reader = RemoteReader(store, chunk_bytes=MIB, cache_bytes=32 * MIB)

    async def consume(client: str) -> None:
        offset = 0
        who = Reader((client, "10.0.0.1"), client)
        while offset < tier.head.end:
            deadline_s = asyncio.get_running_loop().time() + 30
            read = await reader.read(tier.partition, offset, MIB, deadline=deadline_s, reader=who)
            read.accept()
            offset = read.next_offset

    await consume("first")
    await consume("second")
    rows = list(store.stats.accounts.drain(name_of))
    assert {(row.cause, row.client_id, row.host, row.operation) for row in rows} == {
        ("fetch", "first", "10.0.0.1", "get")
    }
    assert {(row.topic_id, row.partition, row.storage_class) for row in rows} == {
        (topic_id_text(KEYS.topic_id), KEYS.partition, "standard")
    }
    assert sum(row.received_bytes for row in rows) == reader.stats.fetched_bytes
    assert sum(row.requests for row in rows) == reader.stats.get_count
    await reader.close()
