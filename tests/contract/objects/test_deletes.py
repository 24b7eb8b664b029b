"""A delete answers per key: what is gone is gone, and what the store keeps is named, with why."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.objects.conftest import config_of
from tests.servers.processes import S3Server, minio_client
from tiering.errors import AccessDenied, NotFound, ObjectStoreError, Throttled
from tiering.objects.directory import DirectoryStore
from tiering.objects.faulty import Faults, FaultyStore
from tiering.objects.measured import MeasuredStore
from tiering.objects.memory import MemoryStore
from tiering.objects.port import ObjectStore
from tiering.objects.retrying import RetryingStore, RetryPolicy
from tiering.objects.s3.store import S3ObjectStore
from tiering.objects.throttled import ThrottledStore, TokenBucket

QUICK = RetryPolicy(first_pause_s=0.001, pause_max_s=0.002)


async def filled(store: ObjectStore, count: int) -> list[str]:
    names = [f"d/{number:03}" for number in range(count)]
    for name in names:
        await store.put(name, b"x", size_bytes=1)
    return names


async def standing(store: ObjectStore) -> list[str]:
    return [info.key for info in await store.list("d/")]


async def test_what_is_gone_or_never_was_is_not_named(store: ObjectStore) -> None:
    names = await filled(store, 3)
    assert await store.delete([names[0], "d/never"]) == {}
    assert await store.delete(names) == {}
    assert await store.delete([]) == {}
    assert await standing(store) == []


# -- stores that refuse


async def test_memory_keeps_what_is_held_and_wrappers_pass_it_on() -> None:
    inner = MemoryStore()
    names = await filled(inner, 4)
    inner.held = {names[1]}
    measured = MeasuredStore(FaultyStore(inner, Faults(), seed=1))
    unlimited = TokenBucket(0)
    store = ThrottledStore(RetryingStore(measured, QUICK), upload=unlimited, download=unlimited)
    refused = await store.delete(names)
    assert list(refused) == [names[1]]
    assert isinstance(refused[names[1]], AccessDenied)
    assert await standing(store) == [names[1]]
    assert measured.stats["delete"].errors == {"AccessDenied": 1}
    assert measured.stats["delete"].calls == 1, "a refusal is no reason to ask again"


async def test_a_directory_names_what_the_file_system_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(tmp_path)
    names = await filled(store, 4)
    unlink = os.unlink

    def immutable(path: str, **more: int) -> None:
        if str(path).endswith(names[2]):
            raise OSError(errno.EPERM, "Operation not permitted")
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", immutable)  # as `chattr +i` has it, which not every file system knows
    refused = await store.delete(names)
    assert [type(error) for error in refused.values()] == [AccessDenied]
    assert await standing(store) == list(refused) == [names[2]]
    await store.close()


class KeyedServer:
    """Answers DeleteObjects as S3 does: 200, with an error for each key that ``why`` gives one for."""

    def __init__(self, why: Callable[[str], str]) -> None:
        self.why = why
        self.requests: list[list[str]] = []
        self.gone: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        found = re.search(rb"content-length: (\d+)", head)
        body = await reader.readexactly(int(found[1]) if found else 0)
        keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
        self.requests.append(keys)
        answer = '<?xml version="1.0"?><DeleteResult>'
        for key in keys:
            code = self.why(key)
            if code:
                answer += f"<Error><Key>{key}</Key><Code>{code}</Code><Message>because: (of {key})</Message></Error>"
            else:
                self.gone.add(key)
                answer += f"<Deleted><Key>{key}</Key></Deleted>"
        data = (answer + "</DeleteResult>").encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(data) + data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def keyed(
    why: Callable[[str], str], prefix: str = ""
) -> AsyncIterator[tuple[KeyedServer, S3ObjectStore]]:
    script = KeyedServer(why)
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        where = S3Server("keyed", f"http://127.0.0.1:{port}", "id", "secret", "us-east-1", "bucket")
        yield script, S3ObjectStore(replace(config_of(where, prefix), part_retries=0))


@pytest.mark.parametrize("prefix", ["", "some/where"])
@pytest.mark.parametrize("held_every", [500, 100, 1])
async def test_s3_names_each_key_that_it_keeps(prefix: str, held_every: int) -> None:
    names = [f"d/{number:04}" for number in range(1_200)]
    held = set(names[7::held_every])
    async with keyed(lambda key: "AccessDenied" if key[-6:] in held else "", prefix) as (script, store):
        refused = await store.delete(names)
        assert set(refused) == held
        assert {type(error) for error in refused.values()} == {AccessDenied}
        assert all(key in str(error) for key, error in refused.items())
        assert {key[-6:] for key in script.gone} == set(names) - held
        assert len(script.requests) <= 2 + len(names) if held_every < 500 else 6


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDenied", AccessDenied),
        ("InvalidRequest", AccessDenied),
        ("SlowDown", Throttled),
        ("SomethingNew", ObjectStoreError),
    ],
)
async def test_s3_tells_why(code: str, kind: type[ObjectStoreError]) -> None:
    async with keyed(lambda key: code if key == "b" else "") as (_, store):
        refused = await store.delete(["a", "b", "c"])
        assert {key: type(error) for key, error in refused.items()} == {"b": kind}


async def test_a_key_that_s3_says_is_not_there_is_gone() -> None:
    async with keyed(lambda key: "NoSuchKey" if key == "b" else "") as (_, store):
        assert await store.delete(["a", "b", "c"]) == {}


async def test_keys_that_end_alike_are_told_apart() -> None:
    for prefix in ("", "p"):
        async with keyed(lambda key: "AccessDenied" if key.endswith("a/b") else "", prefix) as (_, store):
            assert list(await store.delete(["b", "a/b", "c"])) == ["a/b"]


async def test_a_request_that_fails_among_many_is_an_error_of_the_port() -> None:
    answers = 0

    def why(key: str) -> str:
        nonlocal answers
        answers += 1
        if answers > 200:
            raise ConnectionError
        return "AccessDenied"

    async with keyed(why) as (_, store):
        with pytest.raises(ObjectStoreError):
            await store.delete([f"d/{number}" for number in range(50)])


async def test_only_what_may_pass_is_asked_again() -> None:
    """An answer with a SlowDown in it is all that obstore passes on of that request, and all of it."""
    asked: list[str] = []

    def why(key: str) -> str:
        asked.append(key)
        return {"busy": "SlowDown" if asked.count("busy") < 4 else "", "held": "AccessDenied"}.get(key, "")

    async with keyed(why) as (script, bare):
        refused = await RetryingStore(bare, QUICK).delete(["a", "busy", "held", "z"])
        assert list(refused) == ["held"]
        assert script.gone == {"a", "busy", "z"}
        assert (asked.count("held"), asked.count("a")) == (1, 1)
    async with keyed(lambda key: "SlowDown" if key == "busy" else "") as (script, bare):
        refused = await RetryingStore(bare, QUICK).delete(["a", "busy"])
        assert {key: type(error) for key, error in refused.items()} == {"busy": Throttled}
        assert script.gone == {"a"}


async def test_an_object_under_a_legal_hold_is_named_or_gone(moto_server: S3Server, prefix: str) -> None:
    """A versioned bucket puts a marker over what is held, others refuse: the answer says what a reader then sees."""
    client = minio_client(moto_server)
    bucket = f"locked-{prefix}"
    client.make_bucket(bucket, object_lock=True)
    store = S3ObjectStore(config_of(moto_server, "p", bucket))
    names = await filled(store, 3)
    client.enable_object_legal_hold(bucket, f"p/{names[1]}")
    refused = await store.delete(names)
    assert set(refused) <= {names[1]}
    assert await standing(store) == list(refused)
    for name in names:
        if name not in refused:
            with pytest.raises(NotFound):
                await store.head(name)
