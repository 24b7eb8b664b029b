"""Where a bucket is and how to speak to it: for the byte path (obstore) and the control path (aioboto3)."""

from __future__ import annotations

from dataclasses import dataclass

from tiering.objects.bucket_address import BucketAddress

MIB = 1024 * 1024
PART_BYTES_MIN = 5 * MIB  # S3's own minimum for all parts but the last.
PART_COUNT_MAX = 10_000  # S3's own maximum.
PARTS_WANTED = 4
PART_BYTES_LEAST = 8 * MIB
PART_BYTES_MOST = 72 * MIB
"""Room for a quarter of a segment of 256 MiB with its footer."""
SENT_BYTES_MOST = 2 * PART_BYTES_MOST
"""Of one object on their way at once. A stream that cannot be read in parts has as much in memory."""


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
    part_bytes: int = 0
    """Of an upload in parts; 0 takes a quarter of the object, from 8 to 72 MiB. Each part is
    billed as a request, and so are the upload's begin and end."""
    request_timeout_ms: int = 30_000
    connect_timeout_ms: int = 3_000
    part_retries: int = 4

    @property
    def place(self) -> str:
        """For messages: where the bucket is looked for."""
        return self.endpoint or f"AWS in {self.region}"

    def part_bytes_of(self, size_bytes: int) -> int:
        """The size of the parts in which an object of this size is sent."""
        wanted = self.part_bytes or min(
            max(-(-size_bytes // PARTS_WANTED), PART_BYTES_LEAST), PART_BYTES_MOST
        )
        return max(wanted, PART_BYTES_MIN, -(-size_bytes // PART_COUNT_MAX))

    def parts_sent_at_once(self, part_bytes: int, wanted: int) -> int:
        """How many parts of this size are sent at once, of those that the caller would take."""
        return max(1, min(wanted, SENT_BYTES_MOST // part_bytes))

    def put_requests(self, size_bytes: int) -> int:
        """The requests that a put of an object of this size is billed as."""
        part_bytes = self.part_bytes_of(size_bytes)
        return 1 if size_bytes <= part_bytes else 2 + -(-size_bytes // part_bytes)

    @property
    def part_timeout_ms(self) -> int:
        """For one part: at the rate that ``request_timeout_ms`` allows for 8 MiB."""
        most_bytes = self.part_bytes or PART_BYTES_MOST
        return self.request_timeout_ms * max(most_bytes, PART_BYTES_LEAST) // PART_BYTES_LEAST

    def __repr__(self) -> str:
        """Without the secrets: this lands in logs."""
        return f"S3Config(bucket={self.bucket!r}, prefix={self.prefix!r}, endpoint={self.endpoint!r})"
