"""Directed scenarios: the shortest stories behind faults that chance meets too seldom.

Each runs clean with the production rules; with the mutant of ``KEPT`` it must break an invariant. The verbs deliver
everything at once, except what a story holds back.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.model import tiering_world
from tests.sim import scenarios_of_proofs, scenarios_of_sessions
from tests.sim.clients import Attempt
from tests.sim.disk import GONE
from tests.sim.story import Story, lose_and_return
from tests.sim.tier import SimTier
from tiering.catalog import EntryColumns
from tiering.keys import SegmentName
from tiering.lifecycle import Attempts, Named
from tiering.model import MetaObject, SegmentEntry, TierHead
from tiering.pages import Pages, lost_entry, move_to_page
from tierlog.metadata.control import controller
from tierlog.metadata.control.election import ClusterFacts, desired
from tierlog.metadata.records import LogEnd, PartitionState


def delayed_response() -> None:
    """Broker 1 truncates, comes back into the ISR, and then meets the reply that made it truncate once more."""
    s = Story()
    s.fetch_up(2, 3)
    s.produce(1, 2)
    s.fetch_up(2, 3)
    s.produce(1, 2)  # only there
    s.expire(1)
    s.metadata(2, rounds=4)
    s.keep_alive()
    s.metadata(rounds=6)
    s.produce(2, 2)
    s.send_fetch(1)
    (request,) = s.hold_messages()
    request.deliver()
    (reply,) = s.hold_messages()
    reply.deliver()
    s.fetch_up(1, 3)
    s.metadata(rounds=3)
    s.replica(2).change_isr(10**9)
    s.world.store.settle()
    s.fetch_up(1, 3)
    s.send_fetch(1)
    s.hold_messages()
    reply.deliver()
    s.world.converge()


def empty_epoch() -> None:
    """Broker 2 leads an epoch without a record, then follows one that has records of an older epoch, then leads."""
    s = Story()
    s.fetch_up(2, 3)
    s.produce(1, 2)
    s.fetch_up(2, 3)
    s.produce(1, 2)
    s.fetch(3, rounds=1)  # 3 has them, 2 does not
    s.expire(1)
    s.metadata(2, rounds=3)
    s.see(2, 3)
    assert s.replica(2).leader is not None
    s.expire(2)
    s.metadata(3, rounds=4)
    assert s.replica(3).leader is not None
    s.metadata(rounds=6)
    s.fetch_up(1, 2)
    s.replica(3).change_isr(10**9)
    s.world.store.settle()
    s.metadata(rounds=3)
    s.fetch_up(1, 2)
    s.produce(3, 1)
    s.fetch_up(1, 2)
    s.expire(3)
    s.metadata(2, rounds=4)
    s.metadata(rounds=6)
    s.world.converge()


def joins_as_another() -> None:
    """Broker 3 catches up while it is fenced, loses its data, registers anew; its old fetch must not let it in."""
    s = Story()
    s.fetch_up(2, 3)
    s.expire(3)
    s.metadata(1, rounds=3)  # out of the ISR
    s.produce(1, 3)
    s.fetch_up(2, 3)
    lose_and_return(s)
    s.replica(1).change_isr(10**9)
    s.world.store.settle()
    s.world.converge()


def joins_too_late() -> None:
    """The change that lets broker 3 in is under way while it loses its data and registers anew."""
    s = Story()
    s.fetch_up(2, 3)
    s.produce(1, 1)
    s.fetch_up(2)
    s.world.now_ms += 1
    s.replica(1).leader.followers[3].last_caught_up_ms = -(10**9)  # type: ignore[union-attr]
    s.shrink(1)
    s.metadata(1)
    s.produce(1, 3)
    s.fetch_up(2, 3)
    change = s.hold_calls()
    assert len(change) == 1
    lose_and_return(s)
    s.release(change)
    s.world.converge()


def truncated_tail_returns() -> None:
    """Broker 1 truncates, fetches what was committed instead, checkpoints the watermark, and loses power."""
    s = Story(flush_acks=True)
    brokers = (1, 2, 3)

    def replicate(*followers: int, rounds: int = 8) -> None:
        for _ in range(rounds):
            for b in brokers:
                if b != 1 or 1 in followers:
                    s.replica(b).sync()
            s.fetch(*followers, rounds=1)

    replicate(2, 3)
    s.produce(1, 2)
    s.replica(1).sync()
    replicate(2, 3)
    s.produce(1, 4)  # only there
    s.replica(1).sync()
    s.expire(1)
    s.metadata(2, rounds=4)
    s.see(2, 3)
    s.produce(2, 6)
    replicate(3)
    s.see(1)
    for _ in range(3):
        s.fetch(1, rounds=1)
    s.replica(1).checkpoint()
    assert s.replica(1).checkpointed_high_watermark > 2
    s.broker(1).end("power loss")
    s.broker(1).start()
    s.world.converge()


def zombie_tier_commit() -> None:
    """Broker 1 has uploaded a segment, is deposed, and commits it after its successor has swept the bucket."""
    s = Story(is_tiered=True)
    s.fetch_up(2, 3)
    s.produce(1, 12)
    s.fetch_up(2, 3)
    bucket = s.world.buckets[0]
    while not bucket.contents:
        s.replica(1).copy_step()
    s.expire(1)
    s.metadata(2, rounds=4)
    s.see(2, 3)
    for _ in range(2):
        s.fetch_up(3)
        s.metadata(2)
    successor = SimTier(s.replica(2), bucket, Attempts)
    for _ in successor.sweep():
        pass
    assert not bucket.contents
    for _ in range(5):
        s.replica(1).copy_step()
        bucket.check_tier()
    s.world.converge()


def zombie_tier_sweep() -> None:
    """A deposed leader sweeps between its successor's upload and commit."""
    tiering_world.zombie_sweeps(Story().world.attempts)


