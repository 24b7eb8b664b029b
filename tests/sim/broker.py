"""One broker of the simulation: drives the production machines as the real broker's adapters do, without a rule of its
own. What a crash leaves is the replicas' logs, their checkpointed high watermarks and ``lossless_since``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.sim.replica import SimReplica
from tests.sim.session import SimSession
from tests.sim.store import Feed
from tierlog.metadata.commits import leave_clean_stop, report_log_end
from tierlog.metadata.control.controller import acquire, guarded, reconcile
from tierlog.metadata.control.decisions import PartitionDecision
from tierlog.metadata.control.leadership import Election, ElectionType, decide_elections
from tierlog.metadata.control.log_ends import unsaid_log_ends
from tierlog.metadata.control.reassignment import Reassignment, decide_reassignments
from tierlog.metadata.records import BrokerRegistration, ControllerLease
from tierlog.metadata.transactions import Txn, TxnResult

if TYPE_CHECKING:
    from tests.sim.world import World


class SimBroker:
    def __init__(self, world: World, broker_id: int) -> None:
        self.world = world
        self.broker_id = broker_id
        self.replicas: dict[int, SimReplica] = {}
        self.lossless_since = 0
        # A start has found that data is missing, and no registration has said so yet; on the disk.
        self.is_lossy = False
        # ``flush.mode=ack``, as this broker's image has it.
        self.wants_synced = world.mix.begins_synced
        self.may_have_lost = False
        self.is_up = False
        self.is_paused = False
        self.paused_ms = 0
        self.clock_ms = 0  # ahead of the world's
        self.boot = 0  # of the process: what was sent by an earlier one is not answered
        self.machine_boot = 0
        self.feed: Feed | None = None
        self.session: SimSession | None = None
        self.incarnation = ""
        self.is_retiring = False
        self._reset_controller()

    def _reset_controller(self) -> None:
        self.controller_calls = 0
        self.controller_revision = 0

    @property
    def now_ms(self) -> int:
        return self.world.now_ms + self.clock_ms

    @property
    def dirs(self) -> tuple[str, ...]:
        return (f"d{self.broker_id}",)

    @property
    def broker_epoch(self) -> int:
        return 0 if self.session is None else self.session.decides.broker_epoch

    @property
    def lease(self) -> int:
        """Of the registration that stands, as far as is known; 0: of none."""
        held = None if self.session is None else self.session.decides
        return held.lease if held is not None and held.is_registered else 0

    @property
    def runs(self) -> bool:
        return self.is_up and not self.is_paused

    def guard(self, function: Callable[[TxnResult | None], None]) -> Callable[[TxnResult | None], None]:
        """``function``, unless this process has ended by then."""
        boot = self.boot

        def guarded_function(result: TxnResult | None) -> None:
            if self.boot == boot:
                function(result)

        return guarded_function

    # -- life

    def start(self) -> None:
        self.is_up, self.is_paused = True, False
        self.boot += 1
        self.feed = Feed(self.world.store.memory)
        self.wants_synced = self._configured_mode()
        self.incarnation = f"{self.broker_id}.{self.boot}"
        if any(replica.is_damaged for replica in self.replicas.values()):
            self.is_lossy = True
        if self.is_lossy:
            self.lossless_since = 0
        record = BrokerRegistration(
            self.incarnation,
            (),
            dirs=self.dirs,
            boot_id=str(self.machine_boot),
            lossless_since=self.lossless_since,
        )
        self.session = SimSession(self, record, is_lossy=self.is_lossy)
        self.may_have_lost = self.lossless_since == 0
        self._reset_controller()
        for replica in self.replicas.values():
            replica.restart()
        self._host()
        self.world.note(self, "starts")

    def end(self, how: str) -> None:
        """The process is gone; the lease may outlive it."""
        world = self.world
        world.note(self, how)
        if how == "clean stop":
            for replica in self.replicas.values():
                replica.log.sync()
            marker = leave_clean_stop(self.broker_id, self.broker_epoch, self.dirs, self.lossless_since)
            if self.broker_epoch:
                world.store.now(marker)
        elif how == "power loss":
            self.machine_boot += 1
            lost = sum(replica.lose_power() for replica in self.replicas.values())
            world.counts["power losses with lost records"] += lost > 0
            if world.mix.counts_boots or not world.mix.flush_acks:
                self.lossless_since = 0  # another boot: of itself it knows nothing
        self.is_up = self.is_retiring = False
        self.boot += 1
        assert self.feed is not None
        self.feed.close()
        for replica in self.replicas.values():
            replica.forget()
        if self.lease and (how == "clean stop" or world.rng.random() < 0.5):
            world.store.revoke(self.lease)

    def resume(self) -> None:
        gap_ms = self.world.now_ms - self.paused_ms
        self.is_paused = False
        for replica in self.replicas.values():
            if replica.leader is not None:
                replica.leader.on_stall(gap_ms)

    # -- registration

    def keep_alive(self) -> None:
        """What is due by now of one that is registered."""
        if self.session is not None and self.lease and self.runs:
            self.session.tick()

    def serve(self) -> None:
        """Whatever brings it, and what it wishes, into the store."""
        if self.session is not None and self.runs:
            self.session.poll()

    def retire(self) -> None:
        """A controlled stop: asks to hand over what it leads, and ends when it leads nothing."""
        assert self.session is not None
        if not self.is_active:
            return
        if not self.is_retiring:
            self.is_retiring = True
            self.session.wish(want_shut_down=True)
            self.session.poll()
        elif not any(replica.leader is not None for replica in self.replicas.values()):
            self.world.counts["controlled stops"] += 1
            self.end("clean stop")

    def cordon(self) -> None:
        """What it says of its directories changes, while it goes on."""
        assert self.session is not None
        was = self.session.decides.record.cordoned_dirs
        self.session.wish(cordoned_dirs=() if was else self.dirs)
        self.session.poll()

    def report_log_ends(self) -> None:
        assert self.feed is not None
        for _, partition, leader_epoch in unsaid_log_ends(self.feed.image, self.broker_id, self.broker_epoch):
            replica = self.replicas.get(partition)
            end = None if replica is None else replica.say_log_end(leader_epoch)
            if end is not None:
                self.world.counts["log ends said"] += 1
                txn = report_log_end(self.world.topic_id, partition, self.broker_id, end)
                self.world.store.send(self.broker_id, txn, lambda result: None)

    def registered(self, broker_epoch: int, lossless_since: int) -> None:
        self.lossless_since = lossless_since
        self.is_lossy = False
        self._reset_controller()
        self.world.note(self, f"is registered with broker epoch {broker_epoch}")
        for replica in self.replicas.values():
            if replica.follower is not None:
                replica.follower.on_registered(broker_epoch)

    @property
    def is_handled(self) -> bool:
        """The image shows this process's registration as dealt with."""
        assert self.feed is not None
        image = self.feed.image.brokers.get(self.broker_id)
        return image is not None and image.is_handled and image.broker_epoch == self.broker_epoch

    @property
    def is_active(self) -> bool:
        """It may lead, as far as it knows."""
        assert self.feed is not None
        image = self.feed.image.brokers.get(self.broker_id)
        return bool(self.lease) and self.is_handled and image is not None and image.is_active

    # -- metadata

    def _configured_mode(self) -> bool:
        assert self.feed is not None
        mode = self.feed.image.configs_of_topic("t").get("flush.mode", "")
        return mode == "ack" if mode else self.world.mix.begins_synced

    @property
    def revision(self) -> int:
        assert self.feed is not None
        return self.feed.image.revision

    def catch_up(self, revisions: int) -> None:
        assert self.feed is not None
        was_handled = self.is_handled
        deltas = self.feed.catch_up(revisions)
        if not deltas:
            return
        assert self.session is not None
        self.session.see_image()
        self._host()
        if self.wants_synced != self._configured_mode():
            self.wants_synced = not self.wants_synced
            for replica in self.replicas.values():
                replica.configure()
        if was_handled != self.is_handled:
            for replica in self.replicas.values():
                replica.on_record()
            return
        for partition in {c.partition for d in deltas for c in d.partitions_changed}:
            replica = self.replicas.get(partition)
            if replica is not None:
                replica.on_record()

    def _host(self) -> None:
        """Has the replicas that the image assigns here, and no others."""
        assert self.feed is not None
        for p in self.world.partitions:
            record = self.feed.image.partition(self.world.topic_id, p)
            replica = self.replicas.get(p)
            if record is None:
                continue
            if replica is None and self.broker_id in record.replicas:
                self.world.counts["replicas added"] += 1
                self.replicas[p] = replica = SimReplica(self, self.world.topic_id, p)
                replica.on_record()
            elif replica is not None and self.broker_id not in record.replicas:
                self.world.counts["replicas dropped"] += 1
                self.world.note(self, f"drops p{p}")
                replica.drop()
                del self.replicas[p]

    # -- controller

    def move(self, partition: int, target: tuple[int, ...] | None) -> None:
        """Asks itself, as the controller, to begin or to cancel (None) a move."""
        assert self.feed is not None
        if self._may_decide:
            wish = Reassignment("t", partition, target)
            (decision,) = decide_reassignments(self.feed.image, self.world.rules, [wish])
            self._carry_out(decision, "moves cancelled" if target is None else "moves begun", "moves refused")

    def elect(self, partition: int, kind: ElectionType) -> None:
        """As the controller: the preferred leader, or anybody."""
        assert self.feed is not None
        if self._may_decide:
            wish = [Election("t", partition)]
            (decision,) = decide_elections(self.feed.image, self.world.rules, wish, kind)
            self._carry_out(decision, "elections on request", "elections refused")

    @property
    def _may_decide(self) -> bool:
        assert self.feed is not None
        is_current = self.feed.image.revision >= self.controller_revision
        return self.is_controller and not self.controller_calls and is_current

    def _carry_out(self, decision: PartitionDecision, done: str, refused: str) -> None:
        assert self.feed is not None
        self.world.counts[refused] += bool(decision.result.error)
        for txn in decision.txns:
            self.world.counts[done] += 1
            self._send_control(guarded(txn, self.feed.image.controller_token))

    @property
    def is_controller(self) -> bool:
        assert self.feed is not None
        return self.feed.image.controller == ControllerLease(self.broker_id, self.broker_epoch)

    def control(self) -> None:
        assert self.feed is not None
        image, world = self.feed.image, self.world
        if not self.lease or self.controller_calls or image.revision < self.controller_revision:
            return
        if image.controller is None:
            self._send_control(acquire(self.broker_id, self.broker_epoch, self.lease))
        elif self.is_controller:
            for txn in reconcile(image, world.rules):
                if txn is not None:
                    self._send_control(guarded(txn, image.controller_token))

    def _send_control(self, txn: Txn) -> None:
        self.controller_calls += 1
        epoch = self.broker_epoch

        def answered(result: TxnResult | None) -> None:
            if epoch != self.broker_epoch:
                return
            self.controller_calls -= 1
            # Unknown or refused: a read tells how far the image has to come before anything is decided again.
            revision = self.world.store.revision if result is None or not result.ok else result.revision
            self.controller_revision = max(self.controller_revision, revision)

        self.world.store.send(self.broker_id, txn, self.guard(answered))
