"""The parts of the broker that a Fetch uses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tierlog.broker.fetch.cold_reads import ColdReads
    from tierlog.broker.fetch.remote_port import RemoteReads
    from tierlog.broker.fetch.sessions import FetchSessions
    from tierlog.broker.network.client_traffic import ClientTraffic
    from tierlog.broker.network.reply_memory import ReplyMemory
    from tierlog.broker.replicas.hosted import Replicas
    from tierlog.broker.work.background import Background
    from tierlog.broker.work.slices import Slices
    from tierlog.config.broker import BrokerConfig
    from tierlog.metadata.image import MetadataImage


class FetchParts(Protocol):
    """The handlers' ``Services`` implements this."""

    config: BrokerConfig
    loop: asyncio.AbstractEventLoop
    background: Background
    slices: Slices
    replicas: Replicas
    fetch_sessions: FetchSessions
    reply_memory: ReplyMemory
    cold_reads: ColdReads
    remote_reads: RemoteReads
    client_traffic: ClientTraffic

    @property
    def image(self) -> MetadataImage:
        """The metadata image as of now."""

    @property
    def broker_id(self) -> int:
        """This broker's id."""

    def monotonic_ms(self) -> int:
        """The loop's clock."""
