"""What is given up as soon as it was asked counts as a request, and has left: seen by a server that never answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.patience import PATIENT_S
from tiering.ledger.rows import Operation
from tiering.metering.meter import Meter
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.store import S3ObjectStore
from tiering.reading.gets import RangedGets, never_ahead

COUNT = 30


class Silent:
    """Reads requests, and keeps their connections."""

    def __init__(self) -> None:
        self.seen_count = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.seen_count += 1
        writer.close()


class Counting(Meter):
    def __init__(self) -> None:
        super().__init__()
        self.noted_count = 0

    def note(self, operation: Operation, key: str, **told: object) -> None:
        self.noted_count += 1


async def test_what_counts_has_left() -> None:
    silent, meter = Silent(), Counting()
    server = await asyncio.start_server(silent.serve, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = S3Config(
        bucket="b", endpoint=endpoint, access_key_id="a", secret_access_key="s", path_style=True
    )
    gets = RangedGets(S3ObjectStore(config, meter=meter), concurrency_max=COUNT)
    async with asyncio.timeout(PATIENT_S):
        for _ in range(COUNT):
            asked = asyncio.create_task(gets.get_range("k/x", 0, 10, is_ahead=never_ahead))
            while gets.idle_share == 1:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            while gets.idle_share < 1:
                await asyncio.sleep(0.001)
        while (silent.seen_count, meter.noted_count) != (COUNT, COUNT):
            await asyncio.sleep(0.001)
    server.close()
