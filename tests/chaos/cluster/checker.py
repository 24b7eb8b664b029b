"""Holds a history against what a log promises to idempotent producers of acks=all.

* **lost**: acknowledged, or seen by a consumer, and absent from a final log that goes on behind it.
* **unseen**: acknowledged, and the final log ends before it.
* **duplicated**: one record at two offsets.
* **reordered**: a producer's records of one partition lie in another order than they were sent, or a consumer went back.
* **skipped**: a consumer passed over an offset that holds a record.
* **inconsistent**: one offset held, or was said to hold, two records.
* **ghost**: the broker refused it for good, and there it is.
* **corrupt**: a record that nobody wrote.
* **unsequenced**: the batches of one producer id and epoch do not follow each other in their sequences, or an older epoch
  comes behind a newer one.

What is promised is promised to a producer id and epoch (I6). A client that begins a new epoch while it does not know what
became of its requests sends their records again, and no broker can recognize them (librdkafka does, its issue 4953). So
a copy under a newer epoch of the same producer id than the copy before is no anomaly of the log: such are counted by
``sent_again``. Where nothing is known of the batches every copy is an anomaly.

A record whose fate its producer never learned may be there or not, but once and in its place.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.cluster.history import Batch, History, Outcome, Place, Poll, Send, Written

KINDS = (
    "lost",
    "unseen",
    "duplicated",
    "reordered",
    "skipped",
    "inconsistent",
    "ghost",
    "corrupt",
    "unsequenced",
)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """``kind`` is one of ``KINDS``."""

    kind: str
    place: Place
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.place}: {self.what}"


def check(history: History) -> list[Anomaly]:
    """All of them, by partition. Linear in the history but for sorting."""
    return [anomaly for partition in _partitions(history) for anomaly in partition.check()]


def sent_again(history: History) -> Counter[str]:
    """By producer, how many copies its client sent again under a newer epoch."""
    return Counter(
        record.producer
        for partition in _partitions(history)
        for offset, record in partition.final
        if record is not None and offset in partition.sent_again
    )


def _partitions(history: History) -> Iterator[_Partition]:
    sends: dict[Place, list[Send]] = defaultdict(list)
    polls: dict[Place, list[Poll]] = defaultdict(list)
    for send in history.sends:
        sends[send.place].append(send)
    for poll in history.polls:
        polls[poll.place].append(poll)
    for place in sorted({*sends, *polls, *history.final}):
        final = history.final.get(place, [])
        yield _Partition(place, sends[place], polls[place], final, history.batches.get(place, []))


class _Partition:
    """The history of one partition."""

    def __init__(
        self,
        place: Place,
        sends: list[Send],
        polls: list[Poll],
        final: list[tuple[int, Written | None]],
        batches: list[Batch],
    ) -> None:
        self.place = place
        self.sends = sends
        self.polls = polls
        self.final = final
        self.end_offset = max((offset for offset, _ in final), default=-1) + 1
        self.offsets: dict[Written, list[int]] = defaultdict(list)
        for offset, record in final:
            if record is not None:
                self.offsets[record].append(offset)
        self.batches = batches
        self.batch_at = {
            n: batch for batch in batches for n in range(batch.first_offset, batch.last_offset + 1)
        }
        self.sent_again = set(self._sent_again())

    def _sent_again(self) -> Iterator[int]:
        """Offsets of copies that lie under a newer epoch of their producer id than the copy before."""
        for offsets in self.offsets.values():
            for before, after in itertools.pairwise(sorted(offsets)):
                old, new = self.batch_at.get(before), self.batch_at.get(after)
                if old is None or new is None or old.producer_id < 0 or new.producer_id != old.producer_id:
                    continue
                if new.producer_epoch > old.producer_epoch:
                    yield after

    def check(self) -> list[Anomaly]:
        found = [
            *self._places(),
            *self._missing(),
            *self._contents(),
            *self._order_of_producers(),
            *self._sequences(),
            *self._order_of_consumers(),
        ]
        return list(dict.fromkeys(found))

    def _anomaly(self, kind: str, what: str) -> Anomaly:
        return Anomaly(kind, self.place, what)

    def _places(self) -> Iterator[Anomaly]:
        """One offset, one record; one record, one offset: in the end, in what was polled, in what was acknowledged."""
        at: dict[int, set[Written]] = defaultdict(set)
        of: dict[Written, set[int]] = defaultdict(set)
        said = [(send.offset, send.record) for send in self.sends if send.outcome is Outcome.ACKNOWLEDGED]
        for offset, record in [*self.final, *((p.offset, p.record) for p in self.polls), *said]:
            if offset is not None and record is not None:
                at[offset].add(record)
                of[record].add(offset)
        for offset, records in at.items():
            if len(records) > 1:
                yield self._anomaly("inconsistent", f"offset {offset} holds {_names(records)}")
        for record, offsets in of.items():
            there = self.offsets.get(record, [])
            if len(there) - len(self.sent_again.intersection(there)) > 1:
                yield self._anomaly("duplicated", f"{record} at {self._copies(there)}")
            elif len(offsets) > max(1, len(there)):
                yield self._anomaly("inconsistent", f"{record} at {sorted(offsets)}")
        yield from self._holes()

    def _copies(self, offsets: list[int]) -> str:
        """Where they lie, and in which batches."""
        batches = {offset: self.batch_at.get(offset) for offset in sorted(offsets)}
        return ", ".join(str(n) if batch is None else f"{n} in {batch}" for n, batch in batches.items())

    def _holes(self) -> Iterator[Anomaly]:
        seen = [offset for offset, _ in self.final]
        for before, after in itertools.pairwise(seen):
            if after != before + 1:
                yield self._anomaly("skipped", f"the final reading goes from {before} to {after}")

    def _missing(self) -> Iterator[Anomaly]:
        """A record that must be there lies behind the end, if its offset or all of its producer's later ones do."""
        visible = {poll.record: poll.offset for poll in self.polls if poll.record is not None}
        last_number: dict[str, int] = {}
        for record in self.offsets:
            last_number[record.producer] = max(record.number, last_number.get(record.producer, -1))
        for send in self.sends:
            acknowledged = send.outcome is Outcome.ACKNOWLEDGED
            if send.record in self.offsets or not (acknowledged or send.record in visible):
                continue
            offset = visible.get(send.record, send.offset)
            if offset is not None:
                beyond = offset >= self.end_offset
            else:
                beyond = send.record.number > last_number.get(send.record.producer, -1)
            why = "acknowledged" if acknowledged else "polled"
            where = "" if offset is None else f" at {offset}"
            kind = "unseen" if beyond and acknowledged else "lost"
            yield self._anomaly(kind, f"{send.record}, {why}{where}; the log ends at {self.end_offset}")

    def _contents(self) -> Iterator[Anomaly]:
        outcomes = {send.record: send.outcome for send in self.sends}
        every = [*self.final, *((poll.offset, poll.record) for poll in self.polls)]
        for offset, record in every:
            if record is None:
                yield self._anomaly("corrupt", f"offset {offset} holds bytes of nobody")
            elif record not in outcomes:
                yield self._anomaly("corrupt", f"offset {offset} holds {record}, which nobody sent here")
            elif outcomes[record] is Outcome.FAILED:
                yield self._anomaly("ghost", f"{record} was refused, and is at {offset}")

    def _order_of_producers(self) -> Iterator[Anomaly]:
        """Idempotence keeps the order of all of a producer's records, those of unknown outcome included: of what was not
        sent again, and of everything under one epoch."""
        last: dict[object, Written] = {}
        for offset, record in sorted(self.final, key=lambda row: row[0]):
            if record is None:
                continue
            batch = self.batch_at.get(offset)
            chains: list[object] = [] if offset in self.sent_again else [record.producer]
            if batch is not None:
                chains.append((record.producer, batch.producer_id, batch.producer_epoch))
            for chain in chains:
                before = last.get(chain)
                if before is not None and record.number < before.number:
                    yield self._anomaly("reordered", f"{record} at {offset}, behind {before}")
                else:
                    last[chain] = record

    def _sequences(self) -> Iterator[Anomaly]:
        """The promise itself, whatever the records say."""
        last: dict[int, Batch] = {}
        for batch in self.batches:
            before = last.get(batch.producer_id)
            last[batch.producer_id] = batch
            if batch.producer_id < 0:
                continue
            due = 0
            if before is not None and before.producer_epoch == batch.producer_epoch:
                due = before.base_sequence + before.last_offset - before.first_offset + 1
            is_older = before is not None and before.producer_epoch > batch.producer_epoch
            if is_older or batch.base_sequence != due:
                yield self._anomaly("unsequenced", f"{batch} behind {before}")

    def _order_of_consumers(self) -> Iterator[Anomaly]:
        """Within a run each offset follows the one before; a later run begins no further than the last one came."""
        last: dict[str, Poll] = {}
        furthest: dict[str, int] = {}
        for poll in self.polls:
            before = last.get(poll.consumer)
            due = furthest.get(poll.consumer, poll.offset)
            if before is not None and before.run == poll.run:
                if poll.offset <= before.offset:
                    yield self._anomaly(
                        "reordered", f"{poll.consumer} went from {before.offset} to {poll.offset}"
                    )
                due = before.offset + 1
            if poll.offset > due:
                yield self._anomaly("skipped", f"{poll.consumer} got {poll.offset} where {due} was due")
            last[poll.consumer] = poll
            furthest[poll.consumer] = max(due, poll.offset + 1)


def _names(records: set[Written]) -> str:
    return " and ".join(str(record) for record in sorted(records))
