"""Where a bucket is and how to speak to it: for the byte path (obstore) and the control path (aioboto3)."""

from __future__ import annotations

from dataclasses import dataclass

from tiering.objects.bucket_address import BucketAddress

MIB = 1024 * 1024
PART_BYTES_MIN = 5 * MIB  # S3's own minimum for all parts but the last.
PART_COUNT_MAX = 10_000  # S3's own maximum.


@dataclass(frozen=True, slots=True)
class S3Config(BucketAddress):
    """Empty credentials mean the usual chain (environment, web
    identity, container, instance); ``profile`` takes them from the AWS configuration files instead.

    ``unsigned_payload`` leaves the body out of the signature (HTTPS protects it): an upload
    costs a third of the CPU then.
    """

    region: str = "us-east-1"
    endpoint: str = ""
    path_style: bool = False
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    profile: str = ""
    unsigned_payload: bool = True
    part_bytes: int = 8 * MIB
    request_timeout_ms: int = 30_000
    connect_timeout_ms: int = 3_000
    part_retries: int = 4

    @property
    def place(self) -> str:
        """For messages: where the bucket is looked for."""
        return self.endpoint or f"AWS in {self.region}"

    def __repr__(self) -> str:
        """Without the secrets: this lands in logs."""
        return f"S3Config(bucket={self.bucket!r}, prefix={self.prefix!r}, endpoint={self.endpoint!r})"
