"""A failed request to Google Cloud Storage, in one line: the mistake, and the remedy. Pure.

It knows the causes that a person has to mend: bucket, endpoint, credentials, permission, billing, class, TLS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
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
from tiering.objects.classes import GCS_CLASSES
from tiering.objects.gcs.answers import Answer
from tiering.objects.gcs.config import GcsConfig

NO_CREDENTIALS = Advice(
    "credentials",
    "no credentials",
    "set GOOGLE_APPLICATION_CREDENTIALS to a service account's key file, name one in the URL (?key.file=PATH), or give "
    "this machine a service account",
)
_PERMISSION = re.compile(r"(\S+|Anonymous caller) does not have (storage\.[\w.]+) access")
_CERTIFICATE = ("CERTIFICATE_VERIFY_FAILED", "InvalidCertificate", "certificate verify failed")
_NO_NAME = ("NameResolutionError", "Name or service not known", "dns error", "failed to lookup address")
_REFUSED = ("ConnectionRefused", "Connection refused", "NewConnectionError")
_NO_WAY = ("NetworkUnreachable", "Network is unreachable", "HostUnreachable", "No route to host")
_TIMED_OUT = (
    "TimeoutError",
    "ConnectTimeout",
    "ReadTimeout",
    "Read timed out",
    "TimedOut",
    "kind: Timeout",
    "operation timed out",
)


def advice(answer: Answer, config: GcsConfig) -> Advice | None:
    """The mistake and the remedy; None for an error that no setting causes."""
    return (
        _foreign(answer, config)
        or _credentials(answer, config)
        or _bucket(answer, config)
        or _project(answer, config)
        or _permission(answer, config)
        or _connection(answer, config)
    )


def is_no_bucket(answer: Answer) -> bool:
    words = answer.words.lower()
    return answer.reason == "NoSuchBucket" or (answer.status == 404 and "bucket does not exist" in words)


def is_bad_certificate(answer: Answer) -> bool:
    return any(word in answer.text for word in _CERTIFICATE)


def is_tls_mismatch(answer: Answer, config: GcsConfig) -> bool:
    """Whether one side speaks TLS and the other does not."""
    if config.endpoint.startswith("https://"):
        return any(
            word in answer.text
            for word in ("WRONG_VERSION_NUMBER", "wrong version number", "InvalidContentType")
        )
    return "HTTP request to an HTTPS server" in answer.text or "HTTP request was sent to HTTPS" in answer.text


def is_anonymous(answer: Answer) -> bool:
    """Whether google-auth was asked to renew credentials that are none, as it is behind a 401."""
    return answer.reason == "InvalidOperation" and "Anonymous credentials" in answer.words


def is_late(answer: Answer) -> bool:
    return any(word in answer.text for word in _TIMED_OUT)


def file_of_gcloud(environ: Mapping[str, str], home: Path) -> Path:
    """Where ``gcloud auth application-default login`` puts credentials."""
    directory = environ.get("CLOUDSDK_CONFIG") or home / ".config/gcloud"
    return Path(directory) / "application_default_credentials.json"


def missing_credentials(config: GcsConfig, environ: Mapping[str, str], *, has_gcloud: bool) -> Advice | None:
    """What is missing when no source of credentials is configured, apart from a service account that the machine may
    have; None where there is one. ``has_gcloud``: whether ``file_of_gcloud`` is there."""
    named = config.anonymous or config.key_file or environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    return None if named or has_gcloud else NO_CREDENTIALS


def _foreign(answer: Answer, config: GcsConfig) -> Advice | None:
    """A server error may well be a proxy's, of a service that is down."""
    if answer.is_google or (answer.status or 0) >= 500:
        return None
    return foreign(config.place, "Cloud Storage", str(answer.status or ""), "Google")


def _credentials(answer: Answer, config: GcsConfig) -> Advice | None:
    if config.anonymous and (answer.status == 401 or is_anonymous(answer)):
        mistake = f"{config.place} wants credentials, and anonymous=true sends none"
        return Advice("credentials", mistake, "take it out of the URL")
    if answer.reason == "DefaultCredentialsError":
        if "GOOGLE_APPLICATION_CREDENTIALS" not in answer.words and "was not found" not in answer.words:
            return NO_CREDENTIALS
        mistake = f"the credentials cannot be read: {answer.words}"
        return Advice(
            "credentials", mistake, "correct the path in GOOGLE_APPLICATION_CREDENTIALS, or the file"
        )
    if answer.reason == "RefreshError":
        if "metadata" in answer.text:
            return NO_CREDENTIALS._replace(
                mistake="no credentials (the machine's metadata service lends none)"
            )
        mistake = f"Google gives no token for these credentials ({_grant(answer)})"
        return Advice("credentials", mistake, "make a new key, and look at this machine's clock")
    if answer.reason == "TransportError":
        mistake = f"the token service cannot be reached ({answer.words[:160]})"
        return Advice("endpoint", mistake, "look at the network")
    if answer.status != 401:
        return None
    if "Anonymous caller" in answer.words or answer.reason == "required":
        return NO_CREDENTIALS._replace(mistake=f"{config.place} wants credentials and got none")
    return Advice(
        "credentials",
        f"{config.place} does not accept these credentials",
        "renew them, or name others by GOOGLE_APPLICATION_CREDENTIALS",
    )


