"""A PostgreSQL server on loopback, with its data in a directory of its own that goes with it. It refuses to run as root, so
for root it runs as ``nobody``."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.patience import PATIENT_S
from tests.servers.parents import die_with_parent
from tests.servers.ports import free_ports


def programs() -> Path | None:
    """Where ``initdb`` and ``postgres`` are; Debian does not put them on the path."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return places[-1].parent if places else None


@contextmanager
def postgres() -> Iterator[str]:
    """Gives the connection string of an empty database. Ask ``programs`` first."""
    binaries = programs()
    assert binaries is not None, "PostgreSQL is absent"
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    (port,) = free_ports(1)
    # Not below pytest's directory, which is closed to other users.
    root = Path(tempfile.mkdtemp(prefix="tierlog-postgres-"))
    try:
        os.chown(root, user.pw_uid, user.pw_gid)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()} if os.getuid() == 0 else {}
        made = [binaries / "initdb", "-D", root / "data", "-U", "test", "-A", "trust", "-E", "UTF8"]
        subprocess.run(
            [*made, "--no-locale", "--no-sync"], check=True, capture_output=True, cwd=root, **as_user
        )
        settings = [
            "fsync=off",
            "unix_socket_directories=",
            "listen_addresses=127.0.0.1",
            "max_connections=8",
        ]
        command = [binaries / "postgres", "-D", root / "data", "-p", str(port)]
        with (root / "log").open("wb") as log:
            server = subprocess.Popen(
                [*command, *(part for each in settings for part in ("-c", each))],
                stdout=log,
                stderr=log,
                cwd=root,
                preexec_fn=die_with_parent,
                **as_user,
            )
        try:
            dsn = f"postgresql://test@127.0.0.1:{port}/postgres"
            _await(server, dsn, root / "log")
            yield dsn
        finally:
            server.send_signal(signal.SIGQUIT)  # at once; the data go anyway
            server.wait()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _await(server: subprocess.Popen[bytes], dsn: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENT_S
    while True:
        try:
            psycopg.connect(dsn).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not answer:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.05)
