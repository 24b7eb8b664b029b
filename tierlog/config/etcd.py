"""``metadata.store=etcd://HOST[:PORT],HOST[:PORT],…`` and the properties for the access to etcd."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from tierlog.config.secrets import without_secrets

DEFAULT_PORT = 2379
_EXPECTED = "expected etcd://HOST[:PORT],HOST[:PORT],..."
_PAIRS = (
    ("tierlog.etcd.user", "tierlog.etcd.password"),
    ("tierlog.etcd.cert.file", "tierlog.etcd.key.file"),
)


class BadEtcd(ValueError):
    """``str()`` is the problem, ``name`` the property at fault."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def parse_endpoints(url: str) -> tuple[str, ...]:
    """The members as ``host:port``. Raises ``BadEtcd``."""
    scheme, _, rest = url.partition("://")
    rest = rest.removesuffix("/")
    if scheme != "etcd" or not rest or "/" in rest or "@" in rest:
        raise BadEtcd("metadata.store", f"{_EXPECTED}; the rest is told by tierlog.etcd.*")
    found: list[str] = []
    for part in rest.split(","):
        text = part.strip()
        host, colon, port = text.rpartition(":")
        if not colon or text.endswith("]"):
            host, port = text, str(DEFAULT_PORT)
        is_ipv6 = host.startswith("[") and host.endswith("]")
        is_port = port.isascii() and port.isdigit() and 0 < int(port) < 65536
        if not host or (":" in host and not is_ipv6) or not is_port:
            raise BadEtcd(
                "metadata.store", f"{without_secrets(text)!r} is not HOST or HOST:PORT; {_EXPECTED}"
            )
        found.append(f"{host}:{port}")
    return tuple(dict.fromkeys(found))


def etcd_problems(values: Mapping[str, Any], unsound: Container[str] = ()) -> list[BadEtcd]:
    """Problems of all properties together, by name. ``unsound`` properties were refused already and count as given."""
    found: list[BadEtcd] = []
    url = values["metadata.store"]
    if url is not None and url.startswith("etcd:"):
        try:
            parse_endpoints(url)
        except BadEtcd as error:
            found.append(error)
    prefix = values["tierlog.etcd.prefix"]
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        found.append(BadEtcd("tierlog.etcd.prefix", "begins with a slash and ends without one"))
    for pair in _PAIRS:
        for name, other in (pair, pair[::-1]):
            if values[name] is not None and values[other] is None and other not in unsound:
                found.append(BadEtcd(name, f"needs {other} as well"))
    needs_ca = values["tierlog.etcd.ca.file"] is None and "tierlog.etcd.ca.file" not in unsound
    if values["tierlog.etcd.cert.file"] is not None and needs_ca:
        found.append(BadEtcd("tierlog.etcd.cert.file", "needs tierlog.etcd.ca.file, which switches TLS on"))
    return found