def removed_though_listed() -> None:
    """A page, read or lost, covers a segment that was removed, and whose object may stand still."""
    head = TierHead.empty()
    for n in range(4):
        entry = SegmentEntry(5 * n, 5 * n + 5, 1, bytes([n] * 16), 100, 100, 100, -1, -1, 0, 1)
        head = head.with_committed(entry)
    first, second = (SegmentName(*entry[:4]) for entry in head.tail[:2])
    move = move_to_page(head, Pages(), 3, MetaObject(4, 1, bytes(16)), MetaObject(4, 1, bytes([9] * 16)))
    head = head.with_page(move.index_ref, 3, move.replaced, 0)
    head = head.with_start(5, 0).with_retired_removed(5, 0)
    (row,) = move.pages.rows
    lost = Pages((row,), EntryColumns.of([lost_entry(row, head)]), (row,))
    for pages in (move.pages, lost):
        named = Named.of(head, pages)
        assert second in named, "O5: what may still be read is named no more"
        assert first not in named, "O5: what was removed is still named"


def tier_start_then_duplicate() -> None:
    """Broker 3 has lost its disk, starts from the tier, leads, and gets a batch that was appended long before."""
    s = Story(is_tiered=True)
    s.fetch_up(2, 3)
    attempts = [Attempt(s.world, 0, 100 + n, 0, n) for n in range(10)]
    for attempt in attempts:
        s.replica(1).produce(attempt)
    s.produce(1, 8)
    s.fetch_up(2, 3)
    while s.world.buckets[0].read()[0].end < 10:
        s.replica(1).copy_step()
    s.replica(1).delete_local()
    s.replica(2).delete_local()
    lose_and_return(s)
    for _ in range(10):
        s.fetch_up(3)
        s.metadata(rounds=2)
    s.world.checker._forget_made_up_losses()
    for leader in (1, 2):
        s.expire(leader)
        for _ in range(4):
            s.metadata(3)
    s.see(3)
    assert s.replica(3).leader is not None
    for _ in range(6):
        s.keep_alive()
        s.metadata()
        s.fetch_up(1, 2)
        s.replica(3).change_isr(10**9)
        s.world.store.settle()
    s.replica(3).produce(attempts[-1])
    s.keep_alive()
    s.world.converge()


def diverged_below_the_tier() -> None:
    """Broker 1 has a tail of its own that reaches behind the tiered end; broker 3, which has to tell it where it begins,
    has started from the tier."""
    s = Story(is_tiered=True)
    s.fetch_up(2, 3)
    s.produce(1, 4)
    s.fetch_up(2, 3)
    s.produce(1, 20)  # only there
    s.expire(1)
    s.metadata(2, rounds=4)
    s.see(2, 3)
    s.produce(2, 14)
    for _ in range(3):
        s.fetch_up(3)
        s.metadata(2)
    while s.world.buckets[0].read()[0].end < 10:
        s.replica(2).copy_step()
    s.replica(2).delete_local()
    lose_and_return(s, control=2)
    for _ in range(10):
        s.fetch_up(3)
        s.replica(2).change_isr(10**9)
        s.world.store.settle()
        s.metadata(2, 3)
    assert set(s.world.checker.truth[0].isr) == {2, 3}, s.world.checker.truth[0]
    assert s.replica(3).log.local_log_start_offset >= 10
    s.world.checker._forget_made_up_losses()
    s.expire(2)
    s.metadata(3, rounds=4)
    s.see(3)
    assert s.replica(3).leader is not None
    s.world.converge()


