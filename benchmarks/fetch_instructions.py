"""Instructions of fetches inside the broker, from the frame to the buffers of the reply, counted by callgrind.

    python -m benchmarks.fetch_instructions [--rounds 400] [--row ROW]

Rows, all with one partition of three replicas unless they say otherwise:

* ``follower-fetch``: an incremental Fetch of a follower that has all, moves the high watermark, and parks;
* ``follower-wake``: the answer with the record that wakes it;
* ``replicated``: a one-record Produce with acks=all and whatever its two followers ask and are answered until its reply;
* ``consumer-fetch-12``, ``consumer-fetch-13``: a Fetch of a consumer that parks, without a session as librdkafka's, and an
  incremental one as Java's;
* ``consumer-wake-12``, ``consumer-wake-13``: its answer;
* ``consumer-read``: a sessionless Fetch that is answered at once with 1 MiB.

Sockets, timers and the loop itself are not counted. ``--row`` counts one row; what is counted is what ``functools.reduce``
calls.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.instructions import CALLGRIND, COLLECTED
from benchmarks.wire import Topic, batch, produce_frame
from tests.fetch_rounds import (
    CLOSED,
    NO_SESSION,
    OPENS,
    Peer,
    SteppedLoop,
    fetch_frame,
    follower_request,
    lead_with,
    named,
    register,
    stepped,
)
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.cli.broker import embedded
from tierlog.metadata.control.topics import NewTopic
from tierlog.wire.messages.fetch import FetchRequest

FOLLOWERS = (7, 8)
WARM_UP = 50
SESSIONLESS = 12
RECORD_BYTES = 100
READ_BYTES = 1 << 20
ROWS = (
    "follower-fetch",
    "follower-wake",
    "replicated",
    "consumer-fetch-12",
    "consumer-fetch-13",
    "consumer-wake-12",
    "consumer-wake-13",
    "consumer-read",
)
Step = Callable[[], None]
_OVERRIDES = ("flush.mode=os", "remote.log.storage.system.enable=false", "replica.lag.time.max.ms=3600000")


class Rounds:
    """One broker, one partition, and who asks it."""

    def __init__(self, broker: Broker, partition: Partition, row: str) -> None:
        self.loop: SteppedLoop = stepped(broker)
        self.row = row
        self.count = 0
        self.partition = partition
        topic = Topic(partition.topic_partition.topic, partition.topic_id, 1)
        self.frame = produce_frame(topic, [0], batch(1, RECORD_BYTES), 13, -1)
        self.producer = Peer(broker, self.loop, broker.dispatcher)
        self.peers = [Peer(broker, self.loop, broker.dispatcher) for _ in FOLLOWERS]
        self.epoch = 0
        self.sessions: list[int] = [NO_SESSION] * len(FOLLOWERS)

    def counted(self, name: str, step: Step, is_wanted: bool) -> None:
        """Runs the step, and counts it where it belongs to the row."""
        if is_wanted and self.row in (name, "replicated"):
            functools.reduce(lambda _, __: step(), range(1), None)
            self.count += 1
        else:
            step()

    def turn(self) -> None:
        while self.loop.soon:
            self.loop.turn()


async def _started(directory: Path) -> tuple[Broker, Partition]:
    broker = Broker(embedded(directory, "127.0.0.1", 0, -1, list(_OVERRIDES)))
    await broker.start()
    await broker.services.admin.create_topics([NewTopic("rows", 1, 1)])
    async with asyncio.timeout(600):
        while True:
            found = broker.replicas.by_name("rows", 0)
            if isinstance(found, Partition) and found.leader is not None:
                return broker, found
            await asyncio.sleep(0.01)


def _follow(broker: Broker, partition: Partition, row: str, count: int) -> int:
    rounds = Rounds(broker, partition, row)
    for broker_id in FOLLOWERS:
        register(broker, broker_id)
    lead_with(broker, partition, FOLLOWERS)
    for number in range(-WARM_UP, count):
        end_offset = partition.log.log_end_offset
        for which, peer in enumerate(rounds.peers):
            session = (rounds.sessions[which], rounds.epoch)
            request = follower_request(FOLLOWERS[which], session, [named(partition, end_offset)])
            frame = fetch_frame(17, request)
            # The second one moves the high watermark.
            is_wanted = number >= 0 and (which == 1 or row == "replicated")
            rounds.counted("follower-fetch", functools.partial(peer.send, frame), is_wanted)
        assert number == -WARM_UP or partition.high_watermark == end_offset
        if row == "replicated" and number >= 0:
            functools.reduce(lambda _, __: rounds.turn(), range(1), None)
            rounds.count += 1
        else:
            rounds.turn()
        if number == -WARM_UP:
            for which, peer in enumerate(rounds.peers):
                rounds.loop.pass_time(1.0)
                rounds.turn()
                rounds.sessions[which] = int.from_bytes(peer.taken()[15:19], "big")
            rounds.epoch = OPENS
        else:
            assert number < -WARM_UP + 3 or rounds.producer.taken()
        rounds.loop.now_s += 0.001
        rounds.counted("produce", functools.partial(rounds.producer.send, rounds.frame), number >= 0)
        rounds.counted("follower-wake", rounds.turn, number >= 0)
        if number > -WARM_UP:
            assert all(len(peer.taken()) > RECORD_BYTES for peer in rounds.peers)
        rounds.epoch += 1
    return count * (2 if row == "follower-wake" else 1)


def _consume(broker: Broker, partition: Partition, row: str, count: int) -> int:
    rounds = Rounds(broker, partition, row)
    version = int(row[-2:])
    peer, session, epoch = rounds.peers[0], NO_SESSION, OPENS
    for number in range(-WARM_UP, count):
        end_offset = partition.log.log_end_offset
        asked = named(partition, end_offset, last_fetched_epoch=-1, log_start_offset=-1)
        request = FetchRequest(
            replica_id=-1,
            max_wait_ms=500,
            min_bytes=1,
            max_bytes=50 << 20,
            session_id=session if version > SESSIONLESS else NO_SESSION,
            session_epoch=epoch if version > SESSIONLESS else CLOSED,
            topics=[asked],
        )
        frame = fetch_frame(version, request)
        rounds.counted(f"consumer-fetch-{version}", functools.partial(peer.send, frame), number >= 0)
        rounds.turn()
        rounds.loop.now_s += 0.001
        rounds.producer.send(rounds.frame)
        rounds.counted(f"consumer-wake-{version}", rounds.turn, number >= 0)
        answer = peer.taken()
        assert len(answer) > RECORD_BYTES
        session, epoch = int.from_bytes(answer[15:19], "big"), epoch + 1
    return count


def _read(broker: Broker, partition: Partition, row: str, count: int) -> int:
    rounds = Rounds(broker, partition, row)
    topic = Topic(partition.topic_partition.topic, partition.topic_id, 1)
    for _ in range(40):
        rounds.producer.send(produce_frame(topic, [0], batch(300, RECORD_BYTES), 13, -1))
    request = FetchRequest(max_wait_ms=500, min_bytes=1, max_bytes=READ_BYTES, session_epoch=-1)
    request.topics = [named(partition, 0, last_fetched_epoch=-1, log_start_offset=-1)]
    frame, peer = fetch_frame(12, request), rounds.peers[0]
    for number in range(-WARM_UP, count):
        rounds.counted(row, functools.partial(peer.send, frame), number >= 0)
        assert len(peer.taken()) > READ_BYTES // 2
    return count


async def _run(row: str, count: int) -> int:
    with tempfile.TemporaryDirectory() as directory:
        broker, partition = await _started(Path(directory))
        serve = _read if row == "consumer-read" else _consume if row.startswith("consumer") else _follow
        counted = serve(broker, partition, row, count)
        broker.services.loop = broker.loop
        await broker.stop()
        return counted


def _counted(row: str, rounds: int) -> int:
    command = [
        "valgrind",
        "--tool=callgrind",
        *CALLGRIND,
        sys.executable,
        "-m",
        "benchmarks.fetch_instructions",
    ]
    command += ["--row", row, "--rounds", str(rounds), "--here"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    collected = COLLECTED.search(found.stderr)
    if found.returncode or collected is None:
        raise RuntimeError(found.stderr[-2_000:])
    return int(collected[1]) // int(found.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--row", choices=ROWS)
    parser.add_argument("--here", action="store_true", help="Run the row itself.")
    asked = parser.parse_args()
    if asked.here:
        print(asyncio.run(_run(asked.row, asked.rounds)))
        return
    for row in [asked.row] if asked.row else ROWS:
        print(f"{row:18} {_counted(row, asked.rounds):>10,} instructions", flush=True)


if __name__ == "__main__":
    main()
