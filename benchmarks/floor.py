"""How near a one-record produce is to what its system calls cost: the broker beside servers that only make them.

    python -m benchmarks.floor [--requests 20000] [--runs 5] [--in-flight 1]

``uvloop`` reads, writes as many bytes to a file, and answers as many bytes as a broker, in Python under uvloop, per read
what the broker does per request. ``bare`` is the same in a loop of ``select.epoll`` without any event loop. In turns, on
the same client; medians of processor time (user, system) and of p50.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.measure import raw, run_client
from benchmarks.sides import running, tierlog_side

FRAME_BYTES = 240
REPLY_BYTES = 72
RECEIVE_BYTES = 1 << 16


def answers(count: int) -> bytes:
    return bytes(REPLY_BYTES * (count // FRAME_BYTES))


class Echo(asyncio.BufferedProtocol):
    def __init__(self, file: int, memory: memoryview) -> None:
        self._file = file
        self._memory = memory
        self._fd = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._fd = transport.get_extra_info("socket").fileno()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        os.pwrite(self._file, self._memory[:nbytes], 0)
        os.writev(self._fd, [answers(nbytes)])


async def serve_uvloop(listener: socket.socket, file: int) -> None:
    memory = memoryview(bytearray(RECEIVE_BYTES))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(file, memory), sock=listener)
    await server.serve_forever()


def serve_bare(listener: socket.socket, file: int) -> None:
    memory = memoryview(bytearray(RECEIVE_BYTES))
    connection, _ = listener.accept()
    waiting = select.epoll()
    waiting.register(connection, select.EPOLLIN)
    while True:
        waiting.poll()
        count = connection.recv_into(memory)
        if count == 0:
            return
        os.pwrite(file, memory[:count], 0)
        connection.send(answers(count))


def serve(kind: str) -> None:
    """In a process of its own: tells its port, and ends with its connection or its parent."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    with tempfile.TemporaryFile() as file:
        if kind == "bare":
            serve_bare(listener, file.fileno())
        else:
            import uvloop

            uvloop.run(serve_uvloop(listener, file.fileno()))


def ask(port: int, requests: int, in_flight: int) -> float:
    """p50 in ms."""
    took_s, sent = [], bytes(FRAME_BYTES * in_flight)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests // in_flight):
            began_s, left = time.perf_counter(), REPLY_BYTES * in_flight
            connection.sendall(sent)
            while left:
                left -= len(connection.recv(left))
            took_s.append(time.perf_counter() - began_s)
    return median(took_s) * 1000


def times_of(pid: int) -> tuple[float, float]:
    """Seconds (user, system) so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks_per_s, int(fields[12]) / ticks_per_s


def counted(pid: int, requests: int, work: Callable[[], float]) -> dict[str, float]:
    before = times_of(pid)
    p50_ms = work()
    after = times_of(pid)
    user, system = ((b - a) / requests * 1e6 for a, b in zip(before, after, strict=True))
    return {"user_us": user, "system_us": system, "p50_ms": p50_ms}


def floor(kind: str, requests: int, in_flight: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.floor", "--serve", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            return counted(server.pid, requests, lambda: ask(port, requests, in_flight))
        finally:
            server.kill()


def compared(requests: int, runs: int, in_flight: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="floor-") as directory:
        side = tierlog_side(Path(directory))
        with running(side):
            side.create_topic("floor", 1, {"flush.mode": "os"})
            client = raw("raw_produce", side, "floor", requests=requests, acks=1, in_flight=in_flight)
            (pid,) = side.tree.roots
            for _ in range(runs + 1):
                told = counted(pid, requests, lambda: run_client(client)[0]["p50_ms"])
                found["broker"].append(told)
                for kind in ("uvloop", "bare"):
                    found[kind].append(floor(kind, requests, in_flight))
    return {
        name: {key: median(each[key] for each in rows[1:]) for key in rows[0]} for name, rows in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=("uvloop", "bare"), help="Be one of the servers.")
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve)
        return
    found = compared(asked.requests, asked.runs, asked.in_flight)
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    for name, row in found.items():
        print(
            f"{name:8} {row['user_us']:6.1f} us user {row['system_us']:6.1f} us system   p50 {row['p50_ms']:.3f} ms"
        )


if __name__ == "__main__":
    main()
