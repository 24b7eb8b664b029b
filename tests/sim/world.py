"""A cluster in which everything that can be late, lost, repeated or dead is decided by one seed.

Time stands still but for the action that moves it; each step takes one action by chance. Only production code decides:
replication's machines, the controller with its elections, the image, the epoch lineage, producer state. What the
brokers here do beside that (``broker``, ``replica``) is what the real ones' adapters do.

Two modes: ``step`` breaks things as the seed's mix has it; ``converge`` then heals everything and demands that the
cluster comes to rest with nothing lost.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections import Counter, deque
from collections.abc import Callable

from tests.model import tiering_world
from tests.sim.broker import SimBroker
from tests.sim.checker import Checker
from tests.sim.clients import Producer, send_unsafe
from tests.sim.groups import GroupClient
from tests.sim.members import Members
from tests.sim.mix import Mix, draw
from tests.sim.network import CLIENTS, Network
from tests.sim.replica import SimReplica
from tests.sim.store import LEASE_MS, SimStore
from tests.sim.tier import Bucket
from tiering.lifecycle import Attempts
from tierlog.metadata import keys, records
from tierlog.metadata.control.leadership import ElectionType
from tierlog.metadata.records import BrokerRegistration, BrokerState, PartitionState, TopicRecord
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.transactions import Put, Txn

TRACE_LINES = 60
CONVERGE_ROUNDS = 400
TOPIC_ID = (1).to_bytes(16, "big")
TIER_STEPS = (1, 4, 20)
TIER_LIVES_EVERY = 20
TIER_LIFE_STEPS = 400


class World:
    def __init__(self, seed: int, mix: Mix | None = None, *, is_tracing: bool = False) -> None:
        self.rng = random.Random(seed)
        self.mix = draw(self.rng) if mix is None else mix
        # Below ``session_trouble``, one that is asked for takes its time; none before the world has begun.
        self.chance_of_sessions: Callable[[], float] = lambda: 1.0
        self.now_ms = 0
        self.is_tracing = is_tracing
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self.value = 0
        self.topic_id = TOPIC_ID
        # ``flush.mode=ack``, as it is configured now.
        self.wants_synced = self.mix.begins_synced
        self.partitions = range(self.mix.partition_count)
        self.rules = TopicRules(
            min_insync_replicas=self.mix.min_isr, unclean_leader_election=self.mix.is_unclean
        )
        self.checker = Checker(self)
        self.store = SimStore(self)
        self.network = Network(self)
        self.buckets = {p: Bucket(self, p) for p in self.partitions}
        self.attempts = Attempts
        self.tier_steps = TIER_STEPS[seed % len(TIER_STEPS)]
        self.group = GroupClient(self)
        self.members = Members(self)
        self.brokers = {i: SimBroker(self, i) for i in range(1, self.mix.broker_count + 1)}
        self.assignment = self._assign()
        self.producers = [Producer(self, n) for n in range(2)]
        self._begin()
        self.chance_of_sessions = random.Random(seed).random

    def _assign(self) -> dict[int, tuple[int, ...]]:
        ids = list(self.brokers)
        n = self.mix.replica_count
        assignment = {p: tuple(ids[(p + k) % len(ids)] for k in range(n)) for p in self.partitions}
        for p, replicas in assignment.items():
            for b in replicas:
                self.brokers[b].replicas[p] = SimReplica(self.brokers[b], self.topic_id, p)
        return assignment

    def _begin(self) -> None:
        """A healthy cluster, for chance to break."""
        store = self.store
        for b in self.brokers.values():
            b.start()
            lease = store.grant(LEASE_MS)
            record = BrokerRegistration(
                b.incarnation, (), dirs=b.dirs, boot_id=str(b.machine_boot), want_fence=False
            )
            put = Put(keys.registration(b.broker_id), records.encode_registration(record), lease)
            broker_epoch = store.now(Txn((), (put,))).revision
            state = records.encode_broker_state(BrokerState(broker_epoch, fenced=False))
            store.now(Txn((), (Put(keys.broker_state(b.broker_id), state),)))
        puts = [
            Put(
                keys.partition(self.topic_id, p),
                records.encode_partition(PartitionState(r[0], 0, r, r, self.mix.min_isr)),
            )
            for p, r in self.assignment.items()
        ]
        topic = records.encode_topic(TopicRecord("t", len(puts)))
        name = records.encode_topic_name(keys.format_topic_id(self.topic_id))
        store.now(Txn((), (*puts, Put(keys.topic(self.topic_id), topic), Put(keys.topic_name("t"), name))))
        self.checker.begin()
        for b in self.brokers.values():
            assert b.session is not None
            assert self.checker.feed is not None
            known = self.checker.feed.image.brokers[b.broker_id]
            b.session.decides.on_image(self.store.revision, known)
            b.serve()  # it finds its registration
            b.catch_up(1000)

    def note(self, who: object, what: str) -> None:
        if self.is_tracing:
            name = f"broker {who.broker_id}" if isinstance(who, SimBroker) else str(who)
            self.trace.append(f"{self.steps:6d} {self.now_ms:6d} ms  {name}: {what}")

    def is_paused(self, node: int) -> bool:
        return node != CLIENTS and self.brokers[node].is_paused

    # -- chance

    def step(self) -> None:
        self.steps += 1
        rng, mix = self.rng, self.mix
        action = mix.actions[bisect(mix.cum_weights, rng.random() * mix.cum_weights[-1])]
        if action == "net":
            self.network.step()
        elif action == "store":
            self.store.step()
        else:
            getattr(self, "do_" + action)(self.brokers[rng.randint(1, mix.broker_count)])

    def some_replica(self, broker: SimBroker) -> SimReplica | None:
        replicas = broker.replicas
        return self.rng.choice(list(replicas.values())) if broker.runs and replicas else None

    def running(self) -> list[SimBroker]:
        return [b for b in self.brokers.values() if b.runs]

    def do_fetch(self, broker: SimBroker) -> None:
        idle = [r for b in self.running() for r in b.replicas.values() if r.is_idle_follower]
        if idle:
            self.rng.choice(idle).send_fetch()

    def do_break(self, broker: SimBroker) -> None:
        """A follower's connection breaks: what was asked is not answered, or too late."""
        if replica := self.some_replica(broker):
            replica.break_connection()

    def do_feed(self, broker: SimBroker) -> None:
        behind = [
            b
            for b in self.running()
            if b.revision < self.store.revision and not self.store.is_away(b.broker_id)
        ]
        if behind:
            self.rng.choice(behind).catch_up(self.rng.choice((1, 1, 2, 5, 50)))

    def do_produce(self, broker: SimBroker) -> None:
        partition = self.rng.choice(self.partitions)
        if self.rng.random() < 0.2:
            send_unsafe(self, partition)
        else:
            self.rng.choice(self.producers).step(partition)

    def do_isr(self, broker: SimBroker) -> None:
        if leading := self.leading():
            self.rng.choice(leading).change_isr(self.mix.lag_time_max_ms)

    def do_control(self, broker: SimBroker) -> None:
        running = self.running()
        in_charge = [b for b in running if b.is_controller]
        if running:
            self.rng.choice(in_charge or running).control()

    def do_serve(self, broker: SimBroker) -> None:
        waiting = [b for b in self.running() if not b.is_active]
        if waiting:
            self.rng.choice(waiting).serve()

    def do_sync(self, broker: SimBroker) -> None:
        replicas = [r for b in self.running() for r in b.replicas.values()]
        unsynced = [r for r in replicas if r.log.synced_end_offset < r.log.log_end_offset]
        if unsynced:
            self.rng.choice(unsynced).sync()

    def do_checkpoint(self, broker: SimBroker) -> None:
        if replica := self.some_replica(broker):
            replica.checkpoint()

    def do_consume(self, broker: SimBroker) -> None:
        if replica := self.some_replica(broker):
            self.checker.on_consume(replica)

    def do_time(self, broker: SimBroker) -> None:
        self.now_ms += self.rng.randint(1, 60)
        for b in self.brokers.values():
            if self.rng.random() < 0.9:
                b.keep_alive()
        self.store.expire()

    def do_move(self, broker: SimBroker) -> None:
        """A broker takes another's place, or what is under way is cancelled."""
        p = self.rng.choice(self.partitions)
        state = self.checker.truth[p]
        target: tuple[int, ...] | None = None
        if self.rng.random() < 0.8:
            staying = [r for r in state.replicas if r not in state.removing]
            others = [b for b in self.brokers if b not in staying]
            staying[self.rng.randrange(len(staying))] = self.rng.choice(others)
            target = tuple(staying)
        for b in self.running():
            b.move(p, target)

    def do_elect(self, broker: SimBroker) -> None:
        """A leader changes while nothing is wrong: with old metadata it and its followers go on for a while."""
        is_unclean = self.mix.is_unclean and self.rng.random() < 0.3
        p = self.rng.choice(self.partitions)
        state = self.checker.truth[p]
        is_due = state.leader != state.replicas[0] or state.adding or state.removing
        for b in self.running():
            if is_unclean or is_due:
                b.elect(p, ElectionType.UNCLEAN if is_unclean else ElectionType.PREFERRED)
            else:
                b.move(p, (*state.replicas[1:], state.replicas[0]))  # another is preferred

    def do_report(self, broker: SimBroker) -> None:
        if broker.runs and broker.broker_epoch:
            broker.report_log_ends()

    def do_note(self, broker: SimBroker) -> None:
        replicas = [r for b in self.running() for r in b.replicas.values() if not r.proof.is_settled]
        if replicas:
            self.rng.choice(replicas).note_step()

    # -- the tier

    def leading(self) -> list[SimReplica]:
        return [r for b in self.running() for r in b.replicas.values() if r.leader is not None]

    def do_tier(self, broker: SimBroker) -> None:
        if leading := self.leading():
            replica = self.rng.choice(leading)
            for _ in range(self.tier_steps):
                replica.copy_step()

    def do_delete_local(self, broker: SimBroker) -> None:
        if replica := self.some_replica(broker):
            replica.delete_local()

    def do_delete_records(self, broker: SimBroker) -> None:
        if leading := self.leading():
            self.rng.choice(leading).delete_records()

    def do_group(self, broker: SimBroker) -> None:
        leading = [r for r in self.leading() if r.partition == 0]
        if leading:
            replica = self.rng.choice(leading)
            (self.group.commit if self.rng.random() < 0.5 else self.group.read)(replica)

    def do_members(self, broker: SimBroker) -> None:
        leading = [r for r in self.leading() if r.partition == 0]
        if leading:
            replica = self.rng.choice(leading)
            (self.members.step if self.rng.random() < 0.8 else self.members.read)(replica)

    # -- faults

    def do_expire(self, broker: SimBroker) -> None:
        if self.rng.random() < 0.6:
            broker = self.brokers.get(self.checker.truth[0].leader, broker)
        self.expire_lease(broker)

    def expire_lease(self, broker: SimBroker) -> None:
        """The lease ends at the store; the broker may go on as a zombie."""
        if broker.lease:
            self.counts["leases expired"] += 1
            self.note(broker, "its lease expires")
            self.store.revoke(broker.lease)

    def do_crash(self, broker: SimBroker) -> None:
        if broker.is_up:
            self.counts["process crashes"] += 1
            broker.end("process crash")

    def do_power(self, broker: SimBroker) -> None:
        if broker.is_up and self.checker.may_lose_data(broker):
            self.counts["power losses"] += 1
            broker.end("power loss")

    def do_stop(self, broker: SimBroker) -> None:
        if broker.runs:
            self.counts["clean stops"] += 1
            broker.end("clean stop")

    def do_power_cut(self, broker: SimBroker) -> None:
        """All at once."""
        self.counts["power cuts"] += 1
        for b in self.brokers.values():
            self.do_power(b)

    def do_retire(self, broker: SimBroker) -> None:
        if broker.runs:
            broker.retire()

    def do_restart(self, broker: SimBroker) -> None:
        down = [b for b in self.brokers.values() if not b.is_up]
        if down:
            self.rng.choice(down).start()

    def do_pause(self, broker: SimBroker) -> None:
        if broker.runs:
            self.counts["pauses"] += 1
            broker.is_paused, broker.paused_ms = True, self.now_ms
            self.note(broker, "is paused")

    def do_cut(self, broker: SimBroker) -> None:
        self.counts["links cut"] += 1
        self.network.cut()

    def do_heal(self, broker: SimBroker) -> None:
        self.network.cuts.clear()
        if broker.is_paused:
            broker.resume()

    def do_clock(self, broker: SimBroker) -> None:
        self.counts["clock jumps"] += 1
        broker.clock_ms += self.rng.choice((10, 1000))

    def do_min_isr(self, broker: SimBroker) -> None:
        value = self.rng.choice((1, 2, 2))
        if not self.checker.may_set_min_isr(value):
            return
        self._configure_topic()

    def do_mode(self, broker: SimBroker) -> None:
        self.counts["flush modes changed"] += 1
        self.wants_synced = not self.wants_synced
        self._configure_topic()

    def _configure_topic(self) -> None:
        configs = {
            "min.insync.replicas": str(self.checker.configured_min_isr),
            "flush.mode": "ack" if self.wants_synced else "os",
        }
        self.store.now(Txn((), (Put(keys.topic_config("t"), records.encode_configs(configs)),)))

    def do_compact(self, broker: SimBroker) -> None:
        self.counts["compactions"] += 1
        self.store.memory.compact()

    def do_outage(self, broker: SimBroker) -> None:
        """The store is away for one, or for all: then the leases may begin anew with its return."""
        self.counts["store outages"] += 1
        until_ms = self.now_ms + self.rng.choice((20, 100, 400))
        is_whole = self.rng.random() < 0.3
        for b in self.brokers if is_whole else (broker.broker_id,):
            self.store.away_until_ms[b] = until_ms
        if is_whole:
            self.store.begin_leases_anew()

    def do_cordon(self, broker: SimBroker) -> None:
        if broker.runs:
            broker.cordon()

    def do_give_up(self, broker: SimBroker) -> None:
        self.store.lose_outcome()

    # -- liveness

    def converge(self) -> None:
        """Nothing fails any more: soon every ISR is full and every log the same. First perhaps without one broker, where
        one of those who are back can prove that it has all that was committed."""
        self.mix.drop = self.mix.duplicate = self.mix.store_loss = self.mix.session_trouble = 0
        self.store.away_until_ms.clear()
        self.network.cuts.clear()
        away = self._stays_away() if self.mix.flush_acks and self.mix.counts_boots else 0
        if away:
            self.counts["converged without one"] += 1
            self._come_to_rest(away)
        self._come_to_rest()
        if self.mix.is_tiered:
            for p, state in self.checker.truth.items():
                self.brokers[state.leader].replicas[p].come_clean()
                self.counts.update({f"tier: {what}": n for what, n in self.buckets[p].counts.items()})

    def _stays_away(self) -> int:
        """The broker that is gone for good, 0: none."""
        broker = self.rng.choice(
            [b for b in self.brokers.values() if not b.is_up] or list(self.brokers.values())
        )
        if broker.is_up:
            broker.end("power loss")
        self.store.settle()
        away = broker.broker_id
        for p, state in self.checker.truth.items():
            others = {*state.isr, *state.elr, *state.last_eligible} - {away}
            replicas = [self.brokers[o].replicas.get(p) for o in others]
            # Whoever leaves while enough are left is not needed: the last two may be any of them.
            is_proven = all(r is not None and r.is_noted and r.unsure is None for r in replicas)
            # With a min ISR of 1, or one that is still to come, a leader that is gone may have committed alone.
            is_alone = not others or min(state.min_isr, self.checker.configured_min_isr) < 2
            if state.adding or state.removing or is_alone or not is_proven:
                return 0
        return away

    def _come_to_rest(self, away: int = 0) -> None:
        for broker in self.brokers.values():
            if broker.is_paused:
                broker.resume()
            if broker.is_up and broker.is_retiring:
                broker.end("clean stop")
            if not broker.is_up and broker.broker_id != away:
                broker.start()
            for replica in broker.replicas.values():
                replica.break_connection()
        patience = CONVERGE_ROUNDS * (1 + self.mix.control_pause // 4)
        for round_ in range(patience):
            self._healthy_round(controls=round_ % (1 + self.mix.control_pause) == 0)
            why = self.checker.converged(away) or self.checker.all_serve(away)
            if not why:
                self.counts["rounds to converge"] += round_
                self.checker.check_all(away)
                coordinator = self.brokers[self.checker.truth[0].leader].replicas[0]
                self.group.read(coordinator)
                self.members.read(coordinator)
                return
        self.checker.fail(f"liveness: after {patience} healthy rounds {why}")

    def _healthy_round(self, *, controls: bool) -> None:
        self.now_ms += 25
        for broker in self.brokers.values():
            broker.keep_alive()
        self.store.expire()
        for broker in self.running():
            broker.catch_up(1000)
            broker.serve()
            if controls:
                broker.control()
            broker.report_log_ends()
            for replica in broker.replicas.values():
                replica.sync()
                replica.note_step()
                replica.send_fetch()
                replica.change_isr(10_000)
                if self.mix.is_tiered:
                    replica.copy_step()
        for _ in range(3):
            self.network.settle()
            self.store.settle()


def run(seed: int, steps: int, *, is_tracing: bool = False) -> World:
    """One life; raises ``Failure``."""
    world = World(seed, is_tracing=is_tracing)
    try:
        for _ in range(steps):
            world.step()
        world.converge()
        if seed % TIER_LIVES_EVERY == 0:
            live_tier(seed, world.counts)
    except AssertionError as error:
        raise Failure(seed, world, error) from error
    return world


def live_tier(seed: int, counts: Counter[str]) -> None:
    """A long life of one tier under all that a bucket does, without the cluster around it."""
    life = tiering_world.run(seed, TIER_LIFE_STEPS)
    counts["tier lives"] += 1
    counts["tier lives: commits"] += life.revision
    counts.update({f"tier lives: {what}": n for what, n in life.bucket.counts.items()})


class Failure(Exception):
    """A seed that breaks an invariant, the checker's or one that the production code asserts."""

    def __init__(self, seed: int, world: World, error: AssertionError) -> None:
        super().__init__(f"seed {seed}, step {world.steps}: {error}")
        self.seed = seed
        self.world = world
        self.error = error