def unclean_behind_the_tier() -> None:
    """Broker 2 is elected without proof; the tier has records that it never had."""
    s = Story(is_tiered=True, is_unclean=True)
    s.fetch_up(2, 3)
    s.produce(1, 2)
    s.fetch_up(2, 3)
    s.expire(2)
    s.metadata(1, 3, rounds=2)
    s.see(1)
    s.produce(1, 14)
    s.fetch_up(3)
    while s.world.buckets[0].read()[0].end < 10:
        s.replica(1).copy_step()
    s.expire(1)
    s.expire(3)
    s.metadata(2, rounds=8)
    s.see(2)
    assert s.replica(2).leader is not None, s.world.checker.truth[0]
    s.produce(2, 3)
    s.world.buckets[0].check_tier()
    s.world.converge()


def late_registration() -> None:
    """Broker 3 registers once more, loses power, and only then its transaction is applied: it vouches for what is gone."""
    s = Story()
    s.fetch_up(2, 3)
    s.produce(1, 3)
    s.replica(1).log.sync()
    s.fetch_up(2, 3)
    for b in (1, 2, 3):
        s.expire(b)
    s.world.now_ms += 1
    s.keep_alive()
    s.see(3)
    s.broker(3).serve()
    (registration,) = s.hold_calls()
    assert s.world.checker.may_lose_data(s.broker(3))
    s.replica(3).log.synced_end_offset = 0
    s.broker(3).end("power loss")
    s.replica(3).log.truncate_to(0)
    s.release([registration])
    s.broker(3).start()
    s.world.converge()


def replace_3_by_4_without_2(s: Story) -> None:
    """Broker 4 is to take the place of 3 and has all records, when 2 is gone."""
    s.fetch_up(2, 3)
    s.metadata(1, rounds=2)
    s.see(1)
    s.broker(1).move(0, (1, 2, 4))
    s.world.store.settle()
    s.expire(2)
    s.metadata(1, 3, 4, rounds=3)
    s.produce(1, 2)
    s.fetch_up(3, 4)
    s.metadata(1, 3, 4, rounds=2)


def cancel_of_the_last() -> None:
    """With min ISR 1 the broker that a move adds is the only one in sync when the move is to be cancelled."""
    s = Story(broker_count=4, min_isr=1)
    replace_3_by_4_without_2(s)
    assert set(s.world.checker.truth[0].isr) == {1, 3, 4}, s.world.checker.truth[0]
    s.expire(3)
    s.metadata(1, 4, rounds=2)
    s.expire(1)
    s.metadata(4, rounds=4)
    s.see(4)
    state = s.world.checker.truth[0]
    assert (state.leader, state.isr, state.elr) == (4, (4,), ()), state
    s.broker(4).move(0, None)
    s.world.store.settle()
    s.world.converge()


def cancel_after_a_loss() -> None:
    """Of the two in sync one has lost its data, which nobody knows yet; the other is what a cancelled move would drop."""
    s = Story(broker_count=4)
    replace_3_by_4_without_2(s)
    s.expire(3)
    s.metadata(1, 4, rounds=2)
    s.produce(1, 2)
    s.fetch_up(4)
    assert set(s.world.checker.truth[0].isr) == {1, 4}, s.world.checker.truth[0]
    assert s.world.checker.may_lose_data(s.broker(1))
    s.replica(1).log.synced_end_offset = 0
    s.broker(1).end("power loss")
    s.replica(1).log.truncate_to(0)
    s.expire(1)
    s.broker(4).keep_alive()
    s.broker(4).control()
    for _ in range(2):
        s.see(4)
        s.broker(4).control()
        s.world.store.settle()
    s.see(4)
    s.broker(4).move(0, None)
    s.world.store.settle()
    s.world.converge()


def silent_replica() -> None:
    """All lose power with everything on disk; the longest log is that of the broker which speaks last."""
    s = Story(flush_acks=True, counts_boots=True)
    s.produce(1, 1)
    for _ in range(8):
        for b in (1, 2, 3):
            s.replica(b).sync()
        s.fetch(2, 3, rounds=1)
    s.produce(1, 3)
    for _ in range(4):
        for b in (1, 3):
            s.replica(b).sync()
        s.fetch(3, rounds=1)
    for b in (1, 2, 3):
        s.broker(b).end("power loss")
        s.world.store.revoke(s.broker(b).lease)
    for b in (1, 2, 3):
        s.broker(b).start()
    for _ in range(4):
        s.metadata()
    s.broker(2).report_log_ends()
    s.world.store.settle()
    for _ in range(3):
        s.metadata()
    s.world.converge()


