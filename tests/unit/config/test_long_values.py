"""What clients send as configs is at most looked through: no text holds the loop, however long and whatever it repeats."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.patience import slowness
from tierlog.config.dynamic import is_dynamic, validate_broker_configs
from tierlog.config.lookup import BROKER, TOPIC
from tierlog.config.properties import load
from tierlog.config.secrets import secrets_in_url, shown, without_secrets
from tierlog.config.topic_configs import validate_topic_configs

pytestmark = pytest.mark.slow
BAR_S = 0.05
CONFIG = load({})
# A string of the protocol has 32,767 bytes at most.
PIECES = (
    *"x .-_:=/@?&;,'\"{}\\\n\x1b0é",
    *("://", "x=", "x:", "='", '="', "password", "password=", "secret.", "a b", "  =", "://u:p", "1:2,"),
    *("[::]", "A-", "..", "1..2", "${a:b}"),
)
TEXTS = [piece * (32_767 // len(piece.encode())) for piece in PIECES]
ENDS = ("", "=", "@")


def longest_s(look: Callable[[str], Any]) -> tuple[float, str]:
    """The longest time for any of the texts, of two tries each, and the text."""
    worst = 0.0, ""
    for text in TEXTS:
        for end in ENDS:
            took_s = []
            for _ in range(2):
                began_s = time.process_time()
                look(text[: 32_767 - len(end)] + end)
                took_s.append(time.process_time() - began_s)
            worst = max(worst, (min(took_s), text[:20] + end))
    return worst


@pytest.mark.parametrize("look", [without_secrets, secrets_in_url, lambda text: shown(text, text)])
def test_what_is_shown(look: Callable[[str], Any]) -> None:
    took_s, text = longest_s(look)
    assert took_s < BAR_S * slowness(), text


@pytest.mark.parametrize("name", sorted(d.name for d in BROKER.values() if is_dynamic(d)))
def test_what_a_broker_is_told(name: str) -> None:
    took_s, text = longest_s(lambda text: validate_broker_configs({name: text}, broker=CONFIG))
    assert took_s < BAR_S * slowness(), text


@pytest.mark.parametrize("name", sorted(TOPIC))
def test_what_a_topic_is_told(name: str) -> None:
    took_s, text = longest_s(lambda text: validate_topic_configs({name: text}, broker=CONFIG))
    assert took_s < BAR_S * slowness(), text


def test_names_of_configs() -> None:
    took_s, text = longest_s(lambda text: validate_topic_configs({text: text}, broker=CONFIG))
    assert took_s < BAR_S * slowness(), text
    took_s, text = longest_s(lambda text: validate_broker_configs({text: text}, broker=CONFIG))
    assert took_s < BAR_S * slowness(), text
