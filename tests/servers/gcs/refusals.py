"""What the server refuses, with Google's status, reason and words; how JSON and XML say it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from xml.sax.saxutils import escape


@dataclass(eq=False)
class Refused(Exception):
    """``reason`` is the JSON API's word, ``code`` the XML API's."""

    status: int
    reason: str
    code: str
    message: str
    location: str = ""

    def as_json(self) -> bytes:
        row = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            row |= {"locationType": "header", "location": self.location}
        return json.dumps({"error": {"code": self.status, "message": self.message, "errors": [row]}}).encode()

    def as_xml(self) -> bytes:
        told = _XML_MESSAGES.get(self.code, self.message)
        details = f"<Details>{escape(self.message)}</Details>" if told != self.message else ""
        body = f"<Error><Code>{self.code}</Code><Message>{escape(told)}</Message>{details}</Error>"
        return f"<?xml version='1.0' encoding='UTF-8'?>{body}".encode()


_XML_MESSAGES = {
    "NoSuchKey": "The specified key does not exist.",
    "AccessDenied": "Access denied.",
    "AuthenticationRequired": "Authentication required.",
    "InvalidRange": "The requested range cannot be satisfied.",
    "InvalidArgument": "Invalid argument.",
    "BadDigest": "The Content-MD5 you specified did not match what we received.",
}


def not_modified() -> Refused:
    return Refused(304, "notModified", "NotModified", "")


def no_bucket() -> Refused:
    return Refused(404, "notFound", "NoSuchBucket", "The specified bucket does not exist.")


def no_object(bucket: str, name: str) -> Refused:
    return Refused(404, "notFound", "NoSuchKey", f"No such object: {bucket}/{name}")


def condition_not_met(location: str = "If-Match") -> Refused:
    words = "At least one of the pre-conditions you specified did not hold."
    return Refused(412, "conditionNotMet", "PreconditionFailed", words, location)


def invalid(message: str) -> Refused:
    return Refused(400, "invalid", "InvalidArgument", message)


def required(message: str) -> Refused:
    return Refused(400, "required", "InvalidArgument", message)


def bad_checksum(kind: str, given: str, computed: str) -> Refused:
    words = f'Provided {kind} "{given}" doesn\'t match calculated {kind} "{computed}".'
    return Refused(400, "invalid", "BadDigest", words)


def held(bucket: str, name: str, which: str) -> Refused:
    words = (
        f"Object '{bucket}/{name}' is under active {which} hold and cannot be deleted, overwritten or archived "
        "until hold is removed."
    )
    return Refused(403, "objectUnderActiveHold", "ObjectUnderActiveHold", words)


def retained(bucket: str, name: str, until: str) -> Refused:
    words = (
        f"Object '{bucket}/{name}' is subject to bucket's retention policy or object retention and cannot be "
        f"deleted or overwritten until {until}"
    )
    return Refused(403, "retentionPolicyNotMet", "RetentionPolicyNotMet", words)


def no_token(permission: str) -> Refused:
    words = (
        f"Anonymous caller does not have {permission} access to the Google Cloud Storage resource. "
        f"Permission '{permission}' denied on resource (or it may not exist)."
    )
    return Refused(401, "required", "AuthenticationRequired", words, "Authorization")


def bad_token() -> Refused:
    return Refused(401, "authError", "AuthenticationRequired", "Invalid Credentials", "Authorization")


def forbidden(caller: str, permission: str) -> Refused:
    words = (
        f"{caller} does not have {permission} access to the Google Cloud Storage resource. "
        f"Permission '{permission}' denied on resource (or it may not exist)."
    )
    return Refused(403, "forbidden", "AccessDenied", words)


def no_range() -> Refused:
    return Refused(416, "requestedRangeNotSatisfiable", "InvalidRange", "Request range not satisfiable")


def not_served(what: str) -> Refused:
    return Refused(501, "notImplemented", "NotImplemented", f"this test server does not serve {what}")