def _grant(answer: Answer) -> str:
    """The token service's own words: ``invalid_grant: Invalid JWT Signature.``"""
    found = re.search(r"(invalid_\w+|unauthorized_client|access_denied)(?::\s*([^'\"{}]*))?", answer.text)
    return answer.words[:160] if found is None else ": ".join(filter(None, found.groups()))[:160].strip()


def _bucket(answer: Answer, config: GcsConfig) -> Advice | None:
    words = answer.words.lower()
    if is_no_bucket(answer):
        return no_bucket(config.bucket, config.place)
    if answer.status == 400 and "invalid bucket name" in words:
        return no_bucket_name(config.bucket)
    if answer.status == 400 and "storage class" in words:
        known = ", ".join(each.name for each in GCS_CLASSES.values())
        mistake = f"{config.place} does not know the storage class that tierlog names"
        return Advice("classes", mistake, f"Google's are {known}")
    if "uniform bucket-level access" in words:
        mistake = (
            f"the bucket {config.bucket} has uniform access and refuses ACLs, of which tierlog sends none"
        )
        return Advice("bucket", mistake, "look at what stands between it and Google")
    if answer.reason in ("retentionPolicyNotMet", "RetentionPolicyNotMet"):
        mistake = f"a retention policy of the bucket {config.bucket} keeps this object"
        return Advice("retention policy", mistake, "exclude our prefix, or wait")
    if answer.reason in ("objectUnderActiveHold", "ObjectUnderActiveHold"):
        mistake = f"a hold in the bucket {config.bucket} keeps this object"
        return Advice("retention policy", mistake, "release it")
    return None


def _project(answer: Answer, config: GcsConfig) -> Advice | None:
    words = answer.words.lower()
    if answer.reason in ("accountDisabled", "billingDisabled") or "billing account" in words:
        mistake = f"billing is disabled in the project of the bucket {config.bucket}"
        return Advice("project", mistake, "enable it there")
    if "requester pays" in words:
        mistake = f"the bucket {config.bucket} has its requesters pay, which tierlog does not"
        return Advice("bucket", mistake, "turn that off")
    if "unknown project" in words or answer.reason == "USER_PROJECT_DENIED":
        mistake = "the project of these credentials is not known to Google"
        return Advice("project", mistake, "correct quota_project_id in them")
    if answer.reason in ("accessNotConfigured", "SERVICE_DISABLED"):
        mistake = "the project of these credentials has the Cloud Storage API switched off"
        return Advice("project", mistake, "enable storage.googleapis.com")
    return None


def _permission(answer: Answer, config: GcsConfig) -> Advice | None:
    if answer.status != 403:
        return None
    found = _PERMISSION.search(answer.words)
    if found is None:
        mistake = f"{config.place} refuses access to the bucket {config.bucket}: {answer.words}"
        return Advice(
            "permissions", mistake, "look at what the bucket's project allows to whom, and from where"
        )
    of_bucket = found[2].startswith("storage.buckets.")
    role = (
        "a role with storage.buckets.get (deploy/policies/gcs-doctor.yaml)"
        if of_bucket
        else "roles/storage.objectUser"
    )
    mistake = f"{found[1]} may not do {found[2]} on the bucket {config.bucket}"
    return Advice("permissions", mistake, f"grant it {role} there")


def _connection(answer: Answer, config: GcsConfig) -> Advice | None:
    place, host = config.place, urlsplit(config.endpoint).hostname or "storage.googleapis.com"
    if is_tls_mismatch(answer, config):
        return other_scheme(place, config.endpoint)
    if is_bad_certificate(answer):
        mistake = f"the TLS certificate of {place} is not one that this machine trusts"
        return Advice("endpoint", mistake, "let a trusted authority sign it")
    if answer.status is not None:
        return None
    if any(word in answer.text for word in _NO_NAME):
        return unknown_name(host)
    if any(word in answer.text for word in _NO_WAY):
        return no_way(host)
    if is_late(answer):
        return no_answer(place)
    if any(word in answer.text for word in _REFUSED):
        return nobody_listens(place)
    return None