def word_of_another_life() -> None:
    """Broker 3 has said how far its log goes, lost power again, and not said anything since."""
    _stays_leaderless(LogEnd(broker_epoch=12, leader_epoch=5, last_epoch=4, end_offset=99))


def word_of_another_epoch() -> None:
    """Broker 3 has said how far its log goes, followed a leader that cut it, and not said anything since."""
    _stays_leaderless(LogEnd(broker_epoch=13, leader_epoch=4, last_epoch=4, end_offset=99))


def _stays_leaderless(said: LogEnd) -> None:
    state = PartitionState(leader=-1, leader_epoch=5, isr=(), replicas=(1, 2, 3), min_isr=2)
    facts = ClusterFacts(active={1: 11, 2: 12, 3: 13})
    ends = {1: LogEnd(11, 5, 4, 10), 2: LogEnd(12, 5, 4, 20), 3: said}
    new = desired(state, facts, min_isr=2, unclean=False, ends=ends)
    assert new.leader == -1, f"M8: {new} on the word {said}"


def longest_of_the_newest_epoch() -> None:
    """The log that goes furthest ends in an older epoch than a shorter one."""
    state = PartitionState(leader=-1, leader_epoch=5, isr=(), replicas=(1, 2, 3), min_isr=2)
    facts = ClusterFacts(active={1: 11, 2: 12, 3: 13})
    ends = {1: LogEnd(11, 5, 4, 10), 2: LogEnd(12, 5, 3, 20), 3: LogEnd(13, 5, 3, 15)}
    new = controller.desired(state, facts, min_isr=2, unclean=False, ends=ends)
    assert new.leader == 1, f"M8: {new} though {ends[1]}"


def tail_below_the_log_start() -> None:
    """Broker 1 has a tail of its own; where its epoch ended has gone with what DeleteRecords took."""
    s = Story()
    s.fetch_up(2, 3)
    s.produce(1, 2)
    s.fetch_up(2, 3)
    s.produce(1, 3)  # only there
    s.expire(1)
    s.metadata(2, rounds=4)
    s.see(2, 3)
    s.produce(2, 3)
    for _ in range(3):
        s.fetch_up(3)
        s.metadata(2)
    s.replica(2).log.advance_log_start(5)
    s.see(1)
    s.metadata(1)
    s.fetch_up(1)
    s.world.converge()
    kept, committed = s.replica(1).log.records[2:5], s.world.checker.committed[0][2:5]
    assert all(k in (GONE, c) for k, c in zip(kept, committed, strict=False)), (
        f"A7: {kept} stays, {committed} was so"
    )


_ALL = (
    delayed_response,
    empty_epoch,
    joins_as_another,
    joins_too_late,
    truncated_tail_returns,
    zombie_tier_commit,
    removed_though_listed,
    tier_start_then_duplicate,
    diverged_below_the_tier,
    unclean_behind_the_tier,
    late_registration,
    cancel_of_the_last,
    cancel_after_a_loss,
    silent_replica,
    word_of_another_life,
    word_of_another_epoch,
    longest_of_the_newest_epoch,
    tail_below_the_log_start,
    *scenarios_of_proofs.STORIES,
    *scenarios_of_sessions.STORIES,
)
STORIES: dict[str, Callable[[], None]] = {story.__name__: story for story in _ALL}


# Mutant → the story that catches it.
KEPT = {
    "orphans_of_any_epoch": zombie_tier_sweep,
    "unmatched_reply": delayed_response,
    "epoch_cache_keeps_conflicts": empty_epoch,
    "no_broker_epoch": joins_as_another,
    "joining_is_not_guarded": joins_too_late,
    "truncation_is_not_synced": truncated_tail_returns,
    "zombies_commit": zombie_tier_commit,
    "removed_is_named": removed_though_listed,
    "tier_start_without_producers": tier_start_then_duplicate,
    "tier_start_without_lineage": diverged_below_the_tier,
    "unproven_lead_at_once": unclean_behind_the_tier,
    "a_cancel_may_lose_all": cancel_of_the_last,
    "a_cancel_may_leave_one": cancel_after_a_loss,
    "log_ends_of_old_registrations": word_of_another_life,
    "log_ends_of_old_leaderships": word_of_another_epoch,
    "silence_is_an_empty_log": silent_replica,
    "longest_by_offset_alone": longest_of_the_newest_epoch,
    "forgotten_tails_are_kept": tail_below_the_log_start,
    **scenarios_of_proofs.KEPT,
    **scenarios_of_sessions.KEPT,
}
