"""Where a bucket is and how to speak to it: for the byte path (obstore) and the control path (google-cloud-storage)."""

from __future__ import annotations

from dataclasses import dataclass

from tiering.objects.bucket_address import BucketAddress

KIB = 1024
MIB = 1024 * 1024
PART_UNIT_BYTES = 256 * KIB  # Google takes parts in multiples of this, but for the last one.
WHOLE_PUT_BYTES_MAX = 8 * MIB  # google-cloud-storage sends what is larger in parts of its own.


@dataclass(frozen=True, slots=True)
class GcsConfig(BucketAddress):
    """``key_file`` is a service account's key file, or that of a workload
    identity; empty means Application Default Credentials. ``anonymous`` sends none at all, as test servers want it.
    """

    endpoint: str = ""
    key_file: str = ""
    anonymous: bool = False
    part_bytes: int = 8 * MIB
    request_timeout_ms: int = 30_000
    connect_timeout_ms: int = 3_000
    part_retries: int = 4

    @property
    def place(self) -> str:
        """For messages: where the bucket is looked for."""
        return self.endpoint or "Google Cloud Storage"

    @property
    def timeout_s(self) -> tuple[float, float]:
        """Of a request, as ``requests`` takes it: to connect, and between two bytes of the answer."""
        return self.connect_timeout_ms / 1_000, self.request_timeout_ms / 1_000

    @property
    def upload_timeout_s(self) -> tuple[float, float]:
        """As ``timeout_s``, for a request with a long body: without TLS the first one is the time to send it, too."""
        return self.request_timeout_ms / 1_000, self.request_timeout_ms / 1_000
