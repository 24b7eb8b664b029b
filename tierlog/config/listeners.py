"""``listeners``, ``advertised.listeners`` and the maps that go with them, checked as Kafka does.

Listeners named in ``controller.listener.names`` belong to Kafka's controllers, which do not exist here:
they are dropped from both lists, so that Kafka's own server.properties works unchanged. Only PLAINTEXT is
served yet. An advertised listener whose host is "" stands for the machine's name, which the broker looks
up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tierlog.config.broker import Listener

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_ADDRESS = re.compile(r"([A-Za-z][\w.\-]*)://(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/]*)):(\d+)")
_UNROUTABLE = ("0.0.0.0", "::")


class BadListeners(ValueError):
    """``str()`` says what is wrong, without the property's name."""


def parse_listeners(texts: Sequence[str], protocols: Mapping[str, str]) -> tuple[Listener, ...]:
    """``NAME://host:port`` each; names are case-insensitive. Raises BadListeners."""
    found: list[Listener] = []
    for text in texts:
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise BadListeners(f"{text!r} is not NAME://host:port")
        name, port = match[1].upper(), int(match[4])
        if port > 65535:
            raise BadListeners(f"{text!r}: a port is at most 65535")
        if name not in protocols:
            raise BadListeners(f"{text!r}: listener.security.protocol.map has no protocol for {name}")
        found.append(Listener(name, match[2] or match[3], port, protocols[name]))
    return tuple(found)


def parse_protocol_map(texts: Sequence[str]) -> dict[str, str]:
    """``NAME:PROTOCOL`` each. Raises BadListeners."""
    protocols: dict[str, str] = {}
    for text in texts:
        name, colon, protocol = (part.strip() for part in text.partition(":"))
        if not colon or not name or protocol.upper() not in PROTOCOLS:
            raise BadListeners(f"{text!r} is not NAME:PROTOCOL with one of {', '.join(PROTOCOLS)}")
        protocols[name.upper()] = protocol.upper()
    return protocols


def check_bound(listeners: Sequence[Listener]) -> None:
    """Names and ports are distinct (one port may serve an IPv4 and an IPv6 address). Raises BadListeners."""
    if not listeners:
        raise BadListeners("no listener is left for clients")
    names = [listener.name for listener in listeners]
    if len(set(names)) < len(names):
        raise BadListeners("each listener needs its own name")
    ports = [(listener.port, ":" in listener.host) for listener in listeners if listener.port]
    if len(set(ports)) < len(ports) or _same_port_other_family(listeners):
        raise BadListeners("each listener needs its own port")
    for listener in listeners:
        check_served(listener)


def _same_port_other_family(listeners: Sequence[Listener]) -> bool:
    """Whether a listener on all interfaces shares its port with another one."""
    everywhere = {listener.port for listener in listeners if listener.port and not listener.host}
    shared = [listener.port for listener in listeners]
    return any(shared.count(port) > 1 for port in everywhere)


def check_served(listener: Listener) -> None:
    if listener.security_protocol != "PLAINTEXT":
        raise BadListeners(f"{listener}: {listener.security_protocol} is not supported yet, only PLAINTEXT")


def check_advertised(advertised: Sequence[Listener], bound: Sequence[Listener]) -> None:
    """Each names a bound listener and can be reached. Raises BadListeners."""
    names = [listener.name for listener in bound]
    for listener in advertised:
        if listener.name not in names:
            raise BadListeners(f"{listener}: listeners has only {', '.join(names)}")
        if listener.host in _UNROUTABLE:
            raise BadListeners(f"{listener}: clients cannot reach {listener.host}; name a host")
    if len({listener.name for listener in advertised}) < len(advertised):
        raise BadListeners("each listener needs its own name")


def parse_http(texts: Sequence[str]) -> tuple[Listener, ...]:
    """``host:port`` or ``http://host:port`` each. Raises BadListeners."""
    found = []
    for text in texts:
        address = text if "://" in text else f"http://{text}"
        (listener,) = parse_listeners([address], {"HTTP": "PLAINTEXT"})
        found.append(listener)
    return tuple(found)
