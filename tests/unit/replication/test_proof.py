"""When a replica may call itself whole, and when it may count what is not synced."""

from __future__ import annotations

from tierlog.replication.proof import Note, Proof


def written(proof: Proof, is_named: bool) -> None:
    proof.on_write_begun(is_named)
    assert not proof.is_whole or is_named
    proof.on_written(is_named)


def test_it_is_named_once_vouched_for_and_synced_as_far_as_it_was_opened() -> None:
    proof = Proof(True, 10)
    assert not proof.belongs_in_file(False, 10, 10), "nobody has vouched for it"
    assert not proof.belongs_in_file(True, 9, 12), "an earlier process may have counted what is not synced"
    assert proof.belongs_in_file(True, 10, 12), "what comes after counts once it is synced"
    assert proof.belongs_in_file(True, 7, 7), "the rest was cut"
    proof.on_write_begun(True)
    assert not proof.is_whole
    proof.on_written(True)
    assert proof.is_whole and proof.is_settled
    assert proof.belongs_in_file(False, 0, 100), "for as long as nothing else counts"


def test_os_mode_waits_until_the_disk_says_nothing() -> None:
    proof = Proof(True, 0)
    written(proof, True)
    proof.configure(False, 5)
    assert proof.counts_synced and not proof.is_settled
    assert not proof.belongs_in_file(True, 5, 5)
    proof.on_write_begun(False)
    assert proof.counts_synced and not proof.is_whole
    proof.on_written(False)
    assert not proof.counts_synced and proof.is_settled


def test_os_mode_waits_for_a_write_that_names_it() -> None:
    proof = Proof(True, 0)
    proof.on_write_begun(True)
    proof.configure(False, 5)
    assert proof.counts_synced
    proof.on_written(True)
    assert proof.counts_synced
    written(proof, False)
    assert not proof.counts_synced


def test_back_to_ack_before_the_note_was_gone_has_counted_nothing_else() -> None:
    proof = Proof(True, 0)
    written(proof, True)
    proof.configure(False, 5)
    proof.on_write_begun(False)
    proof.configure(True, 8)
    proof.on_written(False)
    assert proof.counts_synced
    assert proof.belongs_in_file(True, 3, 8)


def test_ack_mode_asks_for_all_that_counted_before() -> None:
    proof = Proof(False, 0)
    assert proof.is_settled
    proof.configure(True, 8)
    assert proof.counts_synced
    assert not proof.belongs_in_file(True, 7, 9)
    assert proof.belongs_in_file(True, 8, 9)


def test_where_an_older_file_may_name_it_only_what_is_synced_counts() -> None:
    proof = Proof(False, 4, Note.UNKNOWN)
    assert proof.counts_synced
    written(proof, False)
    assert not proof.counts_synced
