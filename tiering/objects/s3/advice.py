"""A failed request to S3, in one line: the mistake, and the remedy.

obstore's messages hold everything (method, URL, status, S3's error code, the cause of a broken connection) in a text for
its developers. This module recognises the causes that a person has to mend: bucket, region, endpoint, credentials, clock,
permission, TLS. Any other message is shortened to one line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

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
_CERTIFICATES = {
    "Expired": "has expired; renew it",
    "NotValidYet": "is not valid yet; look at this machine's clock",
    "NotValidForName": "is for another name; write the name that it is for into the endpoint",
    "NotValidForNameContext": "is for another name; write the name that it is for into the endpoint",
    "Revoked": "is revoked; renew it",
}
_OF_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key id is not known there; correct AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": (
        "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID; correct one of them"
    ),
    "ExpiredToken": "the session token has expired; renew the credentials, AWS_SESSION_TOKEN among them",
    "TokenRefreshRequired": "the session token has expired; renew the credentials, AWS_SESSION_TOKEN among them",
    "InvalidToken": "the session token is not valid; correct AWS_SESSION_TOKEN, or unset it",
    "RequestTimeTooSkewed": "this machine's clock is more than 15 minutes from the server's; set it by NTP",
    "RequestExpired": "this machine's clock is far from the server's; set it by NTP",
}
NO_CREDENTIALS = (
    "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in the URL (?profile=NAME), "
    "or give this machine a role"
)


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


def advice(text: str, config: S3Config) -> str | None:
    """The mistake and the remedy; None for an error that no setting causes."""
    place = config.endpoint or f"AWS in {config.region}"
    return (
        _credentials(text, place)
        or _bucket(text, config, place)
        or _connection(text, config, place)
        or _permission(text, config)
    )


def shortened(text: str) -> str:
    """The message as one line."""
    code, status, message = CODE.search(text), STATUS.search(text), _MESSAGE.search(text)
    if code is not None:
        said = f"HTTP {status[1]} {code[1]}" if status is not None else code[1]
        return f"{said}: {message[1]}" if message is not None and message[1] else said
    return " ".join(text.split("\n", 1)[0].split())[:400]


def half_credentials(config: S3Config, environ: Mapping[str, str]) -> str | None:
    """The half that is missing; a variable that is set to nothing is a mistake, too."""
    if config.profile or config.access_key_id:
        return None
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if bool(key) != bool(secret):
        missing, there = ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")[:: 1 if key else -1]
        return f"no credentials: {there} is set, {missing} is not; set both"
    return NO_CREDENTIALS if key == "" and secret == "" else None


def missing_credentials(config: S3Config, environ: Mapping[str, str]) -> str | None:
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


def _credentials(text: str, place: str) -> str | None:
    if any(host in text for host in METADATA_SERVICES):
        return f"{NO_CREDENTIALS} (the machine's metadata service lends none)"
    if "MissingSecretAccessKey" in text:
        return "no credentials: AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not; set both"
    if "MissingAccessKeyId" in text:
        return "no credentials: AWS_SECRET_ACCESS_KEY is set, AWS_ACCESS_KEY_ID is not; set both"
    code = CODE.search(text)
    said = _OF_CREDENTIALS.get(code[1]) if code is not None else None
    return None if said is None else f"{place}: {said}"


def _bucket(text: str, config: S3Config, place: str) -> str | None:
    code, region = CODE.search(text), _REGION.search(text)
    if code is not None and code[1] == "NoSuchBucket":
        return f"there is no bucket {config.bucket} at {place}; create it, or correct the bucket's name or the endpoint"
    if code is not None and code[1] == "InvalidBucketName":
        return f"{config.bucket} cannot be the name of a bucket; correct it"
    if REDIRECTED in text or (code is not None and code[1] in _WRONG_REGION):
        where = f"in region {region[1]}, " if region is not None else ""
        right = region[1] if region is not None else "REGION"
        return (
            f"the bucket {config.bucket} is {where}not in {config.region}; "
            f"write region={right} into the URL, or set AWS_REGION"
        )
    return None


def _connection(text: str, config: S3Config, place: str) -> str | None:
    problem = certificate_problem(text)
    if problem is not None:
        reason = _CERTIFICATES.get(
            problem, "is of no authority that this machine trusts; let a trusted one sign it"
        )
        return f"the TLS certificate of {place} {reason} ({problem})"
    if is_tls_mismatch(text, config):
        right = "http" if config.endpoint.startswith("https:") else "https"
        speaks = "no TLS" if right == "http" else "TLS only"
        return f"{place} speaks {speaks}; write endpoint={right}://{urlsplit(config.endpoint).netloc}"
    if is_not_s3(text):
        status = STATUS.search(text)
        how = f" (it answered HTTP {status[1]} without S3's error)" if status is not None else ""
        return f"{place} does not speak S3{how}; correct the endpoint"
    host = urlsplit(config.endpoint).hostname or place
    code = CODE.search(text)
    if code is not None and code[1] == "NotImplemented":
        return f"{place} cannot do what is asked of it here, such as conditional writes; use another server"
    if "dns error" in text or "failed to lookup address" in text:
        return f"the name {host} is not known; correct the endpoint, or look at the machine's DNS"
    if "ConnectionRefused" in text:
        return f"nothing listens at {place}; start the object store, or correct the endpoint"
    if "NetworkUnreachable" in text or "HostUnreachable" in text:
        return f"there is no way to {host}; look at the network, or correct the endpoint"
    if "SendRequest" in text and config.endpoint.startswith("http://"):
        return (
            f"{place} closed the connection without an answer; if it speaks TLS, write endpoint="
            f"https://{urlsplit(config.endpoint).netloc}"
        )
    if "TimedOut" in text or "kind: Timeout" in text:
        return f"{place} did not answer in time; look at the network, or correct the endpoint"
    return None


def _permission(text: str, config: S3Config) -> str | None:
    code, status, request = CODE.search(text), STATUS.search(text), _REQUEST.search(text)
    if status is None or status[1] not in ("401", "403"):
        return None
    action = _action(request[1], request[2]) if request is not None else "s3:*"
    if code is None:
        return (
            f"{action} on the bucket {config.bucket} is refused without a reason: look at the credentials, at the policy "
            "of their user and of the bucket, and at this machine's clock"
        )
    extra = ", and s3:ListBucket, without which missing objects read so" if action == "s3:GetObject" else ""
    return (
        f"these credentials may not do {action} on the bucket {config.bucket} ({code[1]}); allow it in the policy of "
        f"their user or of the bucket{extra}"
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
