"""Nobody is sent to and fro between a leader and a follower that has nothing for him."""

from __future__ import annotations

from tierlog.replication.sent_away import HOLD_MS, PARTITIONS_MAX, RETURN_MS, SentAway


def test_who_goes_on_is_sent_again_and_who_comes_back_is_kept() -> None:
    sent = SentAway()
    assert sent.may_send("p", 0, 0)
    assert sent.may_send("p", 10, 1)
    assert not sent.may_send("p", 10, 2)
    assert not sent.may_send("p", 20, 3)
    assert sent.may_send("q", 10, 3), "another partition"
    assert not sent.may_send("p", 30, HOLD_MS + 1)
    assert sent.may_send("p", 40, HOLD_MS + 2)
    assert not sent.may_send("p", 40, HOLD_MS + 3), "once in a while it is tried again"


def test_a_pause_is_no_return() -> None:
    sent = SentAway()
    assert sent.may_send("p", 10, 0)
    assert sent.may_send("p", 10, RETURN_MS)
    assert not sent.may_send("p", 10, RETURN_MS + 1)


def test_a_connection_remembers_so_many_partitions() -> None:
    sent = SentAway()
    for number in range(3 * PARTITIONS_MAX):
        assert sent.may_send(number, 0, 0)
    assert len(sent) == PARTITIONS_MAX
    assert not sent.may_send(3 * PARTITIONS_MAX - 1, 0, 1)
    assert sent.may_send(0, 0, 1), "forgotten"
