"""How a value may be shown: in error lines, logs, answers and on terminals.

Rules: the value of a PASSWORD is never shown, nor that of an unknown property whose name suggests a secret. Inside any
other value, parts that are secrets by their place are hidden: the user part of a URL, and options of a URL or of JAAS
whose names suggest a secret. Unprintable characters are escaped and long values are cut, so that the result is one
line.

Clients send such values, so at most ``READ_CHARS_MAX`` characters of one are read, in linear time.
"""

from __future__ import annotations

import re

from tierlog.config.definitions import ConfigType
from tierlog.config.lookup import BROKER

HIDDEN = "[hidden]"
SHOWN_CHARS_MAX = 300
READ_CHARS_MAX = 2_000

_SECRET_WORDS = (
    r"passwo?r?d|passphrase|secret|credential|token|jaas|private[._-]?key|access[._-]?key|account[._-]?key"
    r"|api[._-]?key|auth[._-]?key|encryption[._-]?key|keystore[._-]?key|signature|(?:^|[._-])pwd?(?:$|[._-])"
)
_SECRET_NAME = re.compile(_SECRET_WORDS, re.IGNORECASE)
_USER_OF_URL = re.compile(r"(://)[^/?#\s]*@")
# For a text that was cut: the @ that ends the user part may lie beyond the cut.
_CUT_USER_OF_URL = re.compile(r"(://)[^/?#\s]*$")
# A whole name and what divides it from its value. Possessive (++), and only where a word begins: no character is read twice.
_NAME = re.compile(r"(?<![\w.-])([\w.-]++)\s*+[=:]\s*+")
# The closing quote may lie beyond the cut.
_VALUE = re.compile(r"\"[^\"]*(?:\"|$)|'[^']*(?:'|$)|[^\s;,&\"']+")


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
    """What of a URL must not be shown: "a user" for its user part, and the names of secret options."""
    options = url.partition("?")[2].split("&") if "?" in url else []
    named = {option.partition("=")[0] for option in options}
    found = sorted(name for name in named if _SECRET_NAME.search(name))
    return (["a user"] if _USER_OF_URL.search(url) else []) + found


def without_secrets(text: str) -> str:
    """One line without the parts that are secrets by their place."""
    is_cut = len(text) > READ_CHARS_MAX
    text = _USER_OF_URL.sub(rf"\1{HIDDEN}@", text[:READ_CHARS_MAX])
    if is_cut:
        text = _CUT_USER_OF_URL.sub(rf"\1{HIDDEN}", text)
    text = _without_options(text)
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return f"{text[:SHOWN_CHARS_MAX]}…" if is_cut or len(text) > SHOWN_CHARS_MAX else text


def _without_options(text: str) -> str:
    """``text`` with the values hidden whose names suggest a secret."""
    parts: list[str] = []
    shown_to = 0
    for name in _NAME.finditer(text):
        if name.start() < shown_to or _SECRET_NAME.search(name[1]) is None:
            continue
        value = _VALUE.match(text, name.end())
        if value is not None:
            parts += text[shown_to : name.end()], HIDDEN
            shown_to = value.end()
    return "".join([*parts, text[shown_to:]])
