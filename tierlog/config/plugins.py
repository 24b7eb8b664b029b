"""Replacements for the settings of a remote-storage plugin (KIP-405).

Plugins are not loaded: tierlog copies sealed segments itself, to ``tierlog.object.store``. A file that names a plugin
is refused. The error suggests that line, made from the plugin's own settings if they are known: those of Aiven's plugin
and of Kafka's LocalTieredStorage.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from tierlog.config.problems import Property

_STORAGE = "remote.log.storage.manager."
_METADATA = "remote.log.metadata.manager."
_DEFAULT_PREFIXES = {_STORAGE: "rsm.config.", _METADATA: "rlmm.config."}
# Aiven's property -> its counterpart here.
_ELSEWHERE = {
    "chunk.size": "tierlog.chunk.bytes",
    "fetch.chunk.cache.size": "tierlog.chunk.cache.memory.bytes, or tierlog.remote.cache.max.bytes for a cache on disk",
    "fetch.chunk.cache.path": "tierlog.remote.cache.dir and tierlog.remote.cache.max.bytes",
    "storage.upload.rate.limit.bytes.per.second": "remote.log.manager.copy.max.bytes.per.second",
    "upload.rate.limit.bytes.per.second": "remote.log.manager.copy.max.bytes.per.second",
}
_CREDENTIALS = {
    "storage.aws.access.key.id": "the environment's AWS_ACCESS_KEY_ID",
    "storage.aws.secret.access.key": "the environment's AWS_SECRET_ACCESS_KEY",
    "storage.aws.credentials.file": "AWS's own places of credentials",
    "storage.gcs.credentials.default": "the environment's GOOGLE_APPLICATION_CREDENTIALS, or Google's other places",
    "storage.gcs.credentials.json": "the file that the environment's GOOGLE_APPLICATION_CREDENTIALS names",
    "storage.gcs.credentials.path": "the file that the environment's GOOGLE_APPLICATION_CREDENTIALS names",
}
_OF_THE_STORE = ("storage.backend.class", "storage.root", "dir", "key.prefix")


def plugin_problem(name: str, given: Mapping[str, Property]) -> str | None:
    """Why the property of a plugin is refused, and what to set instead; None if it belongs to no plugin."""
    if name.startswith(_STORAGE):
        return (
            "plugins of remote storage are not loaded, tierlog copies sealed segments itself: "
            f"remove it and set {object_store(given)}"
        )
    if name.startswith(_METADATA):
        return "what lies in the object store is known from metadata.store; no plugin is loaded; remove it"
    if name.startswith((_prefix(given, _METADATA), _DEFAULT_PREFIXES[_METADATA])):
        return "settings of a plugin that is not loaded (metadata.store does its work); remove it"
    storage = _prefix(given, _STORAGE)
    if not name.startswith((storage, _DEFAULT_PREFIXES[_STORAGE])):
        return None
    setting = name.removeprefix(storage).removeprefix(_DEFAULT_PREFIXES[_STORAGE])
    if setting in _ELSEWHERE:
        return f"a setting of a plugin that is not loaded; remove it and set {_ELSEWHERE[setting]}"
    if setting in _CREDENTIALS:
        return (
            f"a setting of a plugin that is not loaded; remove it; credentials come from {_CREDENTIALS[setting]}, "
            "or from the options of tierlog.object.store"
        )
    if setting in _OF_THE_STORE or setting.startswith(("storage.s3.", "storage.gcs.")):
        return f"a setting of a plugin that is not loaded; remove it and set {object_store(given)}"
    return "a setting of a plugin that is not loaded, see tierlog.object.store; remove it"


def object_store(given: Mapping[str, Property]) -> str:
    """The ``tierlog.object.store`` line equivalent to the plugin's settings, as far as they are known."""
    prefix = _prefix(given, _STORAGE)

    def said(setting: str) -> str:
        item = given.get(prefix + setting)
        return "" if item is None else item.shown(prefix + setting).strip()

    directory = said("storage.root") or said("dir")
    if directory and not said("storage.s3.bucket.name") and not said("storage.gcs.bucket.name"):
        return f"tierlog.object.store=dir:{directory}"
    if said("storage.gcs.bucket.name"):
        endpoint = said("storage.gcs.endpoint.url")
        place = "/".join(
            filter(None, (said("storage.gcs.bucket.name"), quote(said("key.prefix").strip("/"))))
        )
        return f"tierlog.object.store=gs://{place}" + (f"?endpoint={endpoint}" if endpoint else "")
    bucket = said("storage.s3.bucket.name") or "BUCKET"
    path = said("key.prefix").strip("/") or ("" if said("storage.s3.bucket.name") else "PREFIX")
    options = {"region": said("storage.s3.region") or "REGION"}
    if said("storage.s3.endpoint.url"):
        options["endpoint"] = said("storage.s3.endpoint.url")
    if said("storage.s3.path.style.access.enabled").lower() == "true":
        options["path.style"] = "true"
    place = f"{bucket}/{quote(path)}" if path else bucket
    return f"tierlog.object.store=s3://{place}?{urlencode(options, safe=':/')}"


def _prefix(given: Mapping[str, Property], of: str) -> str:
    item = given.get(f"{of}impl.prefix")
    return (item.text.strip() if item is not None else "") or _DEFAULT_PREFIXES[of]
