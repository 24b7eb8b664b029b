"""A small blocking client of the Kafka protocol for the command line: one request at a time on each connection, whatever
threads ask, in the newest common versions.

Works against any Kafka broker; facts that only tierlog knows are read over HTTP (see ``storage``). An error that the user
can act on is raised as UserError with the next step.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from tierlog.errors import MalformedMessage, UserError
from tierlog.wire.codec import decode_exact, encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from tierlog.wire.registry import APIS
from tierlog.wire.schema import Message

R = TypeVar("R", bound=Message)

CLIENT_ID = "tierlog-cli"
SOFTWARE = "tierlog"
MAX_RESPONSE_BYTES = 256 * 1024 * 1024


class Connection:
    """One broker. Raises UserError when it cannot be reached or does not speak Kafka."""

    def __init__(
        self, host: str, port: int, timeout_s: float, client_id: str = CLIENT_ID, software: str = SOFTWARE
    ) -> None:
        self.address = f"{host}:{port}"
        self._client_id = client_id
        self._correlation_id = 0
        self._turn = threading.Lock()
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise UserError(
                f"cannot reach {self.address}: {error.strerror or error}; is the broker running? "
                "Name another one with --bootstrap-server HOST:PORT"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        versions = self._exchange(
            ApiVersionsRequest(client_software_name=software, client_software_version="0"), 3
        )
        assert isinstance(versions, ApiVersionsResponse)
        self._served = {row.api_key: (row.min_version, row.max_version) for row in versions.api_keys}

    def request(self, message: Message, response: type[R]) -> R:
        """Sends ``message`` in the newest version that both sides know."""
        key = message.API_KEY
        assert key is not None
        spec = APIS[key]
        low, high = self._served.get(key, (0, -1))
        version = min(high, spec.max_version)
        if version < max(low, spec.first_decodable_version):
            raise UserError(f"{self.address} does not serve {spec.name} in a version that this tierlog knows")
        with self._turn:
            answer = self._exchange(message, version)
        assert isinstance(answer, response)
        return answer

    def _exchange(self, message: Message, version: int) -> Message:
        key = message.API_KEY
        assert key is not None
        self._correlation_id += 1
        try:
            body_parts = encode(message, version)
            frame = encode_request(key, version, self._correlation_id, self._client_id, body_parts)
            self._socket.sendall(b"".join(frame))
            size = int.from_bytes(self._receive(4), "big")
            if size > MAX_RESPONSE_BYTES:
                raise MalformedMessage(f"a response of {size} bytes")
            body = self._receive(size)
            _, offset = decode_response_header(key, version, body)
            return decode_exact(APIS[key].response, version, body, offset)
        except (OSError, MalformedMessage) as error:
            raise UserError(f"{self.address} broke off {APIS[key].name}: {error}") from error

    def _receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            piece = self._socket.recv(min(size - len(received), 1 << 20))
            if not piece:
                raise OSError("connection closed")
            received += piece
        return bytes(received)

    def close(self) -> None:
        self._socket.close()


class Client:
    """A cluster, found through any of its brokers."""

    def __init__(
        self,
        bootstrap: str,
        timeout_s: float = 30.0,
        client_id: str = CLIENT_ID,
        software: str = SOFTWARE,
    ) -> None:
        """``software``: its name, as brokers are told it (KIP-511)."""
        self._timeout_s = timeout_s
        self._names = (client_id, software)
        self._by_node: dict[int, Connection] = {}
        self._connecting = threading.Lock()
        self._bootstrap = self._connect_any(bootstrap.split(","))

    def _connect_any(self, addresses: list[str]) -> Connection:
        failure: UserError | None = None
        for address in addresses:
            host, separator, port = address.strip().rpartition(":")
            if not separator or not port.isdigit():
                raise UserError(f"--bootstrap-server {address}: expected HOST:PORT")
            try:
                return Connection(host.strip("[]"), int(port), self._timeout_s, *self._names)
            except UserError as error:
                failure = error
        assert failure is not None
        raise failure

    @property
    def timeout_ms(self) -> int:
        """The timeout to put into requests: a little less than the client itself waits."""
        return int(self._timeout_s * 900)

    def request(self, message: Message, response: type[R]) -> R:
        """Sends the request to any broker."""
        return self._bootstrap.request(message, response)

    def metadata(self, topics: Iterable[str] | None = None) -> MetadataResponse:
        """Topics by name; never creates one. None: all."""
        asked = None if topics is None else [MetadataRequestTopic(name=name) for name in topics]
        return self.request(MetadataRequest(topics=asked, allow_auto_topic_creation=False), MetadataResponse)

    def node(self, node_id: int) -> Connection:
        """A connection to exactly this broker."""
        with self._connecting:
            connection = self._by_node.get(node_id)
            if connection is None:
                for broker in self.metadata([]).brokers:
                    if broker.node_id == node_id:
                        connection = Connection(broker.host, broker.port, self._timeout_s, *self._names)
                        self._by_node[node_id] = connection
                        break
                else:
                    raise UserError(f"broker {node_id} is not in the cluster (any more)")
            return connection

    def close(self) -> None:
        for connection in (self._bootstrap, *self._by_node.values()):
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
