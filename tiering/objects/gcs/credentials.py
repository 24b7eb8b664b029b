"""Credentials for both clients, from google-auth. Loading and refreshing them blocks: it is done on the store's threads."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from datetime import UTC
from threading import Lock
from typing import TYPE_CHECKING, Any

import google.auth
from google.auth import identity_pool
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import Request
from google.oauth2 import credentials as user_account
from google.oauth2 import service_account

from tiering.errors import Advice, Misconfigured
from tiering.objects.gcs.config import GcsConfig
from tiering.threads import Threads

if TYPE_CHECKING:
    from obstore.store import GCSCredential

SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_KINDS: dict[str, Callable[..., Credentials]] = {
    "service_account": service_account.Credentials.from_service_account_info,
    "authorized_user": user_account.Credentials.from_authorized_user_info,
    "external_account": identity_pool.Credentials.from_info,
}


class CredentialSource:
    """The credentials of one store, looked for when they are first needed: a machine's own take up to seconds to be found,
    and a store must open without any network."""

    def __init__(self, config: GcsConfig) -> None:
        self._config = config
        self._lock = Lock()
        self._found: Credentials | None = None

    def find(self) -> Credentials:
        """Blocks. Raises Misconfigured, or google-auth's errors."""
        with self._lock:
            if self._found is None:
                self._found = load(self._config)
            return self._found

    def token(self) -> GCSCredential:
        """Blocks while a token is fetched or renewed. Raises as ``find``, and google-auth's errors."""
        found = self.find()
        if self._config.anonymous:
            # obstore signs deletes even where it is told to sign nothing.
            return {"token": "anonymous", "expires_at": None}
        with self._lock:
            if not found.valid:
                found.refresh(Request())  # type: ignore[no-untyped-call]
            expiry = found.expiry
        return {"token": str(found.token), "expires_at": expiry and expiry.replace(tzinfo=UTC)}

    def provider(self, threads: Threads) -> Callable[[], Coroutine[Any, Any, GCSCredential]]:
        """What obstore calls for a token, when the one before is about to expire."""

        async def provide() -> GCSCredential:
            return await threads.run(self.token)

        return provide


def load(config: GcsConfig) -> Credentials:
    if config.anonymous:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    if not config.key_file:
        return google.auth.default(scopes=SCOPES)[0]
    path = config.key_file
    try:
        with open(path, encoding="utf-8") as file:
            info = json.load(file)
        kind = str(info.get("type"))
    except (OSError, ValueError, AttributeError) as error:
        raise _wrong(path, f"cannot be read: {error}") from None
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise _wrong(path, f"is of type {kind!r}, none of {known}")
    try:
        return _KINDS[kind](info, scopes=SCOPES)
    except ValueError as error:
        raise _wrong(path, f"is not complete: {str(error).splitlines()[0]}") from None


def _wrong(path: str, how: str) -> Misconfigured:
    remedy = "correct key.file in tierlog.object.store, or make the key anew"
    return Misconfigured(Advice("credentials", f"key.file={path} {how}", remedy))
