"""``python -m tests.chaos.cluster.revoke ETCD BROKER``: ends the lease of a broker that lives. A program of its own: the one
that begins brokers has no threads of gRPC."""

from __future__ import annotations

import asyncio
import sys

from tierlog.config.etcd import parse_endpoints
from tierlog.metadata import keys
from tierlog.metadata.stores.etcd.settings import EtcdSettings
from tierlog.metadata.stores.etcd.store import EtcdStore


async def revoke(address: str, broker_id: int) -> bool:
    """False where the broker is not registered."""
    store = await EtcdStore.open(EtcdSettings(parse_endpoints(address)))
    try:
        found = await store.get(keys.registration(broker_id))
        if found is not None:
            await store.revoke(found.lease)
        return found is not None
    finally:
        await store.close()


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(revoke(sys.argv[1], int(sys.argv[2]))) else 3)
