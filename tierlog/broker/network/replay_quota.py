"""The quota class of replays: bytes a second that the answers to all fetches of ``tierlog replay`` may take together.

A replay is told by the software name that it gives (KIP-511), whatever its client id. As with Kafka's quotas (KIP-219), the
answer goes out at once and says for how long the connection is then held back.
"""

from __future__ import annotations

import asyncio

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.byte_rate import ByteRate
from tierlog.telemetry.metrics import Registry
from tierlog.types import Buffer

FETCH_KEY = 1
SOFTWARE = "tierlog-replay"
LONGEST_PAUSE_S = 10.0
"""Below a client's patience; what is still owed then is added to the next pause."""


class ReplayQuota:
    def __init__(self, rate: ByteRate, loop: asyncio.AbstractEventLoop, registry: Registry) -> None:
        self._rate = rate
        self._held_back_ms = 0
        self._loop = loop
        registry.value(
            "tierlog_replay_fetched_bytes_total",
            "counter",
            "Bytes of answers to fetches of replays.",
            lambda: rate.counted_bytes,
        )
        registry.value(
            "tierlog_replay_throttle_time_ms_total",
            "counter",
            "How long replays were told to wait: tierlog.replay.fetch.max.bytes.per.second.",
            lambda: self._held_back_ms,
        )

    def throttle_ms(self, ctx: RequestContext, request_bytes: int, reply: list[Buffer]) -> int:
        if ctx.api_key != FETCH_KEY or not ctx.session.client_software.startswith(SOFTWARE):
            return 0
        now_s = self._loop.time()
        self._rate.count(sum(map(len, reply)), now_s)
        pause_ms = round(1000 * min(self._rate.pause_s(now_s), LONGEST_PAUSE_S))
        self._held_back_ms += pause_ms
        return pause_ms
