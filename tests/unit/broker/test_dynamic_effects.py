"""Dynamic broker configs take effect on a running broker, for one and for all, and hold over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_config_effects import running, until
from tiering.objects.throttled import TokenBucket
from tierlog.broker.node import Broker
from tierlog.config.broker import BrokerConfig
from tierlog.errors import ErrorCode
from tierlog.metadata.control.configs import ConfigAlteration, ConfigOp, ConfigOperation
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.api_versions import ApiVersionsRequest


async def alter(broker: Broker, entity: str, **configs: str | None) -> None:
    operations = [
        ConfigOperation(name.replace("_", "."), ConfigOp.DELETE if value is None else ConfigOp.SET, value)
        for name, value in configs.items()
    ]
    (result,) = await broker.services.admin.alter_configs(
        [ConfigAlteration("broker", entity, operations)], validate_only=False
    )
    assert result.error is ErrorCode.NONE, result.message


VALUES: dict[str, tuple[str, Callable[[BrokerConfig], object], object]] = {
    "log_cleaner_backoff_ms": ("77", lambda c: c.log_cleaner_backoff_ms, 77),
    "log_cleaner_dedupe_buffer_size": ("2000000", lambda c: c.log_cleaner_dedupe_buffer_size, 2_000_000),
    "max_connections": ("7", lambda c: c.max_connections, 7),
    "max_connections_per_ip": ("6", lambda c: c.max_connections_per_ip, 6),
    "num_recovery_threads_per_data_dir": ("3", lambda c: c.num_recovery_threads_per_data_dir, 3),
    "producer_id_expiration_ms": ("99", lambda c: c.producer_id_expiration_ms, 99),
    "remote_fetch_max_wait_ms": ("8", lambda c: c.remote_fetch_max_wait_ms, 8),
    "remote_list_offsets_request_timeout_ms": ("9", lambda c: c.remote_list_offsets_request_timeout_ms, 9),
    "log_retention_ms": ("1234", lambda c: c.topic_defaults.retention_ms, 1234),
}


@pytest.mark.parametrize("entity", ["1", ""])
async def test_they_take_effect_hold_over_a_restart_and_go_again(tmp_path: Path, entity: str) -> None:
    async with running(tmp_path) as broker:
        before = broker.replicas.config
        await alter(broker, entity, **{name: text for name, (text, _, _) in VALUES.items()})
        for _, get, value in VALUES.values():
            assert get(broker.replicas.config) == value
    async with running(tmp_path) as broker:
        for _, get, value in VALUES.values():
            assert get(broker.replicas.config) == value
        await alter(broker, entity, **dict.fromkeys(VALUES))
        assert broker.replicas.config == before


async def test_a_brokers_own_wins_over_that_of_all(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        await alter(broker, "1", max_connections="5")
        await alter(broker, "", max_connections="9")
        assert broker.replicas.config.max_connections == 5
        await alter(broker, "1", max_connections=None)
        assert broker.replicas.config.max_connections == 9


async def test_the_number_of_connections(tmp_path: Path) -> None:
    async def is_served(port: int) -> bool:
        """Whether a question is answered; else the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        kept.append(writer)
        question = encode_request(18, 0, 1, None, encode(ApiVersionsRequest(), 0))
        writer.write(b"".join(question))
        async with asyncio.timeout(PATIENT_S):
            try:
                return await reader.read(1) != b""
            except ConnectionError:
                return False

    kept: list[asyncio.StreamWriter] = []
    async with running(tmp_path) as broker:
        port = broker.listeners[0].port
        assert await is_served(port)
        await alter(broker, "", max_connections="1")
        assert not await is_served(port)
        await alter(broker, "", max_connections="10", max_connections_per_ip="1")
        assert not await is_served(port)
        await alter(broker, "", max_connections_per_ip_overrides="127.0.0.1:5")
        assert await is_served(port)
        for writer in kept:
            writer.close()


async def test_the_cleaner_is_woken_by_a_shorter_pause(tmp_path: Path) -> None:
    async with running(tmp_path, log_cleaner_backoff_ms="3600000") as broker:
        looked: list[int] = []

        async def look() -> bool:
            looked.append(1)
            return False

        broker.cleaner.clean_dirtiest = look  # type: ignore[method-assign]
        await asyncio.sleep(0)
        await alter(broker, "1", log_cleaner_backoff_ms="20")
        await until(lambda: len(looked) > 3)


async def test_the_rates_and_the_cache_of_the_tier(tmp_path: Path) -> None:
    async with running(tmp_path, remote_log_storage_system_enable="true") as broker:
        assert broker.tiering is not None
        reader, throttle = broker.tiering.reader, broker.tiering.objects
        assert not throttle._upload.is_limited
        await alter(
            broker,
            "",
            remote_log_manager_copy_max_bytes_per_second="1000",
            remote_log_manager_fetch_max_bytes_per_second="2000",
            remote_log_index_file_cache_total_size_bytes="3000",
        )
        assert (throttle._upload._rate, reader._gets._quota._rate) == (1000, 2000)
        assert (reader._cache.admission.bytes_per_second, reader._footers._budget_bytes) == (2000, 3000)
    async with running(tmp_path, remote_log_storage_system_enable="true") as broker:
        assert broker.tiering is not None
        assert broker.tiering.objects._upload._rate == 1000


def test_a_new_rate_holds_for_those_who_wait() -> None:
    now_s = [100.0]
    bucket = TokenBucket(10, clock=lambda: now_s[0])
    assert bucket.reserve(10) == 0  # the burst
    assert bucket.reserve(1000) == 100
    bucket.set_rate(1000)
    assert bucket._due_s(bucket._granted_bytes) == 1
    now_s[0] += 0.5
    bucket.set_rate(100)
    assert bucket._due_s(bucket._granted_bytes) == 5
    bucket.set_rate(0)
    assert bucket._due_s(bucket._granted_bytes) == 0 == bucket.reserve(10**9)
    bucket.set_rate(10)
    assert bucket.reserve(10) == 0
    assert bucket.reserve(10) == 1


async def test_a_waiter_goes_as_soon_as_the_rate_is_lifted() -> None:
    bucket = TokenBucket(1)
    waiting = asyncio.create_task(bucket.take(10**9))
    await asyncio.sleep(0)
    bucket.set_rate(0)
    async with asyncio.timeout(PATIENT_S):
        await waiting
