"""``cluster features``: what brokers say of themselves, and what a user asks for."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tierlog.admin.features import feature_row
from tierlog.cli import output
from tierlog.cli.feature_commands import describe_support, draw_changes, draw_features, parse_wishes
from tierlog.errors import UserError
from tierlog.metadata.features import TIER_FORMAT
from tierlog.wire.messages.api_versions import ApiVersionsResponse, SupportedFeatureKey


def drawn(draw: Callable[[Console], None]) -> str:
    out = StringIO()
    draw(output.console(out))
    return out.getvalue()


def versions(low: int, high: int, name: str = TIER_FORMAT) -> ApiVersionsResponse:
    row = SupportedFeatureKey(name=name, min_version=low, max_version=high)
    return ApiVersionsResponse(supported_features=[row])


def row_of(*brokers: ApiVersionsResponse | None) -> dict[str, Any]:
    return feature_row(TIER_FORMAT, 1, dict(enumerate(brokers, 1)))


def test_possible_is_what_every_running_broker_supports() -> None:
    assert row_of(versions(1, 2), versions(1, 3), None)["possible"] == 2
    # An earlier version does not name it at all.
    mixed = row_of(versions(1, 2), ApiVersionsResponse(), versions(1, 2))
    assert (mixed["possible"], mixed["held_up_by"]) == (1, [2])
    assert row_of(versions(1, 2), None)["held_up_by"] == []


def test_what_brokers_support_is_said_shortly() -> None:
    assert describe_support(row_of(versions(1, 2), versions(1, 2))["brokers"]) == "1-2"
    mixed = row_of(versions(1, 2), ApiVersionsResponse(), versions(1, 2), None, versions(1, 1))
    assert describe_support(mixed["brokers"]) == "1 at 5; 1-2 at 1, 3; not running at 4; unknown at 2"


def test_the_table_says_what_to_do_next() -> None:
    out = drawn(lambda console: draw_features(console, {"epoch": 7, "features": [row_of(versions(1, 2))]}))
    assert "level 2: heads, pages and footers of format 2" in out
    assert f"tierlog cluster features upgrade {TIER_FORMAT}=2" in out
    held_up = row_of(versions(1, 2), ApiVersionsResponse())
    out = drawn(lambda console: draw_features(console, {"epoch": 7, "features": [held_up]}))
    assert "tierlog.tier.format can rise further once broker 2 runs the newer version too" in out
    changes = [{"feature": "f", "before": 1, "after": 2}]
    for dry_run, verb in ((True, "would rise"), (False, "has risen")):
        answer = {"dry_run": dry_run, "changes": changes, "held_up_by": [2]}
        out = drawn(lambda console, a=answer: draw_changes(console, a))  # type: ignore[misc]
        assert out == f"f {verb} from level 1 to 2\n"
    out = drawn(lambda console: draw_changes(console, {**answer, "changes": []}))
    assert out == "nothing to do: no level can rise; more can once broker 2 runs the newer version too\n"


def test_wishes() -> None:
    assert parse_wishes([], True) is None
    assert parse_wishes(["f=2", "g=1"], False) == {"f": 2, "g": 1}


@pytest.mark.parametrize(
    ("texts", "everything", "says"),
    [
        ([], False, "name FEATURE=LEVEL or give --all, one of the two"),
        (["f=2"], True, "name FEATURE=LEVEL or give --all, one of the two"),
        (["f"], False, "f: expected FEATURE=LEVEL"),
        (["f=two"], False, "f=two: a level is a number from 1 on"),
        (["f=0"], False, "f=0: a level is a number from 1 on"),
        (["f=40000"], False, "f=40000: a level is a number from 1 on"),
    ],
)
def test_wishes_that_are_none(texts: list[str], everything: bool, says: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_wishes(texts, everything)
    assert says in str(raised.value)
