"""The parts of the broker that handlers may use: a typed bag that the composition root fills."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tierlog.broker.clock import monotonic_ms, wall_clock_ms
from tierlog.broker.fetch.cold_reads import ColdReads
from tierlog.broker.fetch.remote_port import NoRemoteReads, RemoteReads
from tierlog.broker.leading.follower_watch import Watches
from tierlog.broker.network.client_traffic import ClientTraffic
from tierlog.broker.work.beside_loop import BesideLoop, TimeLookups
from tierlog.config.broker import BrokerConfig

if TYPE_CHECKING:
    from tierlog.broker.cluster.controller_client import ControllerClient
    from tierlog.broker.cluster.controller_link import ControllerLink
    from tierlog.broker.cluster.metadata_feed import MetadataFeed
    from tierlog.broker.cluster.producer_ids import ProducerIds
    from tierlog.broker.cluster.store_gate import StoreGate
    from tierlog.broker.cluster.topic_creation import TopicCreation
    from tierlog.broker.fetch.sessions import FetchSessions
    from tierlog.broker.groups.shard_runtime import ShardRuntime
    from tierlog.broker.handlers.waiting_produce import ProduceWaits
    from tierlog.broker.leading.isr_writer import IsrChangeDriver
    from tierlog.broker.network.context import RequestContext
    from tierlog.broker.network.reply_memory import ReplyMemory
    from tierlog.broker.network.rows import Answer
    from tierlog.broker.replicas.hosted import Replicas
    from tierlog.broker.upkeep.dir_moves import DirMoves
    from tierlog.broker.work.background import Background
    from tierlog.broker.work.slices import Slices
    from tierlog.metadata.image import MetadataImage
    from tierlog.metadata.records import Endpoint
    from tierlog.metadata.stores.port import MetadataStore
    from tierlog.telemetry.metrics import Registry
    from tierlog.wire.messages.api_versions import ApiVersion


Handler = Callable[["Services", "RequestContext", Any], "Answer"]


@dataclass(slots=True)
class Services:
    """One per broker."""

    config: BrokerConfig
    loop: asyncio.AbstractEventLoop
    background: Background
    registry: Registry
    store: MetadataStore
    feed: MetadataFeed
    replicas: Replicas
    isr_changes: IsrChangeDriver
    dir_moves: DirMoves
    fetch_sessions: FetchSessions
    reply_memory: ReplyMemory
    cold_reads: ColdReads
    slices: Slices
    time_lookups: TimeLookups
    # Opens produced batches off the loop, for topics whose records must be checked.
    openings: BesideLoop
    admin: ControllerClient
    controller_link: ControllerLink
    groups: ShardRuntime
    producer_ids: ProducerIds
    topic_creation: TopicCreation
    # This broker's addresses for clients.
    endpoints: Sequence[Endpoint]
    cluster_id: str
    served_apis: list[ApiVersion]
    produce_waits: ProduceWaits
    watches: Watches = field(default_factory=Watches)
    client_traffic: ClientTraffic = field(default_factory=ClientTraffic)
    remote_reads: RemoteReads = field(default_factory=NoRemoteReads)
    # None without an object store.
    store_gate: StoreGate | None = None
    now_ms: Callable[[], int] = wall_clock_ms

    def monotonic_ms(self) -> int:
        return monotonic_ms(self.loop)

    @property
    def image(self) -> MetadataImage:
        return self.feed.image

    @property
    def broker_id(self) -> int:
        return self.config.node_id
