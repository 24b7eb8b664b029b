"""Whether one replica can prove, after a power loss, that it still has everything that it had ever counted.

What a replica counts is the end that it fetches from as a follower, and its durable end as a leader: more of it than that
is never needed for what is committed. With ``flush.mode=ack`` nothing is counted before it is synced. So the proof is that
this has been so since the replica was last vouched for, and a durable note says it: one small file per log directory,
which names the replicas (``broker.complete_replicas``). It is written when replicas become whole, not when they append.

Rules:

* The file names a replica only while it counts nothing but what is synced, after a leader had it in the ISR in its present
  registration, and after all that it may have counted unsynced before (up to the log end at which the mode took
  effect, or at which the log was opened) is synced as well.
* It is off the disk before anything unsynced is counted: ``flush.mode=os`` takes effect only then.
* What a start finds there counts only where nothing is known to be missing (``broker.complete_replicas``); else the replica
  has to be vouched for anew, as has a new one.
* A cut that the leader orders takes nothing away: what is cut was never committed. Nothing is fetched before the cut is
  synced, so a power loss that undoes it gives back what the replica had counted until then.
"""

from __future__ import annotations

from enum import Enum


class Note(Enum):
    """What the disk says of the replica."""

    ABSENT = "it is not named"
    # A write is under way, or the replica is new here and an older file may name it.
    UNKNOWN = "it may be named"
    PRESENT = "it is named, durably"


class Proof:
    """One replica's. ``counts_synced``: the flush mode in effect; ``log_end_offset`` of the log as it was opened."""

    __slots__ = ("_unproven_end", "counts_synced", "note", "wants_synced")

    def __init__(self, wants_synced: bool, log_end_offset: int, note: Note = Note.ABSENT) -> None:
        self.wants_synced = wants_synced
        self.counts_synced = wants_synced or note is not Note.ABSENT
        self.note = note
        # Exclusive end of what may have been counted without being synced.
        self._unproven_end = log_end_offset

    @property
    def is_whole(self) -> bool:
        return self.note is Note.PRESENT

    @property
    def is_settled(self) -> bool:
        """The disk says what it should, and will without another step."""
        return self.note is (Note.PRESENT if self.wants_synced else Note.ABSENT)

    def configure(self, wants_synced: bool, log_end_offset: int) -> None:
        """The configured mode. To count what is not synced is allowed once the disk says nothing of the replica."""
        self.wants_synced = wants_synced
        if wants_synced and not self.counts_synced:
            self.counts_synced = True
            self._unproven_end = log_end_offset
        self._relax()

    def belongs_in_file(self, is_in_sync: bool, synced_end_offset: int, log_end_offset: int) -> bool:
        """Whether the next file is to name the replica. ``is_in_sync``: the metadata shows it in the ISR, and its
        registration as dealt with."""
        if not self.wants_synced:
            return False
        if self.note is Note.PRESENT:
            return True
        return is_in_sync and synced_end_offset >= min(self._unproven_end, log_end_offset)

    def on_write_begun(self, is_named: bool) -> None:
        """From now on the disk may hold the old file or the new one."""
        if self.note is not (Note.PRESENT if is_named else Note.ABSENT):
            self.note = Note.UNKNOWN

    def on_written(self, is_named: bool) -> None:
        """The new file is durable."""
        self.note = Note.PRESENT if is_named else Note.ABSENT
        self._relax()

    def _relax(self) -> None:
        if not self.wants_synced and self.note is Note.ABSENT:
            self.counts_synced = False
