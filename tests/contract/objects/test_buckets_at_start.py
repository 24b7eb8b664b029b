"""Buckets that do not do what a broker needs: refused in one line at a plain start, and when a topic is to get them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.contract.objects.test_s3_advice import Answer, Handler, serving, xml
from tests.servers.iam import boto_client, statements
from tests.servers.processes import S3Server
from tests.servers.s3_front import Asked, Front, Told, action_of, front, refusal
from tests.unit.broker.test_identity import refused
from tests.unit.offload.test_fit import running
from tests.unit.offload.test_topic_stores import altered, created, filled
from tiering.keys import CLUSTER_MARKER, cluster_marker
from tierlog.broker.offload.fit import require_the_bucket
from tierlog.errors import UserError

PREFIX = "team/tier"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tierlog-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tierlog-test-secret")


@pytest.fixture
def served(moto_server: S3Server) -> Iterator[tuple[Front, Any, str]]:
    """A front that allows what the broker's policy does, a client behind it, and a bucket of its own."""
    client = boto_client("s3", moto_server)
    bucket = f"start-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    with front(moto_server.endpoint) as server:
        server.rules.policy = statements("s3-broker.json", bucket, PREFIX)
        yield server, client, bucket


def held(client: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def without(action: str) -> Callable[[Front, str], None]:
    def seed(server: Front, bucket: str) -> None:
        server.rules.policy = statements("s3-broker.json", bucket, PREFIX, action)

    return seed


def ignored(server: Front, bucket: str) -> None:
    server.rules.drops = {"if-none-match", "if-match"}


def lied(status: int, code: str, of: str = "") -> Callable[[Front, str], None]:
    def seed(server: Front, bucket: str) -> None:
        def told(asked: Asked) -> Told | None:
            return refusal(status, code) if not of or action_of(asked) == of else None

        server.rules.lies = told

    return seed


MISTAKES = {
    "refuses deletes": (without("s3:DeleteObject"), "objects cannot be deleted: ", "allow it in the policy"),
    "refuses writes": (without("s3:PutObject"), "access denied: ", "allow it in the policy"),
    "ignores conditions": (ignored, "a write that must not replace an object replaces it", "honours If-None-Match"),
    "is not there": (lied(404, "NoSuchBucket"), "there is no bucket", "create it"),
    "knows no such key": (lied(403, "InvalidAccessKeyId"), "", "correct AWS_ACCESS_KEY_ID"),
    "wrong secret": (lied(403, "SignatureDoesNotMatch"), "", "correct one of them"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_with_a_bucket(tmp_path: Path, served: tuple[Front, Any, str], name: str) -> None:
    """At a first start, at CreateTopics and at AlterConfigs: one line with the remedy, and nothing is changed."""
    server, client, bucket = served
    seed, says, remedy = MISTAKES[name]
    seed(server, bucket)
    url = f"s3://{bucket}/{PREFIX}?endpoint={server.endpoint}&retry.attempts=1"
    lines = [await refused(tmp_path, tmp_path / "first", f"tierlog.object.store={url}")]
    async with running(tmp_path / "second") as broker:
        assert await created(broker, "t", None) is None
        configs = dict(broker.broker.feed.image.topic_configs["t"])
        for problem in (await created(broker, "new", url), await altered(broker, "t", url)):
            assert problem is not None
            lines.append(problem)
        assert broker.broker.feed.image.topic("new") is None
        assert broker.broker.feed.image.topic_configs["t"] == configs
    for line in lines:
        assert line.startswith(f"tierlog.object.store=s3://{bucket}/{PREFIX}: "), line
        assert says in line and remedy in line, line
        assert "\n" not in line and "tierlog-test-secret" not in line
    stays = name == "refuses deletes"
    assert [key for key in held(client, bucket) if not (stays and "/doctor-" in key)] == []


async def test_two_topics_in_a_directory_and_in_a_bucket(
    tmp_path: Path, served: tuple[Front, Any, str]
) -> None:
    server, client, bucket = served
    url = f"s3://{bucket}/{PREFIX}?endpoint={server.endpoint}"
    async with running(tmp_path) as broker:
        assert await created(broker, "a", None) is None
        assert await created(broker, "b", url) is None
        a, of_a = await filled(broker, "a")
        b, of_b = await filled(broker, "b")
        assert await broker.read_all(a, 0) == of_a
        assert await broker.read_all(b, 0) == of_b
        mine = [key for key in held(client, bucket) if key != f"{PREFIX}/{CLUSTER_MARKER}"]
        assert mine
    asked: list[Asked] = []
    server.rules.lies = lambda each: asked.append(each)
    async with running(tmp_path) as broker:
        assert asked == []  # the start needs nothing of it
        b = await broker.leading("b")
        assert await broker.read_all(b, 0) == of_b
        written = {each.key for each in asked if each.method == "PUT"}
        assert all("/head-" in key for key in written - set(mine))  # not tried, and not claimed, again


async def test_a_class_that_the_bucket_lacks(tmp_path: Path, served: tuple[Front, Any, str]) -> None:
    server, client, bucket = served
    server.rules.lies = no_cold_class
    url = f"s3://{bucket}/{PREFIX}?endpoint={server.endpoint}&retry.attempts=1"
    ours, ladder = f"tierlog.object.store={url}", "standard:1d,archive-instant:forever"
    lines = [await refused(tmp_path, tmp_path / "first", ours, f"tierlog.tiers={ladder}")]
    async with running(tmp_path / "second", ours) as broker:
        assert await created(broker, "t", None) is None
        before = held(client, bucket)
        for problem in (
            await created(broker, "new", None, tierlog_tiers=ladder),
            await altered(broker, "t", ladder, config="tierlog.tiers"),
        ):
            assert problem is not None
            lines.append(problem)
        assert held(client, bucket) == before
        assert broker.broker.feed.image.topic("new") is None
        assert "tierlog.tiers" not in broker.broker.feed.image.topic_configs["t"]
        assert await altered(broker, "t", "standard:1d,infrequent:forever", config="tierlog.tiers") is None
    for line in lines:
        assert "the storage class archive-instant of tierlog.tiers cannot be written" in line
        assert "take it out of tierlog.tiers, or use a server that has it" in line and "\n" not in line


def no_cold_class(asked: Asked) -> Told | None:
    headers = {name.lower(): value for name, value in asked.headers.items()}
    is_cold = headers.get("x-amz-storage-class") == "GLACIER_IR"
    return refusal(400, "InvalidStorageClass") if is_cold else None


class TestClock:
    @pytest.fixture
    def url(self) -> Iterator[str]:
        with serving() as server:
            server.answer = Answer(404, xml("NoSuchKey"))
            yield f"s3://bucket?endpoint=http://127.0.0.1:{server.server_port}&retry.attempts=1"

    @pytest.mark.parametrize("off_s", [-3_600, 1_000])
    async def test_far_off(self, url: str, off_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
        tell(monkeypatch, off_s)
        with pytest.raises(
            UserError, match=r"this machine's clock is \d+ s from the server's: .*; set it by NTP"
        ):
            await require_the_bucket(url, "c", None, None)

    async def test_a_little_off(
        self, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tell(monkeypatch, 300)
        assert await require_the_bucket(url, "c", None, None)
        assert "this machine's clock is" in capsys.readouterr().out
        tell(monkeypatch, 0)
        assert await require_the_bucket(url, "c", None, None)
        assert "clock" not in capsys.readouterr().out

    @pytest.fixture(autouse=True)
    def _marked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The server answers all alike: with our marker."""
        body = cluster_marker("c")
        monkeypatch.setattr(Handler, "answer", lambda self: _answer(self, body))
        for verb in ("do_GET", "do_HEAD"):
            monkeypatch.setattr(Handler, verb, lambda self: _answer(self, body))


def tell(monkeypatch: pytest.MonkeyPatch, off_s: int) -> None:
    """The server's clock is so many seconds ahead of ours."""
    monkeypatch.setattr(
        Handler, "date_time_string", lambda self, timestamp=None: formatdate(time.time() + off_s, usegmt=True)
    )


def _answer(handler: Handler, body: bytes) -> None:
    handler.send_response(200)
    for name, value in (
        ("Content-Length", str(len(body))),
        ("ETag", '"1"'),
        ("Last-Modified", formatdate(usegmt=True)),
    ):
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
