"""How a value may be shown: in error lines, logs, answers and on terminals.

Rules: the value of a PASSWORD is never shown, nor that of an unknown property whose name suggests a secret. Inside any
other value, parts that are secrets by their place are hidden: the user part of a URL, and options of a URL or of JAAS
whose names suggest a secret. Unprintable characters are escaped and long values are cut, so that the result is one
line.
"""

from __future__ import annotations

import re

from tierlog.config.definitions import ConfigType
from tierlog.config.lookup import BROKER

HIDDEN = "[hidden]"
SHOWN_CHARS_MAX = 300

_SECRET_WORDS = (
    r"passwo?r?d|passphrase|secret|credential|token|jaas|private[._-]?key|access[._-]?key|account[._-]?key"
    r"|api[._-]?key|auth[._-]?key|encryption[._-]?key|keystore[._-]?key|signature|(?:^|[._-])pwd?(?:$|[._-])"
)
_SECRET_NAME = re.compile(_SECRET_WORDS, re.IGNORECASE)
_USER_OF_URL = re.compile(r"(://)[^/?#\s]*@")
_OPTION = re.compile(
    rf"([?&;,\s\"']?[\w.-]*(?:{_SECRET_WORDS})[\w.-]*\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s;,&\"']+)",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether the value of this property must not be shown."""
    definition = BROKER.get(name)
    if definition is not None:
        return definition.type is ConfigType.PASSWORD
    return _SECRET_NAME.search(name) is not None


def shown(name: str, text: str) -> str:
    """``text`` as it may be shown beside its property's name."""
    return HIDDEN if is_secret(name) else without_secrets(text)


def secrets_in_url(url: str) -> list[str]:
    """The parts of a URL that must not be shown, by name."""
    options = url.partition("?")[2].split("&") if "?" in url else []
    named = {option.partition("=")[0] for option in options}
    found = sorted(name for name in named if _SECRET_NAME.search(name))
    return (["a user"] if _USER_OF_URL.search(url) else []) + found


def without_secrets(text: str) -> str:
    """One line without the parts that are secrets by their place."""
    text = _USER_OF_URL.sub(rf"\1{HIDDEN}@", text)
    text = _OPTION.sub(rf"\1{HIDDEN}", text)
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}…"
