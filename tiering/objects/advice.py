"""Mistakes that look alike at every provider, each with its remedy. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from tiering.errors import Advice


def no_bucket(bucket: str, place: str) -> Advice:
    remedy = "create it, or correct the bucket's name or the endpoint"
    return Advice("bucket", f"there is no bucket {bucket} at {place}", remedy)


def no_bucket_name(bucket: str) -> Advice:
    return Advice("bucket", f"{bucket} cannot be the name of a bucket", "correct it")


def other_scheme(place: str, endpoint: str) -> Advice:
    """One side speaks TLS and the other does not."""
    right = "http" if endpoint.startswith("https:") else "https"
    speaks = "no TLS" if right == "http" else "TLS only"
    return Advice(
        "endpoint", f"{place} speaks {speaks}", f"write endpoint={right}://{urlsplit(endpoint).netloc}"
    )


def foreign(place: str, protocol: str, status: str, provider: str) -> Advice:
    """``status``: of HTTP, empty where there was none."""
    how = f" (it answered HTTP {status} without {provider}'s error)" if status else ""
    return Advice("endpoint", f"{place} does not speak {protocol}{how}", "correct the endpoint")


def unknown_name(host: str) -> Advice:
    remedy = "correct the endpoint, or look at the machine's DNS"
    return Advice("endpoint", f"the name {host} is not known", remedy)


def nobody_listens(place: str) -> Advice:
    remedy = "start the object store, or correct the endpoint"
    return Advice("endpoint", f"nothing listens at {place}", remedy)


def no_way(host: str) -> Advice:
    return Advice("endpoint", f"there is no way to {host}", "look at the network, or correct the endpoint")


def no_answer(place: str) -> Advice:
    return Advice(
        "endpoint", f"{place} did not answer in time", "look at the network, or correct the endpoint"
    )
