"""``tierlog broker`` and ``tierlog up``: run a broker in this process until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tierlog.config.broker import BrokerConfig
from tierlog.config.properties import load
from tierlog.errors import UserError
from tierlog.telemetry import logs


def configured(config: Path | None, overrides: list[str]) -> BrokerConfig:
    """server.properties under the environment and ``key=value`` overrides. Raises UserError."""
    pairs = {}
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise UserError(f"--override {override}: expected KEY=VALUE")
        pairs[key.strip()] = value.strip()
    return load(config, env=os.environ, overrides=pairs)


def embedded(data: Path, host: str, port: int, http_port: int, overrides: list[str]) -> BrokerConfig:
    """The defaults of ``tierlog up``: everything under one directory."""
    pairs = {
        "node.id": "1",
        "listeners": f"PLAINTEXT://{host}:{port}",
        "log.dirs": str(data / "logs"),
        "metadata.store": f"sqlite:{data / 'metadata.db'}",
        "tierlog.object.store": f"dir:{data / 'objects'}",
        "remote.log.storage.system.enable": "true",
        "group.initial.rebalance.delay.ms": "0",
    }
    if http_port >= 0:
        pairs["tierlog.http.listeners"] = f"HTTP://{host}:{http_port}"
    for override in overrides:
        key, _, value = override.partition("=")
        pairs[key.strip()] = value.strip()
    return load(None, env=os.environ, overrides=pairs)


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Runs ``main`` on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


async def serve(config: BrokerConfig) -> None:
    """One broker, from start to clean stop."""
    from tierlog.broker.node import Broker

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    broker = Broker(config)
    await broker.start()
    await stopping.wait()
    await broker.stop()


def run_broker(config: BrokerConfig) -> None:
    logs.configure(os.environ.get("TIERLOG_LOG_LEVEL", "info"), node=config.node_id)
    run_loop(serve(config))
