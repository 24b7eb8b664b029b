"""A broker that works with real secrets, at its most talkative: etcd's password from its file, the bucket's keys from the
environment. Nothing that it says or stores has one of them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.test_config_file import command, environment
from tests.patience import PATIENT_S
from tests.servers.etcd import Admin, Member, binary, etcd
from tests.servers.parents import die_with_parent
from tests.servers.ports import free_ports
from tests.servers.raw_client import Disconnected, RawClient, one_batch
from tiering.keys import cluster_marker
from tierlog.metadata.stores.etcd.settings import EtcdSettings
from tierlog.metadata.stores.etcd.store import EtcdStore
from tierlog.wire.codec import encode
from tierlog.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from tierlog.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

pytestmark = pytest.mark.skipif(binary() is None, reason="this machine has no etcd server")

PASSWORD, KEY_ID, KEY, TOKEN = (
    "hunter2-of-etcd",
    "AKIAHUNTER2",
    "hunter2-of-the-bucket",
    "hunter2-of-the-session",
)
SECRETS = [secret.encode() for secret in (PASSWORD, KEY_ID, KEY, TOKEN)]
TALKATIVE = {
    "TIERLOG_LOG_LEVEL": "debug",
    "PYTHONASYNCIODEBUG": "1",
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": KEY,
    "AWS_SESSION_TOKEN": TOKEN,
}
PATHS = ("/metrics", "/healthz", "/readyz", "/v1/topics/t/storage", "/v1/topics/t/tiers", "/v1/nothing")
BROKER, TOPIC = 4, 2
CLUSTER = "c2VjcmV0cy1hcmUtaGlkZQ"


class Talkative:
    """``said``: all that came over HTTP and the protocol. The rest is in ``log``."""

    def __init__(self, directory: Path, member: Member, bucket_port: int, password: str) -> None:
        self.port, self.http_port = free_ports(2)
        self.log = directory / "broker.log"
        self.config = directory / "server.properties"
        self.config.write_text(
            f"node.id=1\nlisteners=PLAINTEXT://127.0.0.1:{self.port}\nlog.dirs={directory / 'logs'}\n"
            f"tierlog.http.listeners=127.0.0.1:{self.http_port}\nmetadata.store=etcd://{member.address}\n"
            f"tierlog.etcd.prefix=/mine\ntierlog.etcd.user=tierlog\ntierlog.etcd.password={password}\n"
            f"remote.log.storage.system.enable=true\ntierlog.cluster.id={CLUSTER}\n"
            f"tierlog.object.store=s3://b/p?endpoint=http://127.0.0.1:{bucket_port}&region=r\n"
        )
        self.said: list[bytes] = []
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command(self.config),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment() | TALKATIVE,
                preexec_fn=die_with_parent,
            )

    def await_line(self, text: str) -> None:
        deadline_s = time.monotonic() + PATIENT_S
        while text not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.02)

    def look_everywhere(self) -> None:
        for path in PATHS:
            request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}")
            try:
                with urllib.request.urlopen(request, timeout=PATIENT_S) as reply:
                    self.said.append(reply.read())
            except urllib.error.HTTPError as error:
                self.said.append(error.read())
        with RawClient(self.port) as client:
            for version in (1, 4):
                request_all = DescribeConfigsRequest(
                    resources=[
                        DescribeConfigsResource(
                            resource_type=kind, resource_name=name, configuration_keys=None
                        )
                        for kind, name in ((BROKER, "1"), (BROKER, ""), (TOPIC, "t"))
                    ],
                    include_synonyms=True,
                    include_documentation=version > 2,
                )
                described = client.call(request_all, DescribeConfigsResponse, version)
                names = {entry.name for entry in described.results[0].configs}
                assert "tierlog.etcd.password" in names
                self.said += encode(described, version)
            named = [
                AlterableConfig(name=name, config_operation=0, value=value)
                for name, value in (("tierlog.etcd.password", PASSWORD), ("retention.ms", KEY))
            ]
            alter = IncrementalAlterConfigsRequest(
                resources=[AlterConfigsResource(resource_type=BROKER, resource_name="1", configs=named[:1])]
            )
            refused = client.call(alter, IncrementalAlterConfigsResponse)
            assert refused.responses[0].error_code
            self.said += encode(refused, 1)


class FullBucket(BaseHTTPRequestHandler):
    """Has no object but the cluster's marker, and takes none."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status, code = 403, "AccessDenied"
        if self.command in ("GET", "HEAD"):
            status, code = 404, "NoSuchKey"
        body = f"<Error><Code>{code}</Code></Error>".encode()
        if status == 404 and self.path.endswith("/cluster.json"):
            status, body = 200, cluster_marker(CLUSTER)
        self.send_response(status)
        self.send_header("etag", '"1"')
        self.send_header("last-modified", formatdate(usegmt=True))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def bucket_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), FullBucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_no_secret_is_said_or_stored(tmp_path: Path, bucket_port: int) -> None:
    (tmp_path / "etcd").mkdir()
    with etcd(tmp_path / "etcd") as (member,):
        asyncio.run(guarded(member))
        broker = Talkative(tmp_path, member, bucket_port, PASSWORD)
        try:
            broker.await_line("broker started")
            with RawClient(broker.port) as client:
                client.create_topic("t", remote_storage_enable="true", segment_bytes="1048576")
                for _ in range(3):
                    client.produce("t", one_batch(bytes(500_000)))
            broker.await_line("AccessDenied")
            broker.look_everywhere()
            member.end()  # it forgets who has shown the password
            member.start()
            member.await_health()
            with RawClient(broker.port) as client:
                client.create_topic("after")
                with pytest.raises(Disconnected):
                    client.send_raw(b"\0\0\0\5" + PASSWORD.encode()[:5])
                    client.receive_frame()
            broker.process.send_signal(signal.SIGTERM)
            assert broker.process.wait(PATIENT_S) == 0
            wrong = Talkative(tmp_path, member, bucket_port, PASSWORD[::-1])
            assert wrong.process.wait(PATIENT_S) == 1
        finally:
            broker.process.kill()
        stored = asyncio.run(everything(member))
    log = broker.log.read_bytes()
    assert b"authentication failed" in log
    files = [path.read_bytes() for path in (tmp_path / "logs").rglob("*") if path.is_file()]
    for secret in [*SECRETS, PASSWORD[::-1].encode()]:
        for text in (log, *broker.said, *stored, *files):
            assert secret not in bytes(text)


async def guarded(member: Member) -> None:
    async with Admin(member) as admin:
        await admin.enable_auth("/mine/", "tierlog", PASSWORD)


async def everything(member: Member) -> list[bytes]:
    store = await EtcdStore.open(EtcdSettings((member.address,), "/mine", user="tierlog", password=PASSWORD))
    try:
        found = [kv.value for kv in (await store.range("/")).kvs]
        assert found
        return found
    finally:
        await store.close()
