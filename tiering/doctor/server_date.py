"""What time it is where a bucket is: the ``Date`` of any answer, of a request without credentials."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from tiering.objects.opening import StoreAddress, s3_config

TIMEOUT_S = 3.0


def endpoint_of(address: StoreAddress) -> str:
    """The URL of the server; empty for a store that has none."""
    if address.scheme == "s3":
        config = s3_config(address)
        suffix = "amazonaws.com.cn" if config.region.startswith("cn-") else "amazonaws.com"
        return config.endpoint or f"https://s3.{config.region}.{suffix}"
    if address.scheme == "gs":
        return str(address.options["endpoint"]) or "https://storage.googleapis.com"
    return ""


def server_date(endpoint: str) -> str | None:
    """As HTTP writes it; None if the server does not tell. Waits for the network: for a thread."""
    parts = urlsplit(endpoint)
    if not parts.hostname:
        return None
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        try:
            connection.request("HEAD", "/")
            return connection.getresponse().getheader("Date")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        return None
