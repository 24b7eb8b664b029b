"""The client of the schema registry: what it sends, what it keeps, what it says when nothing comes of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.ports import free_ports
from tests.servers.schema_registry import SchemaRegistry, schema_registry
from tierlog.errors import UserError
from tierlog.replay.values import registry as client
from tierlog.replay.values.formats import Avro, format_of, open_decoder
from tierlog.replay.values.port import Undecodable
from tierlog.replay.values.registry import Registry


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with schema_registry() as found:
        yield found


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSE_S", 0.0)


def test_a_password_of_the_url(server: SchemaRegistry) -> None:
    server.user = "me:p@ss"
    number = server.register("a/b", "string")
    with pytest.raises(UserError, match=r"access refused \(401\): give http://USER:PASSWORD@HOST"):
        Registry(server.url).latest("a/b")
    found = Registry(server.url.replace("//", "//me:p%40ss@") + "/").latest("a/b")
    assert (found.id, found.kind, found.text) == (number, "AVRO", "string")
    assert server.asked[-1] == "/subjects/a%2Fb/versions/latest"
    server.moved_to = "http://127.0.0.1:1/elsewhere"
    with pytest.raises(UserError, match=r"sends elsewhere \(302\): name that place") as raised:
        Registry(server.url.replace("//", "//me:p%40ss@")).latest("a/b")
    assert "p%40ss" not in str(raised.value)


def test_an_answer_is_kept_and_a_failure_is_not_the_end(server: SchemaRegistry) -> None:
    server.register("s", "string")
    server.failures = 2
    registry = Registry(server.url)
    assert registry.by_id(1) == registry.by_id(1)
    assert len(server.asked) == 3
    server.failures = 3
    with pytest.raises(UserError, match="answers 503; try again once it answers"):
        registry.by_id(2)


def test_ids_that_are_unknown_are_not_asked_for_without_end(
    server: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "UNKNOWN_MAX", 3)
    monkeypatch.setattr(client, "KEPT_MAX", 2)
    registry = Registry(server.url)
    for number in (1, 2, 3, 1, 4, 5, 5):
        with pytest.raises(Undecodable):
            registry.by_id(number)
    assert server.asked == [f"/schemas/ids/{number}" for number in (1, 2, 3)]
    monkeypatch.setattr(client, "UNKNOWN_MAX", 1_000)
    for _ in range(5):
        server.register("s", "string")
    for number in (4, 5, 4, 5):
        registry.by_id(number)
    assert len(server.asked) == 5


def test_references_that_go_round(server: SchemaRegistry) -> None:
    server.register("a", "string", references=[("b", "b", 1)])
    server.register("b", "string", references=[("a", "a", 1)])
    registry = Registry(server.url)
    with pytest.raises(UserError, match="refers to itself, or to more than 100 others"):
        registry.referred(registry.by_id(1))
    server.register("c", "string", references=[("x", "x", 1)])
    with pytest.raises(UserError, match="has no version 1 of x"):
        registry.referred(registry.by_id(3))


def test_mistakes_are_one_line(server: SchemaRegistry) -> None:
    (port,) = free_ports(1)
    with pytest.raises(UserError, match=rf"registry http://127\.0\.0\.1:{port}: .*refused; try again"):
        Registry(f"http://127.0.0.1:{port}").latest("s")
    with pytest.raises(UserError, match="has no subject nowhere-value: name the registry of this topic"):
        open_decoder(Avro(server.url), ("nowhere",))
    with pytest.raises(UserError, match="one topic at a time"):
        open_decoder(Avro(server.url), ("a", "b"))
    for url in ("ftp://x", "localhost:8081", "", "http://["):
        with pytest.raises(UserError, match="expected http://HOST:PORT"):
            Registry(url)
    with pytest.raises(UserError, match="name the schema registry with --registry"):
        format_of("avro", None, None)
    with pytest.raises(UserError, match="--value-schema is for JSON"):
        format_of("protobuf", server.url, "a:int8")
    server.answer = lambda target: (200, ["what?"])  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(UserError, match="answers what no schema registry does: check --registry"):
        Registry(server.url).by_id(1)
