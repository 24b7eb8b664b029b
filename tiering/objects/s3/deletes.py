"""DeleteObjects over obstore, with an answer per key.

S3 deletes what it can of a request and names every key that it can't; obstore reports only the first of these, in the
order of the request. So the keys before that one are gone, and the rest is requested again: a few times in one request,
then key by key, since a bucket that refuses many refuses most.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from tiering.errors import AccessDenied, NotFound, ObjectStoreError, Throttled, Timeout, Unavailable
from tiering.ledger.rows import Operation
from tiering.metering.meter import Meter
from tiering.objects.s3.advice import is_not_s3, not_allowed
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.errors import classified

KEYS_PER_REQUEST = 1_000  # S3's own limit.
REFUSALS_BEFORE_SINGLES = 4
SINGLES_AT_ONCE = 16
_FAILURES = (BaseError, OSError, ValueError)
_ERROR = re.compile(r"<Error>(.*?)</Error>", re.DOTALL)
_REFUSED = re.compile(r"DeleteObjects request failed for key (.+?): (.*) \(code: (\w*)\)")

_BY_CODE: dict[str, type[ObjectStoreError]] = {
    "AccessDenied": AccessDenied,
    "InvalidRequest": AccessDenied,  # Some servers answer this for an object under a legal hold or a retention.
    "InternalError": Unavailable,
    "ServiceUnavailable": Unavailable,
    "SlowDown": Throttled,
    "OperationAborted": Throttled,
    "RequestTimeout": Timeout,
    "NoSuchKey": NotFound,
}


async def delete_keys(
    client: Client, config: S3Config, meter: Meter, keys: Sequence[str]
) -> dict[str, ObjectStoreError]:
    """The keys that still exist, each with its error. Raises an error of a request as a whole."""
    refused: dict[str, ObjectStoreError] = {}
    for start in range(0, len(keys), KEYS_PER_REQUEST):
        refused |= await _delete_batch(client, config, meter, keys[start : start + KEYS_PER_REQUEST])
    return refused


async def _delete_batch(
    client: Client, config: S3Config, meter: Meter, keys: Sequence[str]
) -> dict[str, ObjectStoreError]:
    refused: dict[str, ObjectStoreError] = {}
    while keys and len(refused) < REFUSALS_BEFORE_SINGLES:
        found, keys = await _request(client, config, meter, keys)
        refused |= found
    turns = asyncio.Semaphore(SINGLES_AT_ONCE)

    async def single(key: str) -> dict[str, ObjectStoreError]:
        async with turns:
            return (await _request(client, config, meter, [key]))[0]

    answers = await asyncio.gather(*map(single, keys), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        refused |= answer
    return {key: error for key, error in refused.items() if not isinstance(error, NotFound)}


async def _request(
    client: Client, config: S3Config, meter: Meter, keys: Sequence[str]
) -> tuple[dict[str, ObjectStoreError], Sequence[str]]:
    """(the keys that were refused, the keys with an unknown outcome); all others are gone."""
    try:
        with meter.asked(Operation.DELETE, keys[0]):
            await obstore.delete_async(client, list(keys))
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error) or is_not_s3(str(error)):
            raise classified(error, "", config) from None
    except _FAILURES as error:
        text = str(error)
        if (
            "<DeleteResult" in text
        ):  # obstore takes an answer that contains SlowDown anywhere for a failed request
            told = (
                _refusal(keys, _part(each, "Key"), _part(each, "Message"), _part(each, "Code"), config)
                for each in _ERROR.findall(text)
            )
            return {each.key: each for each in told if each is not None}, ()
        found = _REFUSED.search(text)
        refusal = _refusal(keys, found[1], found[2], found[3], config) if found else None
        if refusal is None:
            raise classified(error, "", config) from None
        return {refusal.key: refusal}, keys[keys.index(refusal.key) + 1 :]
    return {}, ()


def _refusal(
    keys: Sequence[str], path: str, message: str, code: str, config: S3Config
) -> ObjectStoreError | None:
    """``path`` may or may not start with the prefix of the store."""
    key = max((key for key in keys if path == key or path.endswith("/" + key)), key=len, default=None)
    if key is not None and code == "AccessDenied":
        return AccessDenied(not_allowed("s3:DeleteObject", code, config), key=key)
    return None if key is None else _BY_CODE.get(code, ObjectStoreError)(f"{code}: {message}", key=key)


def _part(xml: str, tag: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", xml, re.DOTALL)
    return found[1] if found else ""
