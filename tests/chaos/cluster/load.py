"""Idempotent producers of acks=all, by three clients that have nothing in common; each records what it was told.

All may try for longer than any fault lasts. A record that no client could bring home is of unknown fate, unless the
broker said for good that it would not have it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import logging
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.errors import MessageSizeTooLargeError
from confluent_kafka import KafkaError, Message, Producer

from tests.chaos.cluster.history import History, Outcome, Place, Send, Written, encode_value
from tests.servers import kafka
from tests.servers.parents import die_with_parent

TRY_S = 240
# It says every error that it tries again after.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
_REFUSED = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.TOPIC_AUTHORIZATION_FAILED}


class Load(threading.Thread):
    """A producer; ``stop`` returns once the fate of all it sent is known."""

    def __init__(
        self, name: str, bootstrap: str, places: Sequence[Place], history: History, rate: float
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.errors: Counter[str] = Counter()
        self._servers = bootstrap
        self._places = itertools.cycle(places)
        self._history = history
        self._pause_s = 1 / rate
        self._numbers = itertools.count()
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        self.join(TRY_S + 30)
        assert not self.is_alive(), f"{self.name} does not end"

    def _next(self) -> tuple[Send, bytes]:
        place = next(self._places)
        record = Written(self.name, next(self._numbers))
        send = Send(record, place, time.monotonic())
        self._history.add_send(send)
        return send, encode_value(record, place)

    def _failed(self, send: Send, why: str, refused: bool) -> None:
        send.ended_s = time.monotonic()
        send.outcome = Outcome.FAILED if refused else Outcome.UNKNOWN
        self.errors[why[:200]] += 1

    @staticmethod
    def _acknowledged(send: Send, offset: int | None) -> None:
        send.ended_s = time.monotonic()
        # A batch that was sent again to a broker that had it may be answered without an offset.
        send.offset = offset if offset is not None and offset >= 0 else None
        send.outcome = Outcome.ACKNOWLEDGED


class TellingLoad(Load):
    """One whose client tells why it does what it does, in the file ``log``."""

    def __init__(
        self,
        name: str,
        bootstrap: str,
        places: Sequence[Place],
        history: History,
        rate: float,
        log: Path,
    ) -> None:
        super().__init__(name, bootstrap, places, history, rate)
        self._log = log


class ConfluentLoad(TellingLoad):
    """librdkafka. Where records lie twice, what it says of its epoch and batches tells why."""

    def run(self) -> None:
        teller = logging.Logger(self.name)
        with contextlib.closing(logging.FileHandler(self._log, mode="w")) as handler:
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            teller.addHandler(handler)
            self._serve(teller)
            teller.removeHandler(handler)

    def _serve(self, teller: logging.Logger) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._servers,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "retry.backoff.ms": 50,
                "retry.backoff.max.ms": 200,
                "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 250,
                "topic.metadata.refresh.interval.ms": 1000,
                "request.timeout.ms": 2000,
                "socket.timeout.ms": 3000,
                "socket.connection.setup.timeout.ms": 1000,
                "message.timeout.ms": TRY_S * 1000,
                "log_level": 7,
                "debug": "eos,msg",
                "logger": teller,
            }
        )
        while not self._stopping.is_set():
            send, value = self._next()

            def told(error: KafkaError | None, message: Message, send: Send = send) -> None:
                if error is None:
                    self._acknowledged(send, message.offset())
                else:
                    self._failed(send, str(error), error.code() in _REFUSED)

            try:
                producer.produce(send.place.topic, value, partition=send.place.partition, on_delivery=told)
            except BufferError:
                self._failed(send, "the queue is full", refused=True)
            producer.poll(self._pause_s)
        producer.flush(TRY_S)


class AiokafkaLoad(Load):
    """aiokafka, which keeps one batch of a partition in flight."""

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            enable_idempotence=True,
            acks="all",
            linger_ms=2,
            retry_backoff_ms=50,
            metadata_max_age_ms=1000,
            request_timeout_ms=20_000,  # of a request, and of a record as a whole
        )
        await producer.start()
        try:
            async with asyncio.TaskGroup() as under_way:
                while not self._stopping.is_set():
                    send, value = self._next()
                    try:
                        sent = await producer.send(send.place.topic, value, partition=send.place.partition)
                    except AioKafkaError as error:
                        # It never got into the client's buffer.
                        self._failed(send, repr(error), refused=True)
                    else:
                        under_way.create_task(self._told(send, sent))
                    await asyncio.sleep(self._pause_s)
        finally:
            await producer.stop()

    async def _told(self, send: Send, sent: asyncio.Future[object]) -> None:
        try:
            answer = await sent
        except AioKafkaError as error:
            self._failed(send, repr(error), isinstance(error, MessageSizeTooLargeError))
        else:
            self._acknowledged(send, getattr(answer, "offset", None))


class JavaLoad(TellingLoad):
    """Apache Kafka's own client, in a process of its own: ``tests/e2e/java/Send.java``. What it says goes to ``log``."""

    def run(self) -> None:
        with self._log.open("wb") as log:
            self._serve(log)

    def _serve(self, log: IO[bytes]) -> None:
        command = [*kafka.java("broker", classes=[kafka.JARS / "classes"]), "Send"]
        process = subprocess.Popen(
            [*command, self._servers, str(TRY_S * 1000)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
            preexec_fn=die_with_parent,
        )
        assert process.stdin is not None
        under_way: dict[int, Send] = {}
        listener = threading.Thread(target=self._listen, args=(process, under_way), daemon=True)
        listener.start()
        while not self._stopping.is_set():
            send, value = self._next()
            under_way[send.record.number] = send
            told = base64.b64encode(value).decode()
            process.stdin.write(f"{send.record.number} {send.place.topic} {send.place.partition} {told}\n")
            time.sleep(self._pause_s)
        process.stdin.close()
        listener.join(TRY_S)
        process.kill()
        process.wait()

    def _listen(self, process: subprocess.Popen[str], under_way: dict[int, Send]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            number, outcome, why = line.split(" ", 2)
            send = under_way.pop(int(number))
            if outcome == "acknowledged":
                self._acknowledged(send, int(why))
            else:
                self._failed(send, why.strip(), outcome == "refused")
