"""What Google refuses and keeps, and our server with it: the rules that fake-gcs-server does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers.gcs.asking import OBJECTS, UPLOAD, Answer, ask, multipart
from tests.servers.gcs.serving import BUCKET, GcsServer, gcs

KIB = 1024


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with gcs() as running:
        yield running


def put(server: GcsServer, name: str, data: bytes = b"hello", **row: Any) -> Answer:
    body, kind = multipart({"name": name, **row}, data)
    return ask(server, "POST", UPLOAD, {"uploadType": "multipart"}, body, content_type=kind)


def begin(server: GcsServer, row: dict[str, Any], size_bytes: int) -> str:
    """The path of a new upload session."""
    given = {"X_Upload_Content_Length": str(size_bytes)}
    answer = ask(server, "POST", UPLOAD, {"uploadType": "resumable"}, row, **given)
    return answer.headers["location"].removeprefix(server.endpoint)


def test_a_class_change_in_place_is_a_new_generation(server: GcsServer) -> None:
    before = put(server, "k", storageClass="STANDARD").row
    change = {"ifGenerationMatch": before["generation"]}
    onto = f"{OBJECTS}/k/rewriteTo/b/{BUCKET}/o/k"
    after = ask(server, "POST", onto, change, {"storageClass": "COLDLINE"}).row
    assert int(after["generation"]) > int(before["generation"])
    assert (after["storageClass"], after["metageneration"], after["crc32c"]) == (
        "COLDLINE",
        "1",
        before["crc32c"],
    )
    assert after["timeStorageClassUpdated"] >= before["timeStorageClassUpdated"]
    assert ask(server, "POST", onto, change, {"storageClass": "ARCHIVE"}).status == 412
    assert ask(server, "PATCH", f"{OBJECTS}/k", None, {"storageClass": "ARCHIVE"}).status == 400


def test_a_chunk_counts_in_quarters_of_a_mebibyte(server: GcsServer) -> None:
    where = begin(server, {"name": "r"}, 600 * KIB)
    sent = ask(
        server, "PUT", where, None, bytes(300 * KIB), content_range=f"bytes 0-{300 * KIB - 1}/{600 * KIB}"
    )
    assert (sent.status, sent.headers["range"]) == (308, f"bytes=0-{256 * KIB - 1}")
    asked = ask(server, "PUT", where, content_range=f"bytes */{600 * KIB}")
    assert (asked.status, asked.headers["range"]) == (308, f"bytes=0-{256 * KIB - 1}")
    assert ask(server, "GET", f"{OBJECTS}/r").status == 404
    rest = f"bytes {256 * KIB}-{600 * KIB - 1}/{600 * KIB}"
    wrong = {"x_goog_hash": "crc32c=AAAAAA=="}
    refused = ask(server, "PUT", where, None, bytes(344 * KIB), content_range=rest, **wrong)
    assert refused.status == 400
    assert ask(server, "GET", f"{OBJECTS}/r").status == 404
    assert ask(server, "PUT", where, None, bytes(344 * KIB), content_range=rest).status == 499, "it is over"


def test_the_condition_of_an_upload_holds_at_its_end(server: GcsServer) -> None:
    answer = ask(server, "POST", UPLOAD, {"uploadType": "resumable", "ifGenerationMatch": 0}, {"name": "r"})
    where = answer.headers["location"].removeprefix(server.endpoint)
    put(server, "r", b"first")
    late = ask(server, "PUT", where, None, b"second", content_range="bytes 0-5/6")
    assert late.status == 412
    assert ask(server, "GET", f"{OBJECTS}/r", {"alt": "media"}).body == b"first"


def test_holds_and_retention_keep(server: GcsServer) -> None:
    later = {"mode": "Unlocked", "retainUntilTime": "2999-01-01T00:00:00Z"}
    put(server, "held", temporaryHold=True)
    put(server, "kept", retention=later)
    for name, reason in (("held", "objectUnderActiveHold"), ("kept", "retentionPolicyNotMet")):
        for refused in (
            ask(server, "DELETE", f"{OBJECTS}/{name}"),
            put(server, name),
            ask(server, "POST", f"{OBJECTS}/{name}/rewriteTo/b/{BUCKET}/o/{name}", None, {}),
        ):
            assert refused.status == 403
            assert refused.row["error"]["errors"][0]["reason"] == reason
        told = ask(server, "DELETE", f"/{BUCKET}/{name}")
        assert told.status == 403
        assert b"<Error><Code>" in told.body
    ask(server, "PATCH", f"{OBJECTS}/held", None, {"temporaryHold": False})
    assert ask(server, "DELETE", f"{OBJECTS}/held").status == 204
    server.holds().change({"retentionPolicy": {"retentionPeriod": "3600"}})
    put(server, "young")
    assert ask(server, "DELETE", f"{OBJECTS}/young").status == 403


def test_what_is_deleted_comes_back(server: GcsServer) -> None:
    made = put(server, "k", b"first", storageClass="NEARLINE").row
    assert ask(server, "DELETE", f"{OBJECTS}/k").status == 204
    (listed,) = ask(server, "GET", OBJECTS, {"softDeleted": "true"}).row["items"]
    assert (listed["generation"], "hardDeleteTime" in listed) == (made["generation"], True)
    back = ask(server, "POST", f"{OBJECTS}/k/restore", {"generation": made["generation"]}).row
    assert (back["storageClass"], int(back["generation"]) > int(made["generation"])) == ("NEARLINE", True)
    assert ask(server, "GET", f"{OBJECTS}/k", {"alt": "media"}).body == b"first"
    server.holds().change({"softDeletePolicy": {"retentionDurationSeconds": "0"}})
    ask(server, "DELETE", f"{OBJECTS}/k")
    gone = {"generation": back["generation"]}
    assert ask(server, "POST", f"{OBJECTS}/k/restore", gone).status == 404


def test_versions_stay(server: GcsServer) -> None:
    server.holds().change({"versioning": {"enabled": True}})
    first = put(server, "k", b"first").row["generation"]
    put(server, "k", b"second")
    old = ask(server, "GET", f"{OBJECTS}/k", {"alt": "media", "generation": first})
    assert old.body == b"first"
    ask(server, "DELETE", f"{OBJECTS}/k")
    assert ask(server, "GET", f"{OBJECTS}/k").status == 404
    assert len(ask(server, "GET", OBJECTS, {"versions": "true"}).row["items"]) == 2
    assert ask(server, "DELETE", f"{OBJECTS}/k", {"generation": first}).status == 204
    assert ask(server, "GET", OBJECTS).row.get("items") is None


def test_who_may(server: GcsServer) -> None:
    server.state.tokens = {"secret"}
    for path in (f"{OBJECTS}/k", f"/{BUCKET}/k"):
        assert ask(server, "GET", path).status == 401
        assert ask(server, "GET", path, authorization="Bearer other").status == 401
        assert ask(server, "GET", path, authorization="Bearer secret").status == 404
    server.state.denied = {"storage.objects.delete"}
    put_once = {"uploadType": "media", "name": "k"}
    assert ask(server, "POST", UPLOAD, put_once, b"x", authorization="Bearer secret").status == 200
    for refused in (
        ask(server, "DELETE", f"{OBJECTS}/k", authorization="Bearer secret"),
        ask(server, "POST", UPLOAD, put_once, b"y", authorization="Bearer secret"),
    ):
        assert refused.status == 403, "an overwrite deletes, too"
    wanted = f"/storage/v1/b/{BUCKET}/iam/testPermissions?permissions=storage.objects.get&permissions=storage.objects.delete"
    assert ask(server, "GET", wanted, authorization="Bearer secret").row["permissions"] == [
        "storage.objects.get"
    ]


def test_each_request_is_billed_once(server: GcsServer) -> None:
    where = begin(server, {"name": "r"}, 300 * KIB)
    ask(server, "PUT", where, None, bytes(300 * KIB), content_range=f"bytes 0-{300 * KIB - 1}/{300 * KIB}")
    put(server, "k")
    reads: list[Callable[[], Answer]] = [
        lambda: ask(server, "GET", f"{OBJECTS}/k"),
        lambda: ask(server, "GET", f"/{BUCKET}/k", range="bytes=0-1"),
        lambda: ask(server, "HEAD", f"/{BUCKET}/k"),
    ]
    for read in reads:
        read()
    ask(server, "GET", OBJECTS)
    ask(server, "DELETE", f"/{BUCKET}/k")
    log = server.state.log
    assert (log.billed["A"], log.billed["B"], log.billed["free"]) == (3, 3, 2)
    ranged = [row for row in log.rows if row.status == 206]
    assert [(row.api, row.name, row.sent_bytes) for row in ranged] == [("xml", "k", 2)]
