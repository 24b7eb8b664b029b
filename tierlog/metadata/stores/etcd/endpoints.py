"""Connections to the members of etcd: calls go to one member, and to the next one when it fails.

Rules:

* A call is sent only over an established connection, so a failure to connect has surely changed nothing.
* A call that changes keys is sent once. When its answer is lost it raises ``UnknownOutcome``; only a call that etcd
  surely did not carry out (no leader, an old token) is sent again. All other calls may be repeated at another member.
* Every call demands that the member has a leader (etcd's ``hasleader``), so a member that is cut off from the others
  refuses instead of waiting, and ends its watches.
* When a member fails or does not answer in time, calls and watches move on to the next one. They come back only by
  the next failure.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import grpc
import grpc.aio
from grpc import ChannelConnectivity, StatusCode

from tierlog.errors import StoreUnavailable, UnknownOutcome, UserError
from tierlog.metadata.stores.etcd import messages
from tierlog.metadata.stores.etcd.settings import EtcdSettings

# More would only wait inside etcd, where the time limit of an attempt already runs.
MAX_IN_FLIGHT = 64
# One answer to a watch that is behind may hold 1000 transactions.
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
RETRY_S = 0.05

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 400),
    # gRPC must not retry: only this module decides what is sent twice.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

_GRPC_PREFIX = re.compile(r"^[A-Z_]+: (ipv4:|ipv6:)?")

Stream: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"
Metadata: TypeAlias = tuple[tuple[str, str], ...]
_Send: TypeAlias = "Callable[[Endpoint, str, bytes, Metadata, float], Awaitable[bytes]]"


class Refusal(Exception):
    """etcd refused, and did nothing. ``details``: its own words."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class AccessRefused(StoreUnavailable):
    """etcd does not permit the call to this user, or with these certificates."""


class _NotDone(Exception):
    """Nothing was done; another member may do it."""


class _Busy(_NotDone):
    """The same member may be able to do it in a moment."""


class _TokenExpired(_NotDone):
    """The token must be renewed first."""


class _Lost(Exception):
    """The answer is lost: the call may have been carried out."""


_ANSWERS = (
    StatusCode.NOT_FOUND,
    StatusCode.OUT_OF_RANGE,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.UNIMPLEMENTED,
)


def _verdict(error: grpc.aio.AioRpcError, address: str) -> Exception:
    """The exception for an error, by what it implies about the outcome; ``_Lost`` when in doubt."""
    code, details = error.code(), error.details() or ""
    words = details.removeprefix("etcdserver: ")
    told = f"{address}: {details}"
    if words == "no leader":
        return _NotDone(told)
    if words == "too many requests":
        return _Busy(told)
    if code is StatusCode.UNAUTHENTICATED or words.startswith("revision of auth store is old"):
        return _TokenExpired(told)
    if code is StatusCode.PERMISSION_DENIED or words.startswith(
        ("authentication failed", "user name is empty")
    ):
        return AccessRefused(told)
    if code in _ANSWERS or words.startswith("mvcc: database space exceeded"):
        return Refusal(code, details)
    return _Lost(f"{address}: {code.name}: {details}")


class Endpoint:
    """One member: its channel and the calls on it."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.address = address
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, _OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, _OPTIONS)

    async def connect(self, timeout_s: float) -> str | None:
        """None when the connection is established, else the reason why not."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    state = self._channel.get_state(try_to_connect=True)
                    if state is ChannelConnectivity.READY:
                        return None
                    if state is ChannelConnectivity.TRANSIENT_FAILURE:
                        return await self._failure()
                    await self._channel.wait_for_state_change(state)
        except TimeoutError:
            return f"{self.address}: no connection within {timeout_s:.1f} s"

    async def _failure(self) -> str | None:
        """gRPC gives the reason only to a call, so this makes one that does no harm even if it is sent."""
        try:
            await self.call(messages.RANGE, messages.range_request(b"\0", limit=1), (), 1.0)
        except grpc.aio.AioRpcError as error:
            if error.code() is StatusCode.UNAVAILABLE:
                why = (error.details() or "").rpartition("last error: ")[2]
                return f"{self.address}: {_GRPC_PREFIX.sub('', why).removeprefix(f'{self.address}: ')}"
        return None

    async def call(self, method: str, request: bytes, metadata: Metadata, timeout_s: float) -> bytes:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
        return await call(request, timeout=timeout_s, metadata=metadata)

    async def exchange(self, method: str, request: bytes, metadata: Metadata, timeout_s: float) -> bytes:
        """One request and one answer, on a stream of its own."""
        stream = self.stream(method, metadata)
        try:
            async with asyncio.timeout(timeout_s):
                await stream.write(request)
                answer = await stream.read()
        except TimeoutError:
            raise _Lost(f"{self.address}: no answer within {timeout_s:.1f} s") from None
        finally:
            stream.cancel()
        if not isinstance(answer, bytes):
            raise _Lost(f"{self.address}: the stream ended")
        return answer

    def stream(self, method: str, metadata: Metadata) -> Stream:
        call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(method)
        return call(metadata=metadata)

    async def close(self) -> None:
        await self._channel.close()


