"""UpdateFeatures, API key 57: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class FeatureUpdateKey(Struct):
    feature: str = ""
    max_version_level: int = 0
    allow_downgrade: bool = False
    upgrade_type: int = 1

    FIELDS = (
        "feature: string 0+",
        "max_version_level: int16 0+",
        "allow_downgrade: bool 0",
        "upgrade_type: int8 1+",
    )


class UpdateFeaturesRequest(Message):
    API_KEY = 57
    VERSIONS = (0, 2)
    FLEXIBLE = 0

    timeout_ms: int = 60000
    feature_updates: list[FeatureUpdateKey] = NEW
    validate_only: bool = False

    FIELDS = (
        "timeout_ms: int32 0+",
        "feature_updates: []FeatureUpdateKey 0+",
        "validate_only: bool 1+",
    )


class UpdatableFeatureResult(Struct):
    feature: str = ""
    error_code: int = 0
    error_message: str | None = ""

    FIELDS = (
        "feature: string 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
    )


class UpdateFeaturesResponse(Message):
    API_KEY = 57
    VERSIONS = (0, 2)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    error_code: int = 0
    error_message: str | None = ""
    results: list[UpdatableFeatureResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "error_code: int16 0+",
        "error_message: string 0+ nullable=0+",
        "results: []UpdatableFeatureResult 0-1 ignorable",
    )
