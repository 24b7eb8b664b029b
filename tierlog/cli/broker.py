"""``tierlog broker`` and ``tierlog up``: run a broker in this process until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tierlog.cli.output import pairs
from tierlog.cli.supervisor import LOG_FORMAT, end_with_supervisor
from tierlog.config.broker import BrokerConfig
from tierlog.config.properties import load
from tierlog.errors import UserError
from tierlog.telemetry import logs

if TYPE_CHECKING:
    from tierlog.broker.node import Broker
    from tierlog.broker.systemd import Systemd

DEFAULT_DATA = Path("data")
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9092
DEFAULT_HTTP_PORT = 9464


def configured(config: Path | None, overrides: list[str]) -> BrokerConfig:
    """server.properties, overridden by the environment and by ``key=value`` overrides. Raises UserError."""
    from tierlog.broker.offload.bucket import url_problem

    return load(config, env=os.environ, overrides=pairs(overrides, "--override"), store_problem=url_problem)


def embedded(
    data: Path | None, host: str | None, port: int | None, http_port: int | None, overrides: list[str]
) -> BrokerConfig:
    """The config of ``tierlog up``: everything under one directory. Command line options that were given (not None) win
    over the environment, which wins over their defaults. Raises UserError."""
    given = dict(_directories(data)) if data is not None else {}
    if host is not None or port is not None:
        given["listeners"] = f"PLAINTEXT://{host or DEFAULT_HOST}:{DEFAULT_PORT if port is None else port}"
    if http_port is not None:
        given["tierlog.http.listeners"] = _http(host, http_port)
    defaults = {
        **_directories(DEFAULT_DATA),
        "node.id": "1",
        "listeners": f"PLAINTEXT://{DEFAULT_HOST}:{DEFAULT_PORT}",
        "tierlog.http.listeners": _http(host, DEFAULT_HTTP_PORT),
        "remote.log.storage.system.enable": "true",
        "group.initial.rebalance.delay.ms": "0",
    }
    given |= pairs(overrides, "--override")
    from tierlog.broker.offload.bucket import url_problem

    return load(None, env=os.environ, overrides=given, defaults=defaults, store_problem=url_problem)


def _directories(data: Path) -> dict[str, str]:
    data = data.absolute()
    return {
        "log.dirs": str(data / "logs"),
        "metadata.store": f"sqlite:{data / 'metadata.db'}",
        "tierlog.object.store": f"dir:{data / 'objects'}",
    }


def _http(host: str | None, port: int) -> str:
    return f"HTTP://{host or DEFAULT_HOST}:{port}" if port >= 0 else ""


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Runs ``main``, on uvloop if it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


async def serve(config: BrokerConfig, on_started: Callable[[Broker], None] | None = None) -> None:
    """One broker, from start to clean stop."""
    from tierlog.broker.node import Broker
    from tierlog.broker.systemd import Systemd

    systemd = Systemd()
    try:
        await _serve(Broker(config), systemd, on_started)
    finally:
        systemd.close()


async def _serve(broker: Broker, systemd: Systemd, on_started: Callable[[Broker], None] | None) -> None:
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None
    is_starting = True

    def stop() -> None:
        broker.ending.set()
        if is_starting:
            this.cancel()  # the start may wait for the metadata store without end

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await broker.start()
        is_starting = False
        systemd.ready()
        if on_started is not None:
            on_started(broker)
        await broker.ending.wait()
        systemd.stopping()
        if broker.failure is not None:
            raise UserError(f"the broker has stopped: {broker.failure}")
    except BaseException as error:
        if is_starting:
            systemd.stopping()
        is_starting = False
        await broker.abandon()
        if isinstance(error, asyncio.CancelledError) and broker.ending.is_set():
            this.uncancel()
            return
        raise
    await broker.stop()


def run_broker(config: BrokerConfig, *, greet: bool = False) -> None:
    """Runs until SIGTERM or Ctrl-C. With ``greet``, prints the first things to try if stdout is a terminal."""
    end_with_supervisor()
    as_json = {"json": True, "console": False}.get(os.environ.get(LOG_FORMAT, ""))
    logs.configure(os.environ.get("TIERLOG_LOG_LEVEL", "info"), json=as_json, node=config.node_id)
    run_loop(serve(config, print_banner if greet and sys.stderr.isatty() else None))


def print_banner(broker: Broker) -> None:
    """Addresses, and the next three commands."""
    from rich.markup import escape
    from rich.panel import Panel
    from rich.table import Table

    from tierlog.cli.output import errors

    (endpoint, *_), config = broker.endpoints, broker.config
    address = f"{endpoint.host}:{endpoint.port}"
    where = Table.grid(padding=(0, 2))
    where.add_row("[dim]Kafka clients[/]", f"[bold]{address}[/]")
    for host, port in broker.http.addresses:
        where.add_row("[dim]HTTP[/]", f"http://{host}:{port}/metrics  /healthz  /readyz")
    where.add_row("[dim]local log[/]", escape(config.log_dir))
    where.add_row("[dim]object store[/]", escape(config.tierlog_object_store))
    where.add_row("", "")
    target = "" if address == f"{DEFAULT_HOST}:{DEFAULT_PORT}" else f" -b {address}"
    for label, command in (
        ("try", f"tierlog topic create events -p 3 -c remote.storage.enable=true{target}"),
        ("", f"tierlog topic describe events{target}"),
        ("", f"tierlog storage describe events{target}"),
    ):
        where.add_row(f"[dim]{label}[/]", f"[cyan]{command}[/]")
    where.add_row("[dim]stop[/]", "Ctrl-C")
    errors().print(
        Panel.fit(where, title="[bold green]tierlog is up[/]", border_style="green", padding=(1, 2))
    )
