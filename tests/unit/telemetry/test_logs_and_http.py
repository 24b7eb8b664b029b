"""Structured logs, the loop watch, and the HTTP endpoints on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
import time
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from tierlog.broker.work.background import Background, Run
from tierlog.config.broker import Listener
from tierlog.errors import UserError
from tierlog.telemetry import logs
from tierlog.telemetry.http import Drain, HttpServer
from tierlog.telemetry.loop_stall import LoopStallWatch
from tierlog.telemetry.metrics import Registry


@pytest.fixture(autouse=True)
def _default_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def block(seconds: float) -> None:
    time.sleep(seconds)


def test_json_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream, node=3)
    log = structlog.get_logger()
    log.debug("not shown")
    log.info("segment copied", topic="t", bytes=12)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert {
        "event": "segment copied",
        "topic": "t",
        "bytes": 12,
        "level": "info",
        "node": 3,
    }.items() <= entry.items()
    assert entry["timestamp"].endswith("Z")


def test_an_exception_is_one_json_line() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    try:
        raise ValueError("x")
    except ValueError:
        structlog.get_logger().exception("failed")
    entry = json.loads(stream.getvalue())
    assert entry["exception"][0]["exc_type"] == "ValueError"


def test_human_lines_for_a_terminal() -> None:
    stream = io.StringIO()
    logs.configure("warning", stream=stream, json=False)
    structlog.get_logger().warning("disk is full", path="/data")
    assert "disk is full" in stream.getvalue()
    assert "path=/data" in stream.getvalue()


def test_once_per_peer_and_minute() -> None:
    once = logs.OncePerMinute(limit=2)
    assert once.allow("a", 0.0)
    assert not once.allow("a", 30.0)
    assert not once.allow("a", 59.9)
    assert once.suppressed("a") == 2
    assert once.allow("b", 30.0)
    assert once.allow("a", 60.0)
    assert once.suppressed("a") == 0
    assert once.suppressed("nobody") == 0
    assert once.allow("c", 61.0)  # forgets b, the longest silent
    assert not once.allow("a", 62.0)
    assert once.allow("b", 62.0)


async def test_the_loop_watch_sees_a_stall() -> None:
    watch = LoopStallWatch(Registry())
    watch.start()
    await asyncio.sleep(0.03)
    block(0.06)
    await asyncio.sleep(0.03)
    watch.stop()
    watch.stop()
    assert watch.maximum_s >= 0.045


async def test_it_tells_computing_from_waiting() -> None:
    watch = LoopStallWatch(Registry())
    watch.start()
    await asyncio.sleep(0.03)
    block(0.1)
    await asyncio.sleep(0.03)
    assert watch.maximum_s >= 0.085
    assert watch.computed_max_s < 0.05
    began_s = time.thread_time()
    while time.thread_time() < began_s + 0.1:
        pass
    await asyncio.sleep(0.03)
    watch.stop()
    assert watch.computed_max_s >= 0.085


async def ask(port: int, path: str) -> tuple[int, dict[str, str], str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    raw = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = raw.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def begin(run: Run) -> Drain:
    return Background().forever("http", run).drain


async def test_endpoints() -> None:
    registry = Registry()
    registry.counter("bytes_total", "Bytes.").labels().value += 5
    reason: str | None = "recovering logs"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    server = HttpServer([Listener("HTTP", "127.0.0.1", 0)], registry, lambda: reason)
    await server.start(begin)
    try:
        ((_, port),) = server.addresses
        assert (await ask(port, "/healthz"))[0] == 200
        status, _, body = await ask(port, "/readyz")
        assert (status, body) == (503, "recovering logs\n")
        reason = None
        assert (await ask(port, "/readyz"))[0] == 200
        assert (await ask(port, "/nothing"))[0] == 404
        answers = await asyncio.gather(*[ask(port, "/metrics") for _ in range(3)])
        for status, headers, body in answers:
            assert status == 200
            assert headers["content-type"].startswith("text/plain; version=")
            names = {family.name for family in text_string_to_metric_families(body)}
            assert "bytes" in names
        assert {number: signal.getsignal(number) for number in handlers} == handlers
    finally:
        await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await ask(port, "/healthz")


async def test_silent_connections_do_not_keep_health_checks_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.telemetry.http_patience.REQUEST_TIMEOUT_S", 0.2)
    server = HttpServer([Listener("HTTP", "127.0.0.1", 0)], Registry(), lambda: None)
    await server.start(begin)
    try:
        ((_, port),) = server.addresses
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        assert (await ask(port, "/healthz"))[0] == 200
        silent[-1][1].write(b"GET /healthz HTT")
        for reader, writer in silent:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()
        assert (await ask(port, "/healthz"))[0] == 200
    finally:
        await server.stop()


async def test_a_taken_port_is_a_mistake_of_the_user() -> None:
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    server = HttpServer([Listener("HTTP", "127.0.0.1", port)], Registry(), lambda: None)
    try:
        with pytest.raises(
            UserError, match=r"tierlog\.http\.listeners: cannot listen on HTTP://127\.0\.0\.1"
        ):
            await server.start(begin)
    finally:
        taken.close()
        await taken.wait_closed()
    await server.stop()


async def test_without_listeners_nothing_is_started() -> None:
    server = HttpServer([], Registry(), lambda: None)
    await server.start(begin)
    assert server.addresses == []
    await server.stop()
