"""The listeners of a broker, from the properties that name them, and the one by which brokers reach each other."""

from __future__ import annotations

from typing import Any

from tierlog.config import listeners
from tierlog.config.broker import Listener
from tierlog.config.reader import Reader


def network(reader: Reader) -> dict[str, Any]:
    protocols = _protocols(reader)
    bound = _listeners(reader, "listeners", protocols)
    if bound is not None:
        try:
            listeners.check_bound(bound)
        except listeners.BadListeners as error:
            reader.refuse("listeners", str(error))
    advertised = bound
    if reader["advertised.listeners"]:
        advertised = _listeners(reader, "advertised.listeners", protocols)
    if bound and advertised is not None:
        name = "advertised.listeners" if reader["advertised.listeners"] else "listeners"
        try:
            listeners.check_advertised(advertised, bound)
        except listeners.BadListeners as error:
            reader.refuse(name, str(error))
    http: tuple[Listener, ...] = ()
    try:
        http = listeners.parse_http(reader["tierlog.http.listeners"])
    except listeners.BadListeners as error:
        reader.refuse("tierlog.http.listeners", str(error))
    return {
        "listeners": bound,
        "advertised_listeners": advertised,
        "inter_broker_listener_name": _inter_broker(reader, advertised),
        "tierlog_http_listeners": http,
    }


def _protocols(reader: Reader) -> dict[str, str] | None:
    """Security protocols by listener name; None if the property cannot be read."""
    try:
        protocols = listeners.parse_protocol_map(reader["listener.security.protocol.map"].split(","))
    except listeners.BadListeners as error:
        reader.refuse("listener.security.protocol.map", str(error))
        return None
    # Kafka gives the controllers' listener a protocol by default.
    return dict.fromkeys(_controllers(reader), "PLAINTEXT") | protocols


def _controllers(reader: Reader) -> set[str]:
    return {text.upper() for text in reader["controller.listener.names"]}


def _listeners(reader: Reader, name: str, protocols: dict[str, str] | None) -> tuple[Listener, ...] | None:
    """The listeners of clients and brokers; None if the text cannot be read."""
    if protocols is None:
        return None
    try:
        found = listeners.parse_listeners(reader[name], protocols)
    except listeners.BadListeners as error:
        reader.refuse(name, str(error))
        return None
    return tuple(listener for listener in found if listener.name not in _controllers(reader))


def _inter_broker(reader: Reader, advertised: tuple[Listener, ...] | None) -> str:
    """The listener by which brokers reach each other."""
    key = "inter.broker.listener.name"
    protocol = str(reader["security.inter.broker.protocol"])
    if reader[key] is not None and reader.is_given("security.inter.broker.protocol"):
        reader.refuse(key, "security.inter.broker.protocol is set as well; leave one of them out")
    name = protocol if reader[key] is None else str(reader[key]).upper()
    if not advertised:
        return name
    names = [listener.name for listener in advertised]
    if name not in names and reader[key] is None:
        # With a single listener there is no choice to make; Kafka requires it to be named all the same.
        if len(names) == 1 and not reader.is_given("security.inter.broker.protocol"):
            return names[0]
        if reader.is_given("security.inter.broker.protocol"):
            key = "security.inter.broker.protocol"
    protocols = {listener.name: listener.security_protocol for listener in advertised}
    if protocols.get(name, "PLAINTEXT") != "PLAINTEXT" and reader.is_given(key):
        reader.refuse(key, f"its protocol, {protocols[name]}, is not supported yet")
    if name not in names:
        reader.refuse(key, f"{name} is not an advertised listener; there are {', '.join(names)}")
    return name
