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
from tierlog.config.secrets import without_secrets

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_ADDRESS = re.compile(r"([A-Za-z][\w.\-]*)://(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/]*)):(\d+)")
_UNROUTABLE = ("0.0.0.0", "::")


class BadListeners(ValueError):
    """``str()`` lists all problems, without the property's name."""


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise BadListeners("; ".join(dict.fromkeys(problems)))


def parse_listeners(texts: Sequence[str], protocols: Mapping[str, str]) -> tuple[Listener, ...]:
    """``NAME://host:port`` each; names are case-insensitive. Raises BadListeners."""
    found: list[Listener] = []
    problems: list[str] = []
    for text in texts:
        said = without_secrets(text)
        match = _ADDRESS.fullmatch(text)
        if match is None:
            problems.append(f"{said!r} is not NAME://host:port")
            continue
        name, port = match[1].upper(), int(match[4])
        if port > 65535:
            problems.append(f"{said!r}: a port is at most 65535")
        elif name not in protocols:
            problems.append(f"{said!r}: listener.security.protocol.map has no protocol for {name}")
        else:
            found.append(Listener(name, match[2] or match[3], port, protocols[name]))
    _refuse(problems)
    return tuple(found)


def parse_protocol_map(texts: Sequence[str]) -> dict[str, str]:
    """``NAME:PROTOCOL`` each. Raises BadListeners."""
    protocols: dict[str, str] = {}
    problems: list[str] = []
    for text in texts:
        name, colon, protocol = (part.strip() for part in text.partition(":"))
        if not colon or not name or protocol.upper() not in PROTOCOLS:
            problems.append(
                f"{without_secrets(text)!r} is not NAME:PROTOCOL with one of {', '.join(PROTOCOLS)}"
            )
        else:
            protocols[name.upper()] = protocol.upper()
    _refuse(problems)
    return protocols


def check_bound(listeners: Sequence[Listener]) -> None:
    """Names and ports are distinct (one port may serve an IPv4 and an IPv6 address). Raises BadListeners."""
    if not listeners:
        raise BadListeners("no listener is left for clients")
    problems = []
    names = [listener.name for listener in listeners]
    if len(set(names)) < len(names):
        problems.append("each listener needs its own name")
    ports = [(listener.port, ":" in listener.host) for listener in listeners if listener.port]
    if len(set(ports)) < len(ports) or _same_port_other_family(listeners):
        problems.append("each listener needs its own port")
    _refuse(problems + _not_served(listeners))


def _not_served(listeners: Sequence[Listener]) -> list[str]:
    return [
        f"{listener}: {listener.security_protocol} is not supported yet, only PLAINTEXT"
        for listener in listeners
        if listener.security_protocol != "PLAINTEXT"
    ]


def _same_port_other_family(listeners: Sequence[Listener]) -> bool:
    """Whether a listener on all interfaces shares its port with another one."""
    everywhere = {listener.port for listener in listeners if listener.port and not listener.host}
    shared = [listener.port for listener in listeners]
    return any(shared.count(port) > 1 for port in everywhere)


def check_advertised(advertised: Sequence[Listener], bound: Sequence[Listener]) -> None:
    """Each names a bound listener and can be reached. Raises BadListeners."""
    names = [listener.name for listener in bound]
    problems = []
    for listener in advertised:
        if listener.name not in names:
            problems.append(f"{listener}: listeners has only {', '.join(names)}")
        if listener.host in _UNROUTABLE:
            problems.append(f"{listener}: clients cannot reach {listener.host}; name a host")
    if len({listener.name for listener in advertised}) < len(advertised):
        problems.append("each listener needs its own name")
    if list(advertised) != list(bound):
        problems += _not_served(advertised)
    _refuse(problems)


def parse_http(texts: Sequence[str]) -> tuple[Listener, ...]:
    """``host:port`` or ``http://host:port`` each. Raises BadListeners."""
    addresses = [text if "://" in text else f"http://{text}" for text in texts]
    return parse_listeners(addresses, {"HTTP": "PLAINTEXT"})
