"""``/metrics``, ``/healthz``, ``/readyz`` and the broker's JSON views, served by uvicorn in the broker's own event loop.

``/healthz`` answers 200 while the loop runs; ``/readyz`` answers 503 with the reason until the broker is ready for
clients. No signal handlers and no access log: the process belongs to the broker. uvicorn and starlette are imported
only when a listener is configured, so a broker without one does not pay for them (5 MB, 0.1 s).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tierlog.config.broker import Listener
from tierlog.errors import UserError
from tierlog.telemetry.exposition import CONTENT_TYPE, render
from tierlog.telemetry.metrics import Registry

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from uvicorn import Server

MAX_CONCURRENT_REQUESTS = 32
STOP_TIMEOUT_S = 2

Drain = Callable[[], Awaitable[None]]
Begin = Callable[[Callable[[], Coroutine[Any, Any, None]]], Drain]


class JsonView(NamedTuple):
    """A GET that answers JSON. ``path`` is a template (``/v1/topics/{topic}/storage``); ``read`` gets the values of its
    placeholders and returns the answer, or None for a 404; bytes are JSON already. It must yield to the loop within a
    millisecond or so.
    """

    path: str
    read: Callable[[Mapping[str, str]], Awaitable[object | None]]


def application(
    registry: Registry, not_ready: Callable[[], str | None], views: Sequence[JsonView] = ()
) -> Starlette:
    """The app alone; ``not_ready`` gives the reason, or None once the broker is ready."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    # One scrape at a time: sources keep their rows for the families that follow. The text is complete before it is
    # sent, so a slow reader holds memory (2 MB with a thousand partitions) but does not delay the next scrape.
    scraping = asyncio.Lock()

    async def metrics(_request: Request) -> Response:
        async with scraping:
            body = b"".join([chunk async for chunk in render(registry)])
        return Response(body, headers={"content-type": CONTENT_TYPE})

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        reason = not_ready()
        if reason is None:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(reason + "\n", status_code=503)

    def answering(view: JsonView) -> Route:
        async def answer(request: Request) -> Response:
            value = await view.read(request.path_params)
            if value is None:
                return JSONResponse({"error": f"there is no {request.url.path} here"}, status_code=404)
            if isinstance(value, bytes):
                return Response(value, media_type="application/json")
            return JSONResponse(value)

        return Route(view.path, answer)

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            *map(answering, views),
        ]
    )


class HttpServer:
    """``start`` binds (UserError when it cannot) and serves; ``stop`` ends open connections within two
    seconds.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        registry: Registry,
        not_ready: Callable[[], str | None],
        views: Sequence[JsonView] = (),
    ) -> None:
        self._listeners = listeners
        self._views = views
        self._registry = registry
        self._not_ready = not_ready
        self._sockets: list[socket.socket] = []
        self._server: Server | None = None
        self._drain: Drain | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The bound addresses, with the ports that were picked for port 0."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    async def start(self, begin: Begin) -> None:
        """``begin(run)`` starts ``run`` as a background task; it returns what waits for its end."""
        if not self._listeners:
            return
        self._sockets = [_bind(listener) for listener in self._listeners]
        import uvicorn

        from tierlog.telemetry.http_patience import impatient_protocol

        serving = asyncio.Event()

        class QuietServer(uvicorn.Server):
            """Leaves the signals to the broker."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                serving.set()

            @contextlib.contextmanager
            def capture_signals(self) -> Generator[None, None, None]:
                yield

        self._server = QuietServer(
            uvicorn.Config(
                application(self._registry, self._not_ready, self._views),
                log_config=None,
                access_log=False,
                lifespan="off",
                http=impatient_protocol(MAX_CONCURRENT_REQUESTS // 2),
                ws="none",
                loop="none",
                limit_concurrency=MAX_CONCURRENT_REQUESTS,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
                server_header=False,
            )
        )
        self._drain = begin(partial(self._server.serve, sockets=self._sockets))
        await serving.wait()

    async def stop(self) -> None:
        if self._server is None or self._drain is None:
            return
        self._server.should_exit = True
        await self._drain()
        for sock in self._sockets:
            sock.close()
        self._server = self._drain = None


def _bind(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listener.host, listener.port))
    except OSError as error:
        sock.close()
        raise UserError(
            f"tierlog.http.listeners: cannot listen on {listener}: {error.strerror or error}"
        ) from error
    sock.setblocking(False)
    return sock
