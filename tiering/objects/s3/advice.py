"""A failed request to S3, in one line: the mistake, and the remedy.

obstore's messages hold everything (method, URL, status, S3's error code, the cause of a broken connection) in a text for
its developers. This module recognises the causes that a person has to mend: bucket, region, endpoint, credentials, clock,
permission, TLS. Any other message is shortened to one line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from tiering.errors import Advice
from tiering.objects.advice import (
    foreign,
    no_answer,
    no_bucket,
    no_bucket_name,
    no_way,
    nobody_listens,
    other_scheme,
    unknown_name,
)
from tiering.objects.s3.config import S3Config

CODE = re.compile(r"<Code>(\w+)</Code>")
STATUS = re.compile(r"status code: (\d{3})")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_REGION = re.compile(r"<Region>([\w-]+)</Region>")
_REQUEST = re.compile(r"Error performing (GET|PUT|HEAD|POST|DELETE) (\S+)")
_BODY = re.compile(r"status code: \d{3}[^:\n]*: (.{0,40})", re.DOTALL)
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)(?:\(\s*\w+\(\s*(\w+))?")
REDIRECTED = "redirect without LOCATION"  # obstore hides the 301 of a wrong region behind these words.
# The services that lend a machine or a container its credentials.
METADATA_SERVICES = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254")
_NOT_S3 = ("MissingEtag", "MissingLastModified", "MissingContentLength", "Got invalid ")
_WRONG_REGION = (
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)
_UNTRUSTED = ("is of no authority that this machine trusts", "let a trusted one sign it")
_CERTIFICATES = {
    "Expired": ("has expired", "renew it"),
    "NotValidYet": ("is not valid yet", "look at this machine's clock"),
    "NotValidForName": ("is for another name", "write the name that it is for into the endpoint"),
    "NotValidForNameContext": ("is for another name", "write the name that it is for into the endpoint"),
    "Revoked": ("is revoked", "renew it"),
}
_EXPIRED = (
    "credentials",
    "the session token has expired",
    "renew the credentials, AWS_SESSION_TOKEN among them",
)
_OF_CREDENTIALS = {
    "InvalidAccessKeyId": (
        "credentials",
        "the access key id is not known there",
        "correct AWS_ACCESS_KEY_ID",
    ),
    "SignatureDoesNotMatch": (
        "credentials",
        "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
        "correct one of them",
    ),
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": (
        "credentials",
        "the session token is not valid",
        "correct AWS_SESSION_TOKEN, or unset it",
    ),
    "RequestTimeTooSkewed": (
        "clock",
        "this machine's clock is more than 15 minutes from the server's",
        "set it by NTP",
    ),
    "RequestExpired": ("clock", "this machine's clock is far from the server's", "set it by NTP"),
}
_SOURCES = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in the URL (?profile=NAME), or give this machine "
    "a role"
)
NO_CREDENTIALS = Advice("credentials", "no credentials", _SOURCES)


def is_not_s3(text: str) -> bool:
    """Whether the answer did not come from S3: a body that is not S3's XML, or an answer without what all of S3's have."""
    if any(word in text for word in _NOT_S3):
        return True
    status, body = STATUS.search(text), _BODY.search(text)
    if status is None or body is None or int(status[1]) >= 500:
        return False
    words = body[1].strip()
    return bool(words) and not words.startswith(("<?xml", "<Error", "Debug source"))


def certificate_problem(text: str) -> str | None:
    """The name of the problem with the server's certificate."""
    match = _CERTIFICATE.search(text)
    return None if match is None else match[2] or match[1]


def is_tls_mismatch(text: str, config: S3Config) -> bool:
    """Whether one side speaks TLS and the other does not."""
    if config.endpoint.startswith("https://"):
        return "InvalidContentType" in text or "InvalidMessage(" in text
    return "HTTP request to an HTTPS server" in text or "HTTP request to HTTPS" in text


def advice(text: str, config: S3Config) -> Advice | None:
    """The mistake and the remedy; None for an error that no setting causes."""
    return (
        _credentials(text, config.place)
        or _bucket(text, config)
        or _connection(text, config)
        or _permission(text, config)
    )


def shortened(text: str) -> str:
    """The message as one line."""
    code, status, message = CODE.search(text), STATUS.search(text), _MESSAGE.search(text)
    if code is not None:
        said = f"HTTP {status[1]} {code[1]}" if status is not None else code[1]
        return f"{said}: {message[1]}" if message is not None and message[1] else said
    return " ".join(text.split("\n", 1)[0].split())[:400]


def half_credentials(config: S3Config, environ: Mapping[str, str]) -> Advice | None:
    """The half that is missing; a variable that is set to nothing is a mistake, too."""
    if config.profile or config.access_key_id:
        return None
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if bool(key) != bool(secret):
        return _half(*("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")[:: 1 if key else -1])
    return NO_CREDENTIALS if key == "" and secret == "" else None


