"""The composition root: one broker, put together, started and stopped in order.

Start: lock the log dirs, open the metadata store, check that they belong together (``identity``) → recover the logs → bind
the listeners → register (the controller raises the leader epoch of all that this broker leads) → be unfenced → serve. Stop:
the same backwards; a clean stop leaves its marks last.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
from typing import TYPE_CHECKING

import structlog

from tierlog import kernel
from tierlog.broker import api_table
from tierlog.broker.clock import BelievedClock, wall_clock_ms
from tierlog.broker.cluster.controller_client import ControllerClient
from tierlog.broker.cluster.controller_link import ControllerLink
from tierlog.broker.cluster.controller_runner import ControllerRunner
from tierlog.broker.cluster.producer_ids import ProducerIds
from tierlog.broker.cluster.registration import BrokerDescription, Registration
from tierlog.broker.cluster.topic_creation import TopicCreation
from tierlog.broker.disk.flusher import Flusher
from tierlog.broker.disk.future_dirs import found_futures
from tierlog.broker.disk.session_verdict import SessionMarkers
from tierlog.broker.fetch.cold_reads import ColdReads
from tierlog.broker.fetch.sessions import FetchSessions
from tierlog.broker.following.followed_brokers import FollowedBrokers
from tierlog.broker.groups.shard_logs import GroupShards
from tierlog.broker.groups.shard_runtime import ShardRuntime
from tierlog.broker.handlers.api_versions import served
from tierlog.broker.handlers.hot_produce import hot_requests
from tierlog.broker.handlers.services import Services
from tierlog.broker.handlers.waiting_produce import ProduceWaits
from tierlog.broker.identity import establish
from tierlog.broker.leading.isr_writer import IsrChangeDriver
from tierlog.broker.network.dispatch import Dispatcher
from tierlog.broker.network.receive_turns import ReceiveTurns
from tierlog.broker.network.replay_quota import ReplayQuota
from tierlog.broker.network.reply_memory import ReplyMemory
from tierlog.broker.network.server import ConnectionLimits, Listener
from tierlog.broker.owner import OwnerOfReplicas
from tierlog.broker.process import boot_id, raise_descriptor_limit, tune_allocator
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.reports.cordons import Cordons, cordoned_dirs
from tierlog.broker.reports.failure_reports import FailureReports
from tierlog.broker.reports.log_ends import LogEndReports
from tierlog.broker.reports.offline_replicas import OfflineReplicas
from tierlog.broker.reports.topic_deletion import TopicDeletion
from tierlog.broker.upkeep.clean_stop import close_clean
from tierlog.broker.upkeep.cleaner import Cleaner
from tierlog.broker.upkeep.dir_moves import DirMoves
from tierlog.broker.upkeep.housekeeping import Housekeeping
from tierlog.broker.views import memory, metrics
from tierlog.broker.views.all_views import json_views
from tierlog.broker.work.background import Background, Kept
from tierlog.broker.work.beside_loop import BesideLoop, TimeLookups
from tierlog.broker.work.slices import Slices
from tierlog.config.broker import BrokerConfig, request_memory_bytes
from tierlog.config.dynamic import validate_broker_configs
from tierlog.coordination.config import group_config
from tierlog.errors import DiskFull, UserError
from tierlog.metadata.internal_topics import OFFSETS_TOPIC
from tierlog.metadata.records import Endpoint
from tierlog.metadata.rules import rules_of
from tierlog.telemetry.http import HttpServer
from tierlog.telemetry.kafka_names import register_connections
from tierlog.telemetry.loop_stall import LoopStallWatch
from tierlog.telemetry.metrics import Registry
from tierlog.telemetry.requests import RequestMetrics

if TYPE_CHECKING:
    from tierlog.broker.offload.service import Tiering

DRAIN_S = 5.0
# How long moving leadership away from here may take: with thousands of partitions, or a controller that has just died.
HANDOVER_S = 25.0
ELECTION_WAIT_S = 1.0

logger = structlog.get_logger()


class Broker:
    """One broker and all its parts. ``start`` once, ``stop`` once."""

    housekeeping: Housekeeping
    followed_brokers: FollowedBrokers

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.registry = Registry()
        self.not_ready: str | None = "starting"
        self.listeners: list[Listener] = []
        self.failure_reports: FailureReports | None = None
        self.tiering: Tiering | None = None
        self.services: Services
        # Why the broker cannot go on; its runner waits for ``ending``.
        self.failure: BaseException | None = None
        self.ending = asyncio.Event()
        self.background = Background()
        self._tasks: list[Kept] = []

    # -- start

    async def start(self) -> None:
        """Returns once clients are served. Raises UserError for what the user can fix."""
        tune_allocator()
        raise_descriptor_limit()
        config, loop = self.config, self.loop
        self.identity = await establish(config, self.background, self.fail)
        self.log_dirs, self.store, self.feed = self.identity[:3]
        roots = [str(log_dir.path) for log_dir in self.log_dirs if log_dir.is_online]
        self.flusher = Flusher(loop, roots)
        self.removal_clock = BelievedClock()
        self.replicas = Replicas(
            config,
            lambda: self.feed.image,
            self.log_dirs,
            self.flusher,
            loop,
            self.removal_clock.now_ms,
            self.background,
            OwnerOfReplicas(self),
        )
        self.housekeeping = Housekeeping(
            config, self.replicas, loop, self.removal_clock.now_ms, self.background
        )
        self._recover()
        self.feed.subscribe(self.replicas.apply)
        self.cleaner = Cleaner(self.replicas, loop, self.removal_clock.now_ms)
        await self._bind()
        self._make_services()
        await self._join()
        self.feed.subscribe(self.cordons.apply)
        self.cordons.tell_if_changed()
        self.dir_moves.resume(found_futures(self.log_dirs))
        self._tasks.append(self.background.forever("housekeeping", self.housekeeping.run))
        self._tasks.append(self.background.forever("isr changes", self.isr_changes.run))
        if config.log_cleaner_enable:
            self._tasks.append(self.background.forever("cleaner", self.cleaner.run))
        self._register_metrics()
        self.stalls = LoopStallWatch(self.registry)
        self.stalls.start()
        now_ms = self.removal_clock.now_ms
        views = json_views(config.node_id, self.replicas, lambda: self.tiering, now_ms)
        self.http = HttpServer(config.tierlog_http_listeners, self.registry, lambda: self.not_ready, views)
        await self.http.start(lambda run: self.background.forever("http", run, vital=self.fail).drain)
        for listener in self.listeners:
            await listener.serve(self.dispatcher)
        self.not_ready = None
        self.replicas.long_lived.settle()
        for remark in config.remarks:
            logger.warning("a property has no effect", property=remark)
        if config.meaningless:
            logger.info("properties of Kafka that have no effect here", properties=sorted(config.meaningless))
        logger.info(
            "broker started",
            node_id=config.node_id,
            broker_epoch=self.registration.broker_epoch,
            cluster_id=self.services.cluster_id,
            listeners=[f"{e.listener}://{e.host}:{e.port}" for e in self.endpoints],
            image_load_ms=self.identity.image_load_ms,
            kernel=kernel.name(),
        )

    def _recover(self) -> None:
        """Opens the logs, and judges whether they may have lost data since the last session."""
        self.sessions = SessionMarkers(self.log_dirs, boot_id())
        self.sessions.begin()
        try:
            self.replicas.recover(has_lost_dirs=self.sessions.has_lost_dirs)
        except DiskFull as error:
            full = ", ".join(str(log_dir.path) for log_dir in self.log_dirs if log_dir.reserve_reached)
            raise UserError(
                f"log.dirs: {full or 'a log directory'} is full, and a log cannot be recovered without any room: make "
                f"some and start again; nothing is lost ({error})"
            ) from error
        known = self.feed.image.brokers.get(self.config.node_id)
        handled_epoch = known.state.broker_epoch if known is not None and known.state is not None else 0
        self.replicas.complete_replicas.adopt(
            self.sessions.trusted_dirs(handled_epoch), self.replicas.found_names
        )
        self.data = self.sessions.judge(handled_epoch, self.replicas.lossy_count)
        # The only full garbage collection: no client is served yet.
        gc.collect()
        self.replicas.long_lived.settle()

    def _make_services(self) -> None:
        config, loop = self.config, self.loop
        rules = rules_of(
            config,
            remote_storage=config.remote_log_storage_system_enable,
            validate_broker_configs=lambda configs, before: validate_broker_configs(configs, broker=config),
        )
        self._make_registration()
        background = self.background
        self.runner = ControllerRunner(
            self.store, self.feed, self.registration, rules, background=background, on_failure=self.fail
        )
        admin = ControllerClient(self.runner, config.request_timeout_ms)
        link = ControllerLink(config.node_id, self.store, self.feed, config.inter_broker_listener_name)
        self._make_replication()
        self._make_dir_moves()
        feed, count = self.feed, lambda: self.feed.partition_count(OFFSETS_TOPIC)
        session_slots = config.max_incremental_fetch_session_cache_slots
        self.groups = ShardRuntime(loop, group_config(config), count, None, feed.has_topic)
        self.replicas.observers.append(GroupShards(self.groups, wall_clock_ms))
        self.topic_deletion = TopicDeletion(
            config.node_id,
            lambda: self.feed.image,
            self.groups.topics_deleted,
            admin,
            background,
            self.replicas.settled,
        )
        self.feed.subscribe(self.topic_deletion.apply)
        self.requests = RequestMetrics(self.registry, api_table.NAMES, loop.time)
        self.services = Services(
            config=config,
            loop=loop,
            background=background,
            registry=self.registry,
            store=self.store,
            feed=self.feed,
            replicas=self.replicas,
            isr_changes=self.isr_changes,
            dir_moves=self.dir_moves,
            fetch_sessions=FetchSessions(session_slots, lambda: secrets.randbelow(2**31)),
            reply_memory=self.reply_memory,
            cold_reads=ColdReads(loop),
            slices=Slices(loop),
            time_lookups=TimeLookups(loop),
            openings=BesideLoop(loop, "opening", config.tierlog_request_memory_bytes),
            admin=admin,
            controller_link=link,
            groups=self.groups,
            producer_ids=ProducerIds(admin, background),
            topic_creation=TopicCreation(self.feed, admin, link, background),
            endpoints=self.endpoints,
            cluster_id="",
            served_apis=served(row.spec for row in api_table.ROWS.values()),
            produce_waits=ProduceWaits(loop, self.requests, config.node_id, lambda: self.feed.image),
        )
        self._make_dispatcher()

    def _make_dir_moves(self) -> None:
        self.dir_moves = DirMoves(
            self.replicas,
            lambda: self.feed.image,
            self.loop,
            wall_clock_ms,
            self.housekeeping.checkpoint,
            self.background,
        )

    def _register_metrics(self) -> None:
        registry, replicas, listeners = self.registry, self.replicas, self.listeners
        metrics.register_partitions(registry, replicas, self.config.node_id, lambda: self.feed.image)
        metrics.register_isr_changes(registry, self.isr_changes)
        metrics.register_log_dirs(registry, replicas)
        metrics.register_groups(registry, self.groups, replicas)
        metrics.register_work(registry, self.background, self.services.slices)
        register_connections(registry, lambda: [(each.name, len(each.connections)) for each in listeners])
        memory.register(registry, self.reply_memory, self.receive_turns, self.services.openings)

    def _make_dispatcher(self) -> None:
        self.dispatcher = Dispatcher(
            {key: row.bound(self.services) for key, row in api_table.ROWS.items()},
            self.requests.by_key,
            loop=self.loop,
            slices=self.services.slices,
            background=self.background,
            hot=hot_requests(self.services, self.requests.by_key),
            quotas=ReplayQuota(self.replicas.replay_rate, self.loop, self.registry),
        )

    def _make_registration(self) -> None:
        config = self.config
        self.description = BrokerDescription(
            config.node_id,
            tuple(self.endpoints),
            rack=config.broker_rack,
            host=config.tierlog_host or boot_id(),
            dirs=tuple(log_dir.directory_id for log_dir in self.log_dirs if log_dir.directory_id),
            offline_dirs=tuple(d.directory_id for d in self.log_dirs if d.directory_id and not d.is_online),
            cordoned_dirs=cordoned_dirs(self.replicas),
            boot_id=boot_id(),
            lossless_since=self.data.lossless_since,
            is_lossy=self.data.is_lossy,
            cluster_id=next((d.cluster_id for d in self.log_dirs if d.cluster_id), config.tierlog_cluster_id),
        )
        self.registration = Registration(
            self.store,
            self.feed,
            self.description,
            session_timeout_ms=config.broker_session_timeout_ms,
            heartbeat_interval_ms=config.broker_heartbeat_interval_ms,
            background=self.background,
            on_registered=self._on_registered,
            on_replaced=self.fail,
        )
        self.cordons = Cordons(self.replicas, self.registration, self.background)
        offline = OfflineReplicas(config.node_id, self.store, lambda: self.feed.image, self.registration)
        self.failure_reports = FailureReports(
            config.node_id, self.replicas, offline, self.background, self.fail
        )

    def _make_replication(self) -> None:
        config, loop = self.config, self.loop
        self.isr_changes = IsrChangeDriver(
            config.node_id,
            config.replica_lag_time_max_ms,
            self.store,
            lambda: self.feed.image,
            self.replicas,
            loop,
            self.background,
        )
        roles = self.replicas.roles
        self.followed_brokers = FollowedBrokers(
            config,
            lambda: self.feed.image,
            lambda: roles.broker_epoch,
            loop,
            wall_clock_ms,
            self.replicas.quotas.follower,
            self.background,
            lambda: None if self.tiering is None else self.tiering.start_follower,
        )
        self.feed.subscribe(self.followed_brokers.apply)

    def _on_registered(self, broker_epoch: int) -> None:
        lossless_since = self.registration.lossless_since
        self.sessions.registered(broker_epoch, lossless_since)
        self.replicas.roles.on_registered(broker_epoch, lossless_since, self.replicas)
        self.replicas.roles.refresh(self.replicas)

    async def _bind(self) -> None:
        config = self.config
        limits = ConnectionLimits(config, self.registry)
        self.replicas.follow_config(limits.configure)
        self.receive_turns = ReceiveTurns(
            self.loop,
            request_memory_bytes(config),
            lambda: (c for each in self.listeners for c in each.connections if c.holds_partial_frame),
        )
        self.reply_memory = ReplyMemory(self.loop, config.tierlog_reply_memory_bytes)
        for endpoint in config.listeners:
            listener = Listener(endpoint, config, limits, self.receive_turns, self.reply_memory, self.loop)
            await listener.bind()
            self.listeners.append(listener)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Advertised addresses; port 0 is replaced by the port that was bound."""
        bound = {listener.name: listener.port for listener in self.listeners}
        return [
            Endpoint(
                advertised.name,
                advertised.host or "localhost",
                advertised.port or bound[advertised.name],
                advertised.security_protocol,
            )
            for advertised in self.config.advertised_listeners
        ]

    async def _join(self) -> None:
        """Registers, is unfenced, and waits a moment for the elections that follow."""
        self.log_ends = LogEndReports(
            self.store,
            self.feed,
            self.replicas,
            lambda: self.registration.broker_epoch,
            self.config.node_id,
            self.background,
        )
        await self.registration.start()
        self.services.cluster_id = self.registration.cluster_id
        self.sessions.begun(self.replicas.fail_dir)
        if self.config.remote_log_storage_system_enable:
            self.tiering = await self._open_tiering()
            self.services.remote_reads = self.tiering.reads
            self.services.store_gate = self.tiering.admission
        self.replicas.roles.begin(self.replicas)
        self.replicas.complete_replicas.begin()
        # Not earlier: the comparison with the tier may have begun a log anew, which changes its end.
        self.feed.subscribe(self.log_ends.apply)
        self.log_ends.ask()
        self.runner.start()
        assert self.failure_reports is not None
        await self.failure_reports.report_what_failed_before()
        await self.registration.activate()
        await self._wait_for_leadership()
        self.topic_deletion.confirm_soon()
        if self.tiering is not None:
            self.tiering.start()

    async def _wait_for_leadership(self) -> None:
        """Waits up to ``ELECTION_WAIT_S`` for the elections that follow the unfencing, so that clients find leaders."""
        deadline_s = self.loop.time() + ELECTION_WAIT_S
        while self.loop.time() < deadline_s and any(
            p.leader is None and p.leader_id < 0 for p in self.replicas if p.offline is None
        ):
            await asyncio.sleep(0.002)
        await self.replicas.settled()
        # With flush.mode=ack a recovered tail counts only once it is synced; until then clients would see the end go back.
        await self.flusher.idle()

    def fail(self, why: BaseException) -> None:
        """Tells the process to stop: something that the broker cannot do without has ended."""
        logger.error("the broker cannot go on", why=str(why), exc_info=why)
        self.failure = why
        self.ending.set()

    async def _open_tiering(self) -> Tiering:
        # Only a broker with an object store pays for the import.
        from tierlog.broker.offload.service import Tiering

        assert self.identity.store_stats is not None
        tiering = await Tiering.open(
            self.config,
            self.identity.store_stats,
            self.store,
            lambda: self.feed.image,
            self.registration,
            self.replicas,
            self.services.admin,
            self.registry,
            self.removal_clock.now_ms,
            self.background,
            on_tiered=self.housekeeping.on_tiered,
            seal=self.housekeeping.seal,
            client_traffic=self.services.client_traffic,
            bucket_answers=self.identity.bucket_answers,
        )
        self.feed.watch_heads(tiering.views)
        return tiering

    # -- stop

    async def abandon(self) -> None:
        """Ends what a failed or interrupted start, or a failure, has left running: like a crash, but returns the lease."""
        registration = getattr(self, "registration", None)  # the start may have failed before it was made
        if registration is not None:
            await registration.close(clean=False)
        await self.background.close()

    async def _hand_over(self) -> None:
        began_s = self.loop.time()
        has_handed_over = await self.registration.prepare_stop(HANDOVER_S)
        said = (
            "leadership handed over"
            if has_handed_over
            else "this broker stops while it still leads partitions"
        )
        logger.info(said, took_ms=round(1000 * (self.loop.time() - began_s)))

    async def stop(self) -> None:
        """A clean stop: all that was acknowledged is on disk, and the next start need not scan the logs."""
        self.not_ready = "stopping"
        for listener in self.listeners:
            listener.close()
        if self.config.controlled_shutdown_enable:
            await self._hand_over()
        for listener in self.listeners:
            await listener.drain(DRAIN_S)
        await self.dispatcher.cancel()
        for task in self._tasks:
            await task.stop()
        assert self.failure_reports is not None
        await self.failure_reports.close()
        await self.cordons.close()
        await self.dir_moves.close()
        await self.replicas.complete_replicas.close()
        await self.topic_deletion.close()
        await self.followed_brokers.close()
        await self.isr_changes.close()
        await self.log_ends.close()
        self.groups.close()
        if self.tiering is not None:
            await self.tiering.close()
        await self.flusher.drain()
        await self.http.stop()
        self.housekeeping.close()
        self.cleaner.close()
        self.stalls.stop()
        self.services.cold_reads.close()
        self.services.time_lookups.close()
        self.services.openings.close()
        was_clean = close_clean(self.replicas, self.registration.broker_epoch)
        await self.runner.close()
        await self.registration.close(clean=was_clean)
        await self.feed.close()
        await self.background.close()
        await self.store.close()
        logger.info("broker stopped", node_id=self.config.node_id)
