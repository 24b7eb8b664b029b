"""Directed scenarios about who can prove, after a power loss of all, that it is whole. As in ``scenarios``: clean with the
production rules, broken with the mutant of ``KEPT``."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.story import Story
from tierlog.metadata.control.election import ClusterFacts, desired
from tierlog.metadata.records import LogEnd, PartitionState

ALL = (1, 2, 3)


def changing() -> Story:
    """Elections without proof may lose something, and nothing else may."""
    return Story(loses_all=True, changes_mode=True)


def replicate(s: Story, *followers: int) -> None:
    """What leader and followers have is synced, counted and known."""
    for _ in range(8):
        for b in (s.world.checker.truth[0].leader, *followers):
            s.replica(b).sync()
        s.fetch(*followers, rounds=1)


def set_mode(s: Story, mode: str) -> None:
    if s.world.wants_synced != (mode == "ack"):
        s.world.do_mode(s.broker(1))
    for b in ALL:
        if s.broker(b).is_up:
            s.see(b)


def note(s: Story, *brokers: int, steps: int = 2) -> None:
    for b in brokers or ALL:
        for _ in range(steps):
            s.replica(b).note_step()


def cut_power(s: Story, **kept: int) -> None:
    """Of all. Each log keeps what was synced and not one record more; ``kept`` (b1=2): or even less, which is found out.
    Of a note that is being written the old one stays."""
    for b in ALL:
        if not s.broker(b).is_up:
            continue
        replica = s.replica(b)
        synced = replica.log.synced_end_offset
        assert s.world.checker.may_lose_data(s.broker(b))
        was_noted = replica.is_noted
        replica.log.truncate_to(synced)
        s.broker(b).end("power loss")
        s.world.store.revoke(s.broker(b).lease)
        replica.is_noted, replica.unsure, replica.is_damaged = was_noted, None, f"b{b}" in kept
        replica.log.truncate_to(min(kept.get(f"b{b}", synced), replica.log.log_end_offset))


def start(s: Story, *brokers: int) -> None:
    for b in brokers or ALL:
        s.broker(b).start()
    for _ in range(6):
        s.keep_alive()
        s.metadata()
        for b in brokers or ALL:
            s.broker(b).report_log_ends()
        s.world.store.settle()


def noted_in_ack_mode() -> Story:
    s = changing()
    s.produce(1, 2)
    replicate(s, 2, 3)
    note(s)
    assert all(s.replica(b).is_noted for b in ALL)
    return s


def one_stays_away() -> None:
    """One of the three is gone for good: another leads on its proof, and nothing is lost."""
    s = Story(flush_acks=True, counts_boots=True)
    s.produce(1, 4)
    replicate(s, 2, 3)
    note(s)
    s.produce(1, 2)
    cut_power(s)
    start(s, 2, 3)
    state = s.world.checker.truth[0]
    assert state.leader in (2, 3), state
    assert not state.recovering, state
    assert s.world.counts["elected by proof"] == 1
    s.world.converge()


def os_mode_waits_for_the_note() -> None:
    """The power is cut while the note is being removed; meanwhile nothing may count that is not synced."""
    s = noted_in_ack_mode()
    set_mode(s, "os")
    note(s, steps=1)
    s.produce(1, 3)
    s.fetch_up(2, 3)
    cut_power(s)
    set_mode(s, "ack")
    start(s)
    s.world.converge()


def os_mode_for_a_while() -> None:
    """Records are committed that nobody has synced; when the power is back the mode is as it was before."""
    s = noted_in_ack_mode()
    set_mode(s, "os")
    note(s)
    s.produce(1, 3)
    s.fetch_up(2, 3)
    cut_power(s)
    set_mode(s, "ack")
    start(s)
    s.world.converge()


def os_mode_while_away() -> None:
    """The mode changes while nobody runs; those who come back find a note that speaks of the other one."""
    s = noted_in_ack_mode()
    cut_power(s)
    set_mode(s, "os")
    start(s)
    for _ in range(3):
        s.metadata()
    leader = s.world.checker.truth[0].leader
    others = [b for b in ALL if b != leader]
    for _ in range(4):
        s.fetch_up(*others)
        s.replica(leader).change_isr(10**9)
        s.world.store.settle()
        s.metadata()
    s.produce(leader, 3)
    s.fetch_up(*others)
    assert s.replica(leader).high_watermark == 5
    cut_power(s)
    set_mode(s, "ack")
    start(s)
    s.world.converge()


def ack_mode_before_the_sync() -> None:
    """What was committed before the mode changed is not synced yet."""
    s = changing()
    set_mode(s, "os")
    s.produce(1, 3)
    s.fetch_up(2, 3)
    set_mode(s, "ack")
    note(s)
    cut_power(s)
    start(s)
    s.world.converge()


def damaged_disk() -> None:
    """The first of those who were eligible has lost what was synced, as its recovery finds."""
    s = noted_in_ack_mode()
    cut_power(s, b1=0)
    start(s, 1)
    assert s.world.checker.truth[0].leader == -1, s.world.checker.truth[0]
    start(s, 2, 3)
    assert s.world.checker.truth[0].leader in (2, 3), s.world.checker.truth[0]
    s.world.converge()


def left_before_the_last_records() -> None:
    """Broker 1 loses power while it is needed, 3 comes back in its place, and more is committed before all lose theirs."""
    s = Story(flush_acks=True, counts_boots=True)
    s.produce(1, 2)
    replicate(s, 2, 3)
    note(s)
    s.see(*ALL)
    for b, how in ((3, "process crash"), (1, "power loss")):
        s.broker(b).end(how)
        s.world.store.revoke(s.broker(b).lease)
        s.metadata(2, rounds=4)
    s.broker(1).start()
    s.metadata(1, 2, rounds=4)
    state = s.world.checker.truth[0]
    assert (state.leader, state.isr, state.last_eligible) == (2, (2,), (1,)), state
    s.broker(3).start()
    for _ in range(4):
        s.metadata(2, 3, rounds=2)
        replicate(s, 3)
        s.replica(2).change_isr(10**9)
        s.world.store.settle()
    assert s.world.checker.truth[0].isr == (2, 3), s.world.checker.truth[0]
    s.produce(2, 3)
    replicate(s, 3)
    cut_power(s)
    start(s, 1)
    assert s.world.checker.truth[0].leader == -1, s.world.checker.truth[0]
    s.world.converge()


def whole_in_another_life() -> None:
    """Broker 1 was whole when it registered before, and has lost its disk since."""
    state = PartitionState(-1, 5, (), (1, 2, 3), 2, last_eligible=(1, 2, 3))
    facts = ClusterFacts(active={1: 11, 2: 12})
    for said in (LogEnd(10, 5, 4, 9, True), LogEnd(11, 4, 4, 9, True)):
        new = desired(state, facts, min_isr=2, unclean=False, ends={1: said})
        assert new.leader == -1, f"M8: {new} on the word {said}"


STORIES: tuple[Callable[[], None], ...] = (
    one_stays_away,
    os_mode_waits_for_the_note,
    os_mode_for_a_while,
    os_mode_while_away,
    ack_mode_before_the_sync,
    damaged_disk,
    left_before_the_last_records,
    whole_in_another_life,
)
KEPT: dict[str, Callable[[], None]] = {
    "mode_changes_before_the_note_goes": os_mode_waits_for_the_note,
    "note_survives_the_mode": os_mode_for_a_while,
    "note_of_another_mode": os_mode_while_away,
    "note_before_the_sync": ack_mode_before_the_sync,
    "damage_is_forgiven": damaged_disk,
    "whoever_left_stays_eligible": left_before_the_last_records,
    "whole_in_another_life": whole_in_another_life,
}
