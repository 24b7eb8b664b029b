"""Config providers (KIP-297, KIP-421): values that are kept elsewhere and named by ``${PROVIDER:PATH:KEY}``.

Behaviour: a provider has any name; ``config.providers.NAME.class`` gives its kind: Kafka's EnvVarConfigProvider
(``${NAME:VARIABLE}``), FileConfigProvider (``${NAME:PATH:KEY}``, a .properties file) or DirectoryConfigProvider
(``${NAME:DIRECTORY:FILE}``). ``env``, ``file`` and ``dir`` exist by default. The providers' own restrictions
(``param.allowlist.pattern``, ``param.allowed.paths``) hold. Every reference that cannot be resolved is reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tierlog.config import java_properties
from tierlog.config.problems import Problems, Property

_NAME = "config.providers"
_REFERENCE = re.compile(r"\$\{([^}]*?):(?:([^}]*?):)?([^}]*?)\}")
_PACKAGE = "org.apache.kafka.common.config.provider."
_KINDS = {
    f"{_PACKAGE}EnvVarConfigProvider": "env",
    f"{_PACKAGE}FileConfigProvider": "file",
    f"{_PACKAGE}DirectoryConfigProvider": "dir",
}
_PARAMETERS = {"env": "allowlist.pattern", "file": "allowed.paths", "dir": "allowed.paths"}


class _Missing(Exception):
    """``str()`` says why a reference cannot be resolved; never leaves this module."""


@dataclass(frozen=True, slots=True)
class _Provider:
    kind: str
    limit: str | None  # a pattern of variables, or comma-separated paths; None: no limit


def is_providers(name: str) -> bool:
    """Whether the property configures a provider; this module checks those."""
    return name.startswith(f"{_NAME}.")


def resolved(
    given: Mapping[str, Property], env: Mapping[str, str], problems: Problems
) -> dict[str, Property]:
    """``given`` with each reference replaced; a property with a wrong reference is left out and reported."""
    if _NAME not in given:
        for name, item in given.items():
            if is_providers(name):
                problems.add(name, item, f"{_NAME} names no such provider", with_value=False)
        return dict(given)
    names = [name.strip() for name in given[_NAME].text.split(",") if name.strip()]
    providers = dict(_providers(given, names, problems))
    refused = set(names) - set(providers)
    found: dict[str, Property] = {}
    for name, item in given.items():
        if name == _NAME or is_providers(name) or "${" not in item.text:
            found[name] = item
            continue
        if any(match[1] in refused for match in _REFERENCE.finditer(item.text)):
            problems.names.add(name)  # Its provider is wrong, which is already reported.
            continue
        try:
            text = _REFERENCE.sub(lambda match: _value(providers, match, env), item.text)
        except _Missing as missing:
            problems.add(name, item, str(missing))
        else:
            found[name] = replace(item, text=text, written=item.text)
    return found


def _providers(
    given: Mapping[str, Property], names: Sequence[str], problems: Problems
) -> Iterator[tuple[str, _Provider]]:
    known: set[str] = set()
    for name in names:
        prefix = f"{_NAME}.{name}"
        item = given.get(f"{prefix}.class")
        kind = name if item is None else _KINDS.get(item.text.strip(), "")
        if kind not in _PARAMETERS:
            where = f"{prefix}.class" if item is not None else _NAME
            problems.add(where, given[where], f"{name} not known; known are {', '.join(_KINDS)}")
            continue
        limit = given.get(f"{prefix}.param.{_PARAMETERS[kind]}")
        if limit is not None and kind == "env" and not _is_pattern(limit.text):
            problems.add(f"{prefix}.param.{_PARAMETERS[kind]}", limit, "not a regular expression")
            limit = None
        yield name, _Provider(kind, None if limit is None else limit.text)
        known |= {f"{prefix}.class", f"{prefix}.param.{_PARAMETERS[kind]}"}
    ours = tuple(f"{_NAME}.{name}." for name in names)
    for name, item in given.items():
        if not is_providers(name) or name in known or name in problems.names:
            continue
        reason = (
            "the provider has no such parameter"
            if name.startswith(ours)
            else f"{_NAME} names no such provider"
        )
        problems.add(name, item, reason, with_value=False)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _value(providers: Mapping[str, _Provider], match: re.Match[str], env: Mapping[str, str]) -> str:
    """The value of a reference. A text with an unknown provider is no reference and stays as it is."""
    provider = providers.get(match[1])
    if provider is None:
        return match[0]
    path, key = match[2] or "", match[3]
    if provider.kind == "env":
        if provider.limit is not None and re.fullmatch(provider.limit, key) is None:
            raise _Missing(f"the pattern of {match[1]} does not allow {key}")
        if key not in env:
            raise _Missing(f"the environment has no {key}")
        return env[key]
    if provider.limit is not None and not _is_below(path, provider.limit):
        raise _Missing(f"the paths of {match[1]} do not allow {path}")
    return _READERS[provider.kind](path, key)


def _is_below(path: str, allowed: str) -> bool:
    place = Path(path).resolve()
    return any(
        place.is_relative_to(Path(part.strip()).resolve()) for part in allowed.split(",") if part.strip()
    )


def _of_file(path: str, key: str) -> str:
    try:
        data = Path(path).read_bytes()
        entries = {entry.key: entry.value for entry in java_properties.parse(java_properties.decode(data))}
    except OSError as error:
        raise _Missing(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise _Missing(f"{path}: {error}") from None
    if key not in entries:
        raise _Missing(f"{path} has no {key}")
    return entries[key]


def _of_directory(path: str, key: str) -> str:
    if "/" in key:
        raise _Missing(f"{key} is not the name of a file in {path}")
    try:
        return (Path(path) / key).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise _Missing(f"{path}/{key} cannot be read: {reason}") from None


_READERS: dict[str, Callable[[str, str], str]] = {"file": _of_file, "dir": _of_directory}
