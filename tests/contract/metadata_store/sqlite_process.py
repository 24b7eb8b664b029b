"""A process of its own that uses a SQLite store as the test tells it: one JSON command per line in, one
answer out.

``python -m tests.contract.metadata_store.sqlite_process PATH [POINT]``; with POINT it kills itself with
SIGKILL at that point of the first commit after the command "arm".
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tierlog.metadata.stores.sqlite import SqliteStore
from tierlog.metadata.transactions import Put, Txn

is_armed = False


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def answer(store: SqliteStore, command: list[Any]) -> Any:
    match command:
        case ["grant", ttl_ms]:
            return await store.grant(ttl_ms)
        case ["keepalive", lease]:
            return await store.keepalive(lease)
        case ["revoke", lease]:
            return await store.revoke(lease)
        case ["put", key, value, lease]:
            return (await store.txn(Txn((), (Put(key, value.encode(), lease),)))).revision
        case ["puts", keys, value, lease]:
            ops = tuple(Put(key, value.encode(), lease) for key in keys)
            return (await store.txn(Txn((), ops))).revision
        case ["grant and put", ttl_ms, key]:
            lease, _ = await asyncio.gather(store.grant(ttl_ms), store.txn(Txn((), (Put("/group", b""),))))
            await store.txn(Txn((), (Put(key, b"leased", lease),)))
            return lease
        case ["count", key, times]:
            for n in range(times):
                await store.txn(Txn((), (Put(key, str(n).encode()),)))
            return times
    raise AssertionError(command)


async def main() -> None:
    global is_armed
    point = sys.argv[2] if len(sys.argv) > 2 else None

    def at(reached: str) -> None:
        if is_armed and reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    store = await SqliteStore.open(Path(sys.argv[1]), at=at)
    say("open")
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if command == ["arm"]:
            is_armed = True
            result = None
        elif command == ["close"]:
            await store.close()
            return
        else:
            result = await answer(store, command)
        say(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main())
