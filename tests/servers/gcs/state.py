"""All that a server holds: buckets, uploads, who may do what, and the log of requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.servers.gcs.bucket import Bucket
from tests.servers.gcs.refusals import Refused, bad_token, forbidden, invalid, no_bucket, no_token
from tests.servers.gcs.requests_log import RequestsLog
from tests.servers.gcs.uploads import Uploads

PAGE_MAX = 1000
PERMISSIONS = {
    *(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list", "restore", "update")),
    *(f"storage.buckets.{verb}" for verb in ("create", "delete", "get", "list", "update")),
}
CALLER = "tierlog@test-project.iam.gserviceaccount.com"
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class State:
    """Tests read and change all of it; the server's loop does nothing between two requests.

    ``tokens``: the bearer tokens that are accepted; None asks for none. ``denied``: permissions that nobody has, as
    ``storage.objects.delete``. ``page_max``: how many objects a page of a list holds at most, of how many it is asked for.
    ``rewrite_bytes_max``: how much one call of a rewrite gets done, 0 for all. ``damages``: how many of the next bodies
    arrive with a byte that is wrong. ``ignores_conditions``: as bad imitations do.
    """

    def __init__(self, clock_s: Callable[[], float] = time.time) -> None:
        self._clock_s = clock_s
        self.buckets: dict[str, Bucket] = {}
        self.uploads = Uploads()
        self.log = RequestsLog()
        self.tokens: set[str] | None = None
        self.denied: set[str] = set()
        self.page_max = PAGE_MAX
        self.damages = 0
        self.ignores_conditions = False
        self.rewrite_bytes_max = 0

    def grant_only(self, permissions: Iterable[str]) -> None:
        self.denied = PERMISSIONS - set(permissions)

    def now_ms(self) -> int:
        return int(self._clock_s() * 1000)

    def make_bucket(self, name: str, **policy: Any) -> Bucket:
        if not 3 <= len(name) <= 63 or not _NAME_CHARACTERS.issuperset(name):
            raise invalid(f"Invalid bucket name: '{name}'")
        if name in self.buckets:
            words = "Your previous request to create the named bucket succeeded and you already own it."
            raise Refused(409, "conflict", "BucketAlreadyOwnedByYou", words)
        self.buckets[name] = Bucket(name, self.now_ms(), policy)
        return self.buckets[name]

    def bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise no_bucket()
        return self.buckets[name]

    def allow(self, authorization: str, permission: str) -> None:
        """Raises 401 without a token or with a wrong one, 403 without the permission."""
        if self.tokens is not None:
            if not authorization:
                raise no_token(permission)
            if authorization.removeprefix("Bearer ") not in self.tokens:
                raise bad_token()
        if permission in self.denied:
            raise forbidden(CALLER, permission)

    def allow_write(self, authorization: str, bucket: Bucket, name: str) -> None:
        """An overwrite needs the permission to delete, too."""
        self.allow(authorization, "storage.objects.create")
        if name in bucket.live:
            self.allow(authorization, "storage.objects.delete")
