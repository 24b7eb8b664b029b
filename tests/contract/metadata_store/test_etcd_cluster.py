"""etcd as a cluster of three, behind passwords and behind certificates."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from tests.patience import PATIENT_S
from tests.servers.etcd import Admin, Member, ServerCertificates, binary, etcd
from tierlog.errors import StoreUnavailable, UnknownOutcome, UserError
from tierlog.metadata.stores.etcd.settings import EtcdSettings
from tierlog.metadata.stores.etcd.store import EtcdStore
from tierlog.metadata.transactions import Compare, Put, Txn

pytestmark = pytest.mark.skipif(binary() is None, reason="this machine has no etcd server")


@asynccontextmanager
async def opened(settings: EtcdSettings) -> AsyncIterator[EtcdStore]:
    store = await EtcdStore.open(settings)
    try:
        yield store
    finally:
        await store.close()


async def put(store: EtcdStore, key: str, value: bytes = b"v") -> int:
    return (await store.txn(Txn((), (Put(key, value),)))).revision


async def put_surely(store: EtcdStore, key: str) -> int:
    """Creates the key once, whatever happens: reads again what it does not know. Returns its revision."""
    async with asyncio.timeout(PATIENT_S):
        while True:
            try:
                result = await store.txn(Txn((Compare(key, "mod", 0),), (Put(key, b"v"),)))
                assert result.ok, "created twice"
                return result.revision
            except UnknownOutcome:
                while True:
                    try:
                        kv = await store.get(key)
                        break
                    except StoreUnavailable:
                        continue
                if kv is not None:
                    return kv.mod_revision
            except StoreUnavailable:
                continue


class TestCluster:
    @pytest.fixture
    def members(self, tmp_path: Path) -> Iterator[list[Member]]:
        with etcd(tmp_path, members=3) as cluster:
            yield cluster

    @pytest.fixture
    async def store(self, members: list[Member]) -> AsyncIterator[EtcdStore]:
        async with opened(EtcdSettings(tuple(member.address for member in members))) as store:
            yield store

    async def _leader(self, members: list[Member]) -> Member:
        for member in members:
            if member.process is not None:
                async with Admin(member) as admin:
                    if await admin.leader() == await admin.member_id():
                        return member
        raise AssertionError("no leader")

    async def test_every_member_may_be_lost_the_leader_first(
        self, store: EtcdStore, members: list[Member]
    ) -> None:
        """Killed, and stopped so that it keeps its connections: nothing is lost, done twice or seen twice."""
        expected = [await put_surely(store, "/0")]
        watch = store.watch(["/"], expected[0])
        lease = await store.grant(20_000)
        for round_number, how in enumerate((signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL)):
            lost = await self._leader(members) if round_number < 2 else self._asked(store, members)
            for n in range(40):
                if n == 10:
                    if how == signal.SIGKILL:
                        lost.end(how)
                    else:
                        lost.pause()
                expected.append(await put_surely(store, f"/{round_number}/{n}"))
            if how == signal.SIGKILL:
                lost.start()
            else:
                lost.resume()
            await asyncio.to_thread(lost.await_health)
            assert await store.keepalive(lease)
        async with asyncio.timeout(PATIENT_S):
            seen = [await watch.__anext__() for _ in expected]
        assert [batch.revision for batch in seen] == expected
        assert len({batch.events[0].key for batch in seen}) == len(expected)

    def _asked(self, store: EtcdStore, members: list[Member]) -> Member:
        endpoints = store._endpoints
        address = endpoints._endpoints[endpoints._current].address
        return next(member for member in members if member.address == address)

    async def test_without_a_majority_nothing_is_done_and_nothing_is_read(
        self, members: list[Member]
    ) -> None:
        addresses = tuple(member.address for member in members)
        async with opened(EtcdSettings(addresses, request_timeout_ms=500)) as store:
            revision = await put(store, "/a")
            watch = store.watch(["/"], revision)
            await watch.__anext__()
            for member in members[:2]:
                member.end(signal.SIGKILL)
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await put(store, "/a")
                with pytest.raises(StoreUnavailable):
                    await store.get("/a")
            for member in members[:2]:
                member.start()
            for member in members[:2]:
                await asyncio.to_thread(member.await_health)
            last = await put_surely(store, "/b")
            resumed = store.watch(["/"], revision + 1)
            async with asyncio.timeout(PATIENT_S):
                while (await resumed.__anext__()).revision < last:
                    pass

    async def test_one_address_of_a_dead_member_is_enough_to_be_skipped(self, members: list[Member]) -> None:
        members[0].end(signal.SIGKILL)
        addresses = tuple(member.address for member in members)
        for _ in range(4):  # the first member to be asked is chosen at random
            async with opened(EtcdSettings(addresses)) as store:
                await put(store, "/a")


class TestPassword:
    @pytest.fixture
    def member(self, tmp_path: Path) -> Iterator[Member]:
        with etcd(tmp_path) as (single,):
            yield single

    async def test_a_user_with_rights_under_the_prefix_alone(self, member: Member) -> None:
        async with Admin(member) as admin:
            await admin.enable_auth("/mine/", "tierlog", "secret")
        address = (member.address,)
        async with opened(EtcdSettings(address, "/mine", user="tierlog", password="secret")) as store:
            watch = store.watch(["/"], await put(store, "/a"))
            await watch.__anext__()
            lease = await store.grant(60_000)
            assert await store.keepalive(lease)
            # The server forgets its tokens when it restarts.
            member.end()
            member.start()
            await asyncio.to_thread(member.await_health)
            revision = await put_surely(store, "/b")
            async with asyncio.timeout(PATIENT_S):
                assert (await watch.__anext__()).revision == revision
            assert await store.keepalive(lease)
            await store.revoke(lease)
        refused = {
            EtcdSettings(address, "/mine"): "user name is empty",
            EtcdSettings(address, "/mine", user="tierlog", password="wrong"): "authentication failed",
            EtcdSettings(address, "/mine", user="nobody", password="secret"): "authentication failed",
            EtcdSettings(address, "/other", user="tierlog", password="secret"): "permission denied",
        }
        for settings, reason in refused.items():
            with pytest.raises(
                UserError, match=rf"^metadata.store: etcd at .* refuses: .*{reason}"
            ) as caught:
                await EtcdStore.open(settings)
            assert "\n" not in str(caught.value)

    async def test_a_user_where_etcd_asks_nobody(self, member: Member) -> None:
        async with opened(EtcdSettings((member.address,), user="tierlog", password="secret")) as store:
            await put(store, "/a")

    async def test_rights_taken_away_end_calls_and_watches(self, member: Member) -> None:
        async with Admin(member) as admin:
            await admin.enable_auth("/mine/", "tierlog", "secret")
        async with opened(
            EtcdSettings((member.address,), "/mine", user="tierlog", password="secret")
        ) as store:
            store._keyspace = type(store._keyspace)("/other")
            with pytest.raises(StoreUnavailable, match="permission denied"):
                await put(store, "/a")
        settings = EtcdSettings(
            (member.address,), "/mine", user="tierlog", password="secret", request_timeout_ms=1000
        )
        async with opened(settings) as store:
            store._keyspace = type(store._keyspace)("/other")
            async with asyncio.timeout(PATIENT_S):
                with pytest.raises(StoreUnavailable, match="permission denied"):
                    await store.watch(["/"], 1).__anext__()


class TestTls:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def files(self, tmp_path: Path, authority: trustme.CA) -> Callable[[str, str], tuple[str, str]]:
        """The paths of a new certificate and its key."""

        def issue(name: str, host: str) -> tuple[str, str]:
            made = authority.issue_cert(host)
            cert, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
            made.cert_chain_pems[0].write_to_path(cert)
            made.private_key_pem.write_to_path(key)
            return str(cert), str(key)

        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        return issue

    async def test_certificates_of_both_sides(
        self, tmp_path: Path, files: Callable[[str, str], tuple[str, str]]
    ) -> None:
        ca = str(tmp_path / "ca.pem")
        cert, key = map(Path, files("server", "127.0.0.1"))
        client_cert, client_key = files("client", "broker.example")
        trustme.CA().cert_pem.write_to_path(tmp_path / "stranger.pem")
        certificates = ServerCertificates(tmp_path / "ca.pem", cert, key, asks_clients=True)
        with etcd(tmp_path, certificates=certificates) as (member,):
            address = (member.address,)
            full = EtcdSettings(address, ca_file=ca, cert_file=client_cert, key_file=client_key)
            async with opened(full) as store:
                watch = store.watch(["/"], await put(store, "/a"))
                await watch.__anext__()
            short = {"start_timeout_ms": 200, "request_timeout_ms": 200}
            strange = EtcdSettings(
                address,
                ca_file=str(tmp_path / "stranger.pem"),
                cert_file=client_cert,
                key_file=client_key,
                **short,  # type: ignore[arg-type]
            )
            with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
                await EtcdStore.open(strange)
            for refused in (
                EtcdSettings(address, ca_file=ca, **short),  # type: ignore[arg-type]
                EtcdSettings(address, **short),  # type: ignore[arg-type]
            ):
                with pytest.raises(UserError, match=f"given up after .*{member.address}") as caught:
                    await EtcdStore.open(refused)
                assert "\n" not in str(caught.value)

    async def test_a_certificate_of_another_host(
        self, tmp_path: Path, files: Callable[[str, str], tuple[str, str]]
    ) -> None:
        cert, key = map(Path, files("server", "other.example"))
        with etcd(tmp_path, certificates=ServerCertificates(tmp_path / "ca.pem", cert, key)) as (member,):
            settings = EtcdSettings(
                (member.address,),
                ca_file=str(tmp_path / "ca.pem"),
                start_timeout_ms=200,
                request_timeout_ms=200,
            )
            with pytest.raises(UserError, match=f"{member.address}"):
                await EtcdStore.open(settings)

    async def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"absent\.pem: No such file"):
            await EtcdStore.open(EtcdSettings(("127.0.0.1:1",), ca_file=str(tmp_path / "absent.pem")))
