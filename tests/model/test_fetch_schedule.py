"""A follower's fetch schedule against the leader's session: what both remember is the same, and nobody is forgotten."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from tierlog.replication import fetch_schedule
from tierlog.replication.fetch_schedule import (
    INITIAL_EPOCH,
    NO_SESSION_ID,
    SHORT_WAIT_MS,
    UNSEEN_WAIT_MS,
    FetchSchedule,
    Key,
    Round,
)

KEYS = [(bytes([n // 4]), n % 4) for n in range(12)]
MAX_WAIT_MS = 500
MAX_NAMED = 4


class LeaderSession:
    """What a leader does with the session of one follower."""

    def __init__(self) -> None:
        self.session_id, self.epoch = NO_SESSION_ID, INITIAL_EPOCH
        self.keys: set[Key] = set()
        self._opened = 0

    def on_request(self, sent: Round, named: list[Key], has_room: bool) -> int | None:
        """The session id of the answer; None if it does not know the session."""
        if sent.session_epoch == INITIAL_EPOCH:
            assert not sent.forgotten, "a new session forgets nothing"
            self.keys = set(named)
            if not has_room:
                self.session_id = NO_SESSION_ID
                return NO_SESSION_ID
            self._opened += 1
            self.session_id, self.epoch = self._opened, 1
            return self.session_id
        if sent.session_id != self.session_id or self.session_id == NO_SESSION_ID:
            return None
        assert sent.session_epoch == self.epoch
        self.epoch += 1
        assert self.keys.issuperset(sent.forgotten), "it forgets what the session has"
        self.keys = (self.keys | set(named)) - set(sent.forgotten)
        return self.session_id


class World:
    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.schedule, self.leader = FetchSchedule(), LeaderSession()
        self.now_ms = 1000
        self.followed: set[Key] = set()
        # What the driver would find: why a partition may not be fetched now.
        self.on_disk: set[Key] = set()
        # Since when a round has found the partition waiting for the disk, and never asked for it.
        self.waits_since: dict[Key, int] = {}
        self.retry_ms: dict[Key, int] = {}
        # What the last look in this session said of each partition.
        self.may_be_sent: dict[Key, bool] = {}
        self.stopped: set[Key] = set()
        self.timers: list[tuple[int, Key]] = []
        self.sent: deque[tuple[Round, list[Key]]] = deque()

    def change(self) -> None:
        rng, key = self.rng, self.rng.choice(KEYS)
        match rng.randrange(6):
            case 0:
                self.followed.add(key)
                self.on_disk.discard(key)
                self.waits_since.pop(key, None)
                self.retry_ms.pop(key, None)
                self.stopped.discard(key)
                self.schedule.follow(key)
            case 1 if key in self.followed:
                self.followed.discard(key)
                self.waits_since.pop(key, None)
                self.schedule.unfollow(key)
            case 2 if key in self.followed:
                self.on_disk.add(key)
                self.schedule.stir(key)  # an answer brought records
            case 3 if key in self.on_disk:
                self.on_disk.discard(key)
                self.schedule.stir(key)  # the sync ended
            case 4 if key in self.followed:
                self.retry_ms[key] = self.now_ms + rng.randrange(1, 200)
                self.schedule.stir(key)  # an answer brought an error
            case 5 if key in self.followed and rng.random() < 0.2:
                self.stopped.add(key)
                self.schedule.stir(key)

    def pass_time(self) -> None:
        self.now_ms += self.rng.randrange(50)
        due = [entry for entry in self.timers if entry[0] <= self.now_ms]
        for entry in due:
            self.timers.remove(entry)
            self.schedule.stir(entry[1])

    def ask(self) -> None:
        while True:
            left_over = self.one_round()
            if self.sent or not left_over:
                return

    def one_round(self) -> bool:
        """One round; returns whether more partitions are to be named."""
        schedule, now_ms = self.schedule, self.now_ms
        keys = schedule.begin(MAX_WAIT_MS)
        assert len(keys) == len(set(keys)) <= MAX_NAMED
        left_over = schedule.has_stirred
        named: list[Key] = []
        at_most_ms = 0 if left_over else MAX_WAIT_MS
        for key in keys:
            if key not in self.followed or key in self.stopped:
                schedule.leave_out(key)
            elif key in self.on_disk:
                schedule.await_disk(key, now_ms)
                waited_ms = now_ms - self.waits_since.setdefault(key, now_ms)
                at_most_ms = min(at_most_ms, max(SHORT_WAIT_MS, waited_ms))
            elif self.retry_ms.get(key, 0) > now_ms:
                at_most_ms = min(at_most_ms, self.retry_ms[key] - now_ms + 1)
                delay_ms = schedule.await_retry(key, self.retry_ms[key], now_ms)
                if delay_ms is not None:
                    assert (now_ms + delay_ms, key) not in self.timers
                    self.timers.append((now_ms + delay_ms, key))
            else:
                schedule.ask(key)
                self.waits_since.pop(key, None)
                named.append(key)
            self.may_be_sent[key] = key in named
        sent = schedule.end()
        if sent is not None:
            assert 0 <= sent.wait_ms <= at_most_ms
            assert sent.wait_ms in (0, UNSEEN_WAIT_MS) or sent.wait_ms >= min(at_most_ms, SHORT_WAIT_MS)
            assert not set(sent.forgotten) & set(named)
            self.sent.append((sent, named))
        return left_over

    def answer(self) -> None:
        if not self.sent:
            return
        sent, named = self.sent.popleft()
        if self.rng.random() < 0.05:
            self.schedule.end_session()  # the connection broke
            self.may_be_sent.clear()
            return
        if self.rng.random() < 0.05:
            self.leader.session_id = NO_SESSION_ID  # evicted
        session_id = self.leader.on_request(sent, named, has_room=self.rng.random() < 0.9)
        if session_id is None:
            self.schedule.on_session_unknown()
            self.may_be_sent.clear()
            return
        assert self.leader.keys == {key for key, may in self.may_be_sent.items() if may}
        if session_id == NO_SESSION_ID:
            self.may_be_sent.clear()
        self.schedule.on_answer(session_id)
        for key in self.leader.keys & self.followed:
            if self.rng.random() < 0.3:
                self.schedule.stir(key)

    def ask_or_answer(self) -> None:
        if self.sent:
            self.answer()
        else:
            self.ask()

    def settle(self) -> None:
        """Nothing happens any more, and every wait ends."""
        while self.sent:
            self.answer()
        for key in self.on_disk:
            self.schedule.stir(key)
        self.on_disk.clear()
        for _ in range(20):
            self.now_ms += 200
            self.pass_time()
            self.ask()
            while self.sent:
                sent, named = self.sent.popleft()
                session_id = self.leader.on_request(sent, named, has_room=True)
                if session_id is None:
                    self.schedule.on_session_unknown()
                else:
                    self.schedule.on_answer(session_id)


@pytest.mark.parametrize("block", range(4))
def test_against_a_leader(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_schedule, "MAX_NAMED", MAX_NAMED)
    for seed in range(250 * block, 250 * (block + 1)):
        world = World(seed)
        for _ in range(world.rng.randrange(200)):
            world.rng.choice([*[world.change] * 6, world.pass_time, world.ask_or_answer])()
        world.settle()
        assert world.leader.keys == world.followed - world.stopped or not world.followed - world.stopped, seed