def missing_credentials(config: S3Config, environ: Mapping[str, str]) -> Advice | None:
    """What is missing when no source of credentials is configured, apart from a role that the machine may have."""
    half = half_credentials(config, environ)
    if half is not None or config.profile or config.access_key_id:
        return half
    others = (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    return (
        None
        if environ.get("AWS_ACCESS_KEY_ID") or any(environ.get(name) for name in others)
        else NO_CREDENTIALS
    )


def _half(there: str, missing: str) -> Advice:
    return Advice("credentials", f"no credentials: {there} is set, {missing} is not", "set both")


def _credentials(text: str, place: str) -> Advice | None:
    if any(host in text for host in METADATA_SERVICES):
        return NO_CREDENTIALS._replace(mistake="no credentials (the machine's metadata service lends none)")
    if "MissingSecretAccessKey" in text:
        return _half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if "MissingAccessKeyId" in text:
        return _half("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")
    code = CODE.search(text)
    said = _OF_CREDENTIALS.get(code[1]) if code is not None else None
    return None if said is None else Advice(said[0], f"{place}: {said[1]}", said[2])


def _bucket(text: str, config: S3Config) -> Advice | None:
    code, region = CODE.search(text), _REGION.search(text)
    if code is not None and code[1] == "NoSuchBucket":
        return no_bucket(config.bucket, config.place)
    if code is not None and code[1] == "InvalidBucketName":
        return no_bucket_name(config.bucket)
    if REDIRECTED in text or (code is not None and code[1] in _WRONG_REGION):
        where = f"in region {region[1]}, " if region is not None else ""
        right = region[1] if region is not None else "REGION"
        mistake = f"the bucket {config.bucket} is {where}not in {config.region}"
        return Advice("region", mistake, f"write region={right} into the URL, or set AWS_REGION")
    if code is not None and code[1] == "InvalidStorageClass":
        mistake = f"{config.place} does not know the storage class that is asked for"
        return Advice("classes", mistake, "take it out of tierlog.tiers, or use a server that has it")
    return None


def _connection(text: str, config: S3Config) -> Advice | None:
    place, host = config.place, urlsplit(config.endpoint).hostname or config.place
    problem, code = certificate_problem(text), CODE.search(text)
    if problem is not None:
        reason, remedy = _CERTIFICATES.get(problem, _UNTRUSTED)
        return Advice("endpoint", f"the TLS certificate of {place} {reason} ({problem})", remedy)
    if is_tls_mismatch(text, config):
        return other_scheme(place, config.endpoint)
    if is_not_s3(text):
        status = STATUS.search(text)
        return foreign(place, "S3", status[1] if status is not None else "", "S3")
    if code is not None and code[1] == "NotImplemented":
        mistake = f"{place} cannot do what is asked of it here, such as conditional writes"
        return Advice("server", mistake, "use another server")
    if "dns error" in text or "failed to lookup address" in text:
        return unknown_name(host)
    if "ConnectionRefused" in text:
        return nobody_listens(place)
    if "NetworkUnreachable" in text or "HostUnreachable" in text:
        return no_way(host)
    if "SendRequest" in text and config.endpoint.startswith("http://"):
        other = f"https://{urlsplit(config.endpoint).netloc}"
        mistake = f"{place} closed the connection without an answer"
        return Advice("endpoint", mistake, f"if it speaks TLS, write endpoint={other}")
    if "TimedOut" in text or "kind: Timeout" in text:
        return no_answer(place)
    return None


def _permission(text: str, config: S3Config) -> Advice | None:
    code, status, request = CODE.search(text), STATUS.search(text), _REQUEST.search(text)
    if status is None or status[1] not in ("401", "403"):
        return None
    action = _action(request[1], request[2]) if request is not None else "s3:*"
    if code is None:
        return Advice(
            "permissions",
            f"{action} on the bucket {config.bucket} is refused without a reason",
            "look at the credentials, at the policy of their user and of the bucket, and at this machine's clock",
        )
    return not_allowed(action, code[1], config)


def not_allowed(action: str, code: str, config: S3Config) -> Advice:
    """``code``: the server's word for the refusal."""
    extra = ", and s3:ListBucket, without which missing objects read so" if action == "s3:GetObject" else ""
    return Advice(
        "permissions",
        f"these credentials may not do {action} on the bucket {config.bucket} ({code})",
        f"allow it in the policy of their user or of the bucket (deploy/policies/s3-broker.json){extra}",
    )


def _action(method: str, url: str) -> str:
    query = urlsplit(url).query
    if "list-type" in query:
        return "s3:ListBucket"
    if method == "DELETE" and "uploadId" in query:
        return "s3:AbortMultipartUpload"
    if method == "DELETE" or query.startswith("delete"):
        return "s3:DeleteObject"
    return "s3:PutObject" if method in ("PUT", "POST") else "s3:GetObject"
