"""DeleteObjects over obstore, with an answer per key.

S3 deletes what it can of a request and names what it can't; obstore tells only the first of those, in the order asked.
So what stands before it is gone, and the rest is asked again: a few times in one request, then key by key, since a
bucket that refuses many refuses most.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from tiering.errors import AccessDenied, NotFound, ObjectStoreError, Throttled, Timeout, Unavailable
from tiering.objects.s3_advice import is_not_s3
from tiering.objects.s3_config import S3Config
from tiering.objects.s3_errors import classified

KEYS_PER_REQUEST = 1_000  # S3's own limit.
REFUSALS_BEFORE_SINGLES = 4
SINGLES_AT_ONCE = 16
_FAILURES = (BaseError, OSError, ValueError)
_REFUSED = re.compile(r"DeleteObjects request failed for key (.+?): (.*) \(code: (\w*)\)")

_BY_CODE: dict[str, type[ObjectStoreError]] = {
    "AccessDenied": AccessDenied,
    "InvalidRequest": AccessDenied,  # What some servers say of an object under a legal hold or a retention.
    "InternalError": Unavailable,
    "ServiceUnavailable": Unavailable,
    "SlowDown": Throttled,
    "OperationAborted": Throttled,
    "RequestTimeout": Timeout,
    "NoSuchKey": NotFound,
}


async def delete_keys(client: Client, config: S3Config, keys: Sequence[str]) -> dict[str, ObjectStoreError]:
    """The keys that still stand, each with why. Raises what a request as a whole meets."""
    refused: dict[str, ObjectStoreError] = {}
    for start in range(0, len(keys), KEYS_PER_REQUEST):
        refused |= await _delete_batch(client, config, keys[start : start + KEYS_PER_REQUEST])
    return refused


async def _delete_batch(client: Client, config: S3Config, keys: Sequence[str]) -> dict[str, ObjectStoreError]:
    refused: dict[str, ObjectStoreError] = {}
    while keys and len(refused) < REFUSALS_BEFORE_SINGLES:
        error = await _request(client, config, keys)
        if error is None:
            return refused
        refused[error.key] = error
        keys = keys[keys.index(error.key) + 1 :]
    turns = asyncio.Semaphore(SINGLES_AT_ONCE)

    async def single(key: str) -> ObjectStoreError | None:
        async with turns:
            return await _request(client, config, [key])

    async with asyncio.TaskGroup() as group:
        singles = [(key, group.create_task(single(key))) for key in keys]
    refused |= {key: error for key, task in singles if (error := task.result()) is not None}
    return {key: error for key, error in refused.items() if not isinstance(error, NotFound)}


async def _request(client: Client, config: S3Config, keys: Sequence[str]) -> ObjectStoreError | None:
    """Why the first key that was refused was; None when all are gone."""
    try:
        await obstore.delete_async(client, list(keys))
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error) or is_not_s3(str(error)):
            raise classified(error, "", config) from None
    except _FAILURES as error:
        refusal = _refusal(str(error), keys)
        if refusal is None:
            raise classified(error, "", config) from None
        return refusal
    return None


def _refusal(text: str, keys: Sequence[str]) -> ObjectStoreError | None:
    """The first refused key, as obstore puts it: with the prefix of the store in front."""
    found = _REFUSED.match(text.split("error: ", 1)[-1].removeprefix("Generic S3 error: "))
    if found is None:
        return None
    path, message, code = found.groups()
    key = next((key for key in keys if path == key or path.endswith("/" + key)), None)
    if key is None:
        return None
    return _BY_CODE.get(code, ObjectStoreError)(f"{code}: {message}", key=key)
