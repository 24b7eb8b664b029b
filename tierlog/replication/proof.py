"""Decides whether a replica can prove, after a power loss, that it still has every record that it ever counted.

A replica counts the records below an offset that it reports: its fetch offset as a follower, its durable end as a leader.
No commit ever relies on more of its records than those. With ``flush.mode=ack`` records are counted only once they are
synced. The proof is that this has held since the replica was last in the ISR. A durable note says so: one
small file per log directory names the replicas (``complete_replicas``). It is written when replicas become whole,
not when they append.

Rules:

* The file names a replica only while it counts synced records alone, and only after two things: a leader had it in the ISR
  in its present registration, and everything that it may have counted unsynced before (up to the log end at which the mode
  took effect, or at which the log was opened) is synced as well.
* The name is off the disk before any unsynced record is counted: ``flush.mode=os`` takes effect only then.
* A name that a start finds counts only if nothing is known to be missing (``complete_replicas``); otherwise the
  replica must be in the ISR once more, like a new one.
* A cut that the leader orders loses nothing: the records that are cut were never committed. No fetch is sent before the cut
  is synced, so a power loss that undoes the cut brings back what the replica had counted until then.
"""

from __future__ import annotations

from enum import Enum


class Note(Enum):
    """Whether the file on the disk names the replica."""

    ABSENT = "it is not named"
    # A write is under way, or the replica is new here and an older file may name it.
    UNKNOWN = "it may be named"
    PRESENT = "it is named, durably"


class Proof:
    """The proof of one replica. ``wants_synced``: the configured flush mode is ``ack``; ``counts_synced``: the mode in
    effect is. ``log_end_offset``: the log end (exclusive) when the log was opened."""

    __slots__ = ("_unproven_end", "counts_synced", "note", "wants_synced")

    def __init__(self, wants_synced: bool, log_end_offset: int, note: Note = Note.ABSENT) -> None:
        self.wants_synced = wants_synced
        self.counts_synced = wants_synced or note is not Note.ABSENT
        self.note = note
        # Exclusive end of the records that may have been counted before they were synced.
        self._unproven_end = log_end_offset

    @property
    def is_whole(self) -> bool:
        return self.note is Note.PRESENT

    @property
    def is_settled(self) -> bool:
        """Whether the disk has the note that the configured mode asks for, so that nothing is left to be written."""
        return self.note is (Note.PRESENT if self.wants_synced else Note.ABSENT)

    def configure(self, wants_synced: bool, log_end_offset: int) -> None:
        """Sets the configured mode. Unsynced records may be counted only once the file no longer names the replica."""
        self.wants_synced = wants_synced
        if wants_synced and not self.counts_synced:
            self.counts_synced = True
            self._unproven_end = log_end_offset
        self._relax()

    def belongs_in_file(self, is_in_sync: bool, synced_end_offset: int, log_end_offset: int) -> bool:
        """Whether the next file is to name the replica. ``is_in_sync``: the metadata shows it in the ISR, and its
        registration as handled by the controller."""
        if not self.wants_synced:
            return False
        if self.note is Note.PRESENT:
            return True
        return is_in_sync and synced_end_offset >= min(self._unproven_end, log_end_offset)

    def on_write_begun(self, is_named: bool) -> None:
        """A write begins: from now on the disk may hold the old file or the new one."""
        if self.note is not (Note.PRESENT if is_named else Note.ABSENT):
            self.note = Note.UNKNOWN

    def on_written(self, is_named: bool) -> None:
        """The new file is durable."""
        self.note = Note.PRESENT if is_named else Note.ABSENT
        self._relax()

    def _relax(self) -> None:
        if not self.wants_synced and self.note is Note.ABSENT:
            self.counts_synced = False
