"""What obstore cannot ask of S3 (copies with a class, classes, unfinished uploads), asked in a process of its own.

The process (``tiering.objects.s3.control_process``) starts with the first request and ends after ``IDLE_S`` without one, so
that a broker never loads aioboto3. Requests and answers are JSON lines, many at a time, matched by their numbers. It tells
each HTTP request that it has made before it answers; what a process that is killed has under way is not counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import asdict
from functools import partial
from typing import Any

from tiering import errors
from tiering.errors import ObjectStoreError, Unavailable
from tiering.ledger.rows import Operation
from tiering.metering.meter import Meter
from tiering.objects.classes import StorageClass
from tiering.objects.s3.config import S3Config
from tiering.tasks import begin

IDLE_S = 60.0
REQUESTS_AT_ONCE = 64
ANSWER_BYTES_MAX = 4 << 20
CLOSE_S = 3.0


class Control:
    """One process at a time, for one bucket and prefix."""

    def __init__(self, config: S3Config, meter: Meter, *, idle_s: float = IDLE_S) -> None:
        self._config = config
        self._meter = meter
        self._idle_s = idle_s
        self._session: _Session | None = None
        self._turns = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._idle: asyncio.TimerHandle | None = None

    async def ask(self, verb: str, **arguments: Any) -> Any:
        """Raises an error of the port as the process classified it, ``Unavailable`` if it ended. A request that is cancelled
        may still be carried out."""
        async with self._turns:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            if self._session is None or self._session.is_over:
                self._session = _Session(self._config, self._meter)
            session = self._session
            try:
                return await session.ask({"verb": verb, **arguments})
            finally:
                if session is self._session and not session.is_waiting:
                    loop = asyncio.get_running_loop()
                    self._idle = loop.call_later(self._idle_s, session.end)

    async def close(self) -> None:
        """End the process and wait for it."""
        if self._idle is not None:
            self._idle.cancel()
        session, self._session = self._session, None
        if session is not None:
            session.end()
            await session.ended(CLOSE_S)


class _Session:
    """One run of the process."""

    def __init__(self, config: S3Config, meter: Meter) -> None:
        self._meter = meter
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._notes: dict[int, Callable[[Operation, bool], None]] = {}
        """Count what is asked for a request, until it is answered, though its caller may have left."""
        self._last_number = 0
        self._process: asyncio.subprocess.Process | None = None
        self._is_ending = False
        self._started = asyncio.get_running_loop().create_future()
        self._run = begin(self._serve(json.dumps(asdict(config))))

    @property
    def is_over(self) -> bool:
        return self._is_ending or self._run.done()

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def end(self) -> None:
        """The process ends once its input does."""
        self._is_ending = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def ended(self, patience_s: float | None = None) -> None:
        """Kills a process that takes longer: it may be waiting for a server."""
        _, running = await asyncio.wait([self._run], timeout=patience_s)
        if running and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await asyncio.wait([self._run])

    async def ask(self, request: dict[str, Any]) -> Any:
        self._last_number += 1
        number = self._last_number
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            stdin = await asyncio.shield(self._started)
            self._notes[number] = self._noting(request)
            stdin.write(json.dumps({"number": number, **request}).encode() + b"\n")
            return await answer
        finally:
            del self._waiting[number]

    def _noting(self, request: dict[str, Any]) -> Callable[[Operation, bool], None]:
        """For whom this is asked, now."""
        key = request.get("target") or request.get("key") or request.get("prefix") or ""
        asked_class = request.get("storage_class")
        storage_class = StorageClass(asked_class).label if asked_class is not None else ""
        context = copy_context()

        def note(operation: Operation, has_failed: bool) -> None:
            context.run(
                partial(self._meter.note, operation, key, failed=has_failed, storage_class=storage_class)
            )

        return note

    async def _serve(self, config: str) -> None:
        """Starts the process and hands its answers to those who wait, until it ends."""
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tiering.objects.s3.control_process",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=ANSWER_BYTES_MAX,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(config.encode() + b"\n")
            self._started.set_result(process.stdin)
            if self._is_ending:
                process.stdin.close()
            with suppress(ValueError):  # A line beyond the limit: not an answer of ours.
                while line := await process.stdout.readline():
                    self._hand_on(json.loads(line))
        finally:
            self._is_ending = True
            self._fail_all()
            if self._process is not None and self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()

    def _hand_on(self, answer: dict[str, Any]) -> None:
        number = answer["number"]
        if "asked" in answer:
            operation, has_failed = answer["asked"]
            if number in self._notes:
                self._notes[number](Operation(operation), has_failed)
            return
        self._notes.pop(number, None)
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if "error" in answer:
            kind = getattr(errors, answer["error"])
            assert issubclass(kind, ObjectStoreError)
            waiting.set_exception(kind(answer["message"], key=answer["key"]))
        else:
            waiting.set_result(answer["result"])

    def _fail_all(self) -> None:
        error = Unavailable("the process that speaks to S3 ended")
        for waiting in (self._started, *self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # Retrieved, so that asyncio does not warn where nobody waits any more.
