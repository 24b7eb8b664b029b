"""The files that Kafka's users have: each is taken as it is, or everything in it that is wrong is said in one go.

In ``published/`` the comment ``# refused: TEXT`` stands above each line that is refused, and the error line says TEXT.
The keys and values are those that Kafka, its distributions and its plugins publish.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.tiered import figure
from tierlog.config.problems import WrongConfig
from tierlog.config.properties import load

FILES = sorted((Path(__file__).parent / "published").glob("*.properties"))
ENVIRONMENT = {"CERTS_STORE_PASSWORD": "hunter2", "MY_RACK_ID": "zone-a"}


def refused_lines(path: Path) -> dict[int, str]:
    """What the error of each wrong line says, by the line's number."""
    lines = path.read_text().splitlines()
    return {
        number: line.removeprefix("# refused: ")
        for number, line in enumerate(lines, 2)
        if line.startswith("# refused: ")
    }


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_each_starts_or_says_all_that_is_wrong(path: Path) -> None:
    expected = refused_lines(path)
    lines = [line.strip() for line in path.read_text().splitlines()]
    given = sum("=" in line and not line.startswith("#") for line in lines)
    figure(f"{path.name}: {given} properties, {len(expected)} of them refused by name")
    try:
        config = load(path, env=ENVIRONMENT)
    except WrongConfig as error:
        numbers = [int(line.split(":")[1]) for line in error.lines]
        assert numbers == list(expected), "\n".join(error.lines)
        for line, text in zip(error.lines, expected.values(), strict=True):
            assert line.startswith(f"{path.name}:") and text in line
            assert "did you mean" not in line
        assert "hunter2" not in str(error)
    else:
        assert not expected
        assert "hunter2" not in repr(config)


def test_there_are_files_of_all_of_them() -> None:
    assert len(FILES) >= 12
    assert sum(not refused_lines(path) for path in FILES) >= 6


def test_what_is_taken_without_effect_is_remarked() -> None:
    config = load(FILES[0].with_name("kafka-2.8-zookeeper.properties"))
    assert [remark.split(": ")[1] for remark in config.remarks] == [
        "zookeeper.connect",
        "zookeeper.connection.timeout.ms",
    ]
    assert all("removed in Kafka 4.0" in remark and "metadata.store" in remark for remark in config.remarks)
    assert "zookeeper.connect" in config.meaningless


def test_with_the_lines_gone_that_were_refused_a_file_is_taken(tmp_path: Path) -> None:
    """Nothing comes up late."""
    for path in FILES:
        wrong = refused_lines(path)
        lines = path.read_text().splitlines()
        copy = tmp_path / path.name
        kept = [line for number, line in enumerate(lines, 1) if number not in wrong]
        # The one unencrypted listener of several that stood in one line.
        kept += ["listeners=PLAIN-9092://:9092"] if path.stem == "strimzi" else []
        copy.write_text("\n".join(kept))
        load(copy, env=ENVIRONMENT)
