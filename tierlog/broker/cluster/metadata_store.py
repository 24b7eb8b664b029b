"""Opens the metadata store that ``metadata.store`` names; a store's packages are imported only when it is asked for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tierlog.broker.clock import wall_clock_ms
from tierlog.config.broker import BrokerConfig
from tierlog.config.etcd import BadEtcd, parse_endpoints
from tierlog.errors import UserError
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.stores.port import MetadataStore


async def open_metadata_store(config: BrokerConfig) -> MetadataStore:
    """``memory:``, ``sqlite:PATH`` or ``etcd://HOST[:PORT],…``. Raises UserError; where an etcd does not answer, after half
    a minute of trying."""
    url = config.metadata_store
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        return MemoryStore(wall_clock_ms)
    if scheme == "sqlite" and rest:
        from tierlog.metadata.stores.sqlite import SqliteStore

        return await SqliteStore.open(Path(rest))
    if scheme == "etcd":
        return await _open_etcd(config)
    raise UserError(f"metadata.store={url}: expected sqlite:PATH, etcd://HOST:PORT or memory:")


def sqlite_path(config: BrokerConfig) -> Path | None:
    """Path of the SQLite file; None for another kind of store."""
    scheme, _, rest = config.metadata_store.partition(":")
    return Path(rest) if scheme == "sqlite" and rest else None


async def _open_etcd(config: BrokerConfig) -> MetadataStore:
    if importlib.util.find_spec("grpc") is None:
        raise UserError(
            f"metadata.store={config.metadata_store}: needs grpcio; install it with: pip install 'tierlog[etcd]'"
        )
    from tierlog.metadata.stores.etcd.settings import EtcdSettings
    from tierlog.metadata.stores.etcd.store import EtcdStore

    try:
        endpoints = parse_endpoints(config.metadata_store)
    except BadEtcd as error:
        raise UserError(f"metadata.store={config.metadata_store}: {error}") from None
    return await EtcdStore.open(
        EtcdSettings(
            endpoints,
            config.tierlog_etcd_prefix,
            user=config.tierlog_etcd_user,
            password=config.tierlog_etcd_password,
            ca_file=config.tierlog_etcd_ca_file,
            cert_file=config.tierlog_etcd_cert_file,
            key_file=config.tierlog_etcd_key_file,
        )
    )
