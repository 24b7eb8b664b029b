"""Wrong endpoints, which stores of either provider may be given. ``World``: what a case has; its ``config`` is replaced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.servers.ports import free_ports


def nobody_listens(world: Any) -> None:
    (port,) = free_ports(1)
    world.config = replace(world.config, endpoint=f"http://127.0.0.1:{port}")


def unknown_host(world: Any) -> None:
    world.config = replace(world.config, endpoint="http://no-such-host.invalid:9000")


def tls_for_none(world: Any) -> None:
    world.config = replace(world.config, endpoint=world.config.endpoint.replace("http:", "https:"))


ENDPOINTS = {
    "nobody listens": (
        nobody_listens,
        "endpoint",
        "error",
        "start the object store, or correct the endpoint",
    ),
    "unknown host": (unknown_host, "endpoint", "error", "correct the endpoint, or look at the machine's DNS"),
    "https for http": (tls_for_none, "endpoint", "error", "write endpoint=http://127.0.0.1"),
}
"""Name → how it is made, and the check, level and words that name it."""