class Endpoints:
    """All members. Methods raise ``StoreUnavailable``, ``UnknownOutcome``, ``AccessRefused`` and ``Refusal``."""

    def __init__(self, settings: EtcdSettings, on_failed: Callable[[Endpoint], None]) -> None:
        """``on_failed``: called when calls leave a failed member."""
        self._settings = settings
        self._on_failed = on_failed
        credentials = _channel_credentials(settings)
        self._endpoints = [Endpoint(address, credentials) for address in settings.endpoints]
        # A random first member, so that brokers spread over the members.
        self._current = random.randrange(len(self._endpoints))
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        # A separate limit for streams, so that keepalives do not wait behind transactions.
        self._stream_slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._token = ""
        self._renewing = asyncio.Lock()
        self._is_closed = False

    async def once(self, method: str, request: bytes) -> bytes:
        """A call that must not be carried out twice. Raises ``UnknownOutcome`` when its answer is lost."""
        return await self._call(Endpoint.call, method, request, self._slots, may_repeat=False)

    async def repeatable(self, method: str, request: bytes) -> bytes:
        return await self._call(Endpoint.call, method, request, self._slots, may_repeat=True)

    async def exchange(self, method: str, request: bytes) -> bytes:
        """One request and one answer on a stream; may be repeated."""
        return await self._call(Endpoint.exchange, method, request, self._stream_slots, may_repeat=True)

    async def finish(self) -> None:
        """Accept no more calls, and return when all others have ended: within the request timeout."""
        if not self._is_closed:
            self._is_closed = True
            for slots in (self._slots, self._stream_slots):
                for _ in range(MAX_IN_FLIGHT):
                    await slots.acquire()

    async def close(self) -> None:
        """Call after ``finish``, when every stream has ended."""
        for endpoint in self._endpoints:
            await endpoint.close()

    # -- for streams that live long

    async def connected(self) -> Endpoint:
        """A member with an established connection; the search may last as long as a request."""
        failures: list[str] = []
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                return await self._find(failures)
        except TimeoutError:
            raise self._unavailable(failures) from None

    async def for_stream(self) -> tuple[Endpoint, Metadata]:
        """A member, and the metadata that a stream to it begins with."""
        endpoint = await self.connected()
        try:
            return endpoint, await self._metadata(endpoint)
        except _NotDone as error:
            self.failed(endpoint)
            raise StoreUnavailable(f"etcd: {error}") from None

    def stream_failed(self, endpoint: Endpoint, metadata: Metadata, error: grpc.aio.AioRpcError) -> None:
        """Prepares for the next stream. Raises ``AccessRefused``."""
        verdict = _verdict(error, endpoint.address)
        if isinstance(verdict, AccessRefused):
            raise verdict
        if isinstance(verdict, _TokenExpired):
            self._expire_token(metadata)
        else:
            self.failed(endpoint)

    def forget_token(self) -> None:
        """The next call gets a new one."""
        self._token = ""

    def failed(self, endpoint: Endpoint) -> None:
        """The next calls go to the next member."""
        if self._endpoints[self._current] is endpoint:
            self._current = (self._current + 1) % len(self._endpoints)
        self._on_failed(endpoint)

    # -- inside

    async def _metadata(self, endpoint: Endpoint) -> Metadata:
        """The metadata of every call: the demand for a leader and, with a user, the token."""
        if self._settings.user is not None and not self._token:
            await self._renew_token(endpoint)
        demand = ("hasleader", "true")
        return (demand, ("token", self._token)) if self._token else (demand,)

    def _expire_token(self, metadata: Metadata) -> None:
        """etcd does not accept the token of this call any more."""
        if self._settings.user is None:
            raise AccessRefused("etcd wants a user: set tierlog.etcd.user and tierlog.etcd.password")
        if ("token", self._token) in metadata:
            self._token = ""

    async def _call(
        self, send: _Send, method: str, request: bytes, slots: asyncio.Semaphore, *, may_repeat: bool
    ) -> bytes:
        if self._is_closed:
            raise StoreUnavailable("the metadata store is closed")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.request_timeout_ms / 1000
        failures: list[str] = []
        try:
            async with asyncio.timeout_at(deadline) as limit, slots:
                while True:
                    endpoint = await self._find(failures)
                    metadata: Metadata = ()
                    try:
                        metadata = await self._metadata(endpoint)
                        timeout_s = min(deadline - loop.time(), self._settings.attempt_timeout_ms / 1000)
                        if not may_repeat:
                            limit.reschedule(None)  # from here on gRPC keeps the time and tells its end
                        return await self._send(send, endpoint, method, request, metadata, timeout_s)
                    except _TokenExpired as error:
                        self._expire_token(metadata)
                        failures[:] = [str(error)]
                    except _NotDone as error:
                        if not isinstance(error, _Busy):
                            self.failed(endpoint)
                        failures[:] = [str(error)]
                    except _Lost as error:
                        self.failed(endpoint)
                        if not may_repeat:
                            raise UnknownOutcome(f"etcd: {error}") from None
                        failures[:] = [str(error)]
                    limit.reschedule(deadline)
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            raise self._unavailable(failures) from None

    async def _send(
        self,
        send: _Send,
        endpoint: Endpoint,
        method: str,
        request: bytes,
        metadata: Metadata,
        timeout_s: float,
    ) -> bytes:
        try:
            return await send(endpoint, method, request, metadata, max(timeout_s, 0.001))
        except grpc.aio.AioRpcError as error:
            raise _verdict(error, endpoint.address) from None

    async def _find(self, failures: list[str]) -> Endpoint:
        """A member with an established connection; ``failures`` collects the errors of the last round."""
        while True:
            found: list[str] = []
            for _ in self._endpoints:
                endpoint = self._endpoints[self._current]
                why = await endpoint.connect(self._settings.connect_timeout_ms / 1000)
                if why is None:
                    return endpoint
                found.append(why)
                self.failed(endpoint)
            failures[:] = found
            await asyncio.sleep(RETRY_S)

    async def _renew_token(self, endpoint: Endpoint) -> None:
        """Raises ``AccessRefused``. Any other failure leaves no token, so that the next call tries again."""
        user, password = self._settings.user, self._settings.password
        assert user is not None
        assert password is not None
        async with self._renewing:
            if self._token:
                return  # another call has renewed it
            request = messages.authenticate_request(user, password)
            timeout_s = self._settings.attempt_timeout_ms / 1000
            try:
                answer = await self._send(
                    Endpoint.call, endpoint, messages.AUTHENTICATE, request, (), timeout_s
                )
            except _Lost as error:
                raise _NotDone(str(error)) from None
            except Refusal as error:
                # A user is configured, but etcd has authentication switched off.
                if "authentication is not enabled" not in error.details:
                    raise AccessRefused(f"{endpoint.address}: user {user}: {error.details}") from None
            else:
                self._token = messages.token_of(answer)

    def _unavailable(self, failures: list[str]) -> StoreUnavailable:
        seconds = self._settings.request_timeout_ms / 1000
        why = "; ".join(failures) or f"more than {MAX_IN_FLIGHT} requests wait"
        return StoreUnavailable(f"{self._settings.where}: no answer within {seconds:g} s ({why})")


def _channel_credentials(settings: EtcdSettings) -> grpc.ChannelCredentials | None:
    if settings.ca_file is None:
        return None

    def content(path: str | None) -> bytes | None:
        if path is None:
            return None
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"metadata.store: {path}: {error.strerror}") from None

    return grpc.ssl_channel_credentials(
        content(settings.ca_file), content(settings.key_file), content(settings.cert_file)
    )
