"""What the README tells people to type names files that are there."""

from __future__ import annotations

import re
from pathlib import Path

from tierlog.broker.offload.bucket import url_problem

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "deploy/README.md").read_text()


def test_links_and_paths_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links and all((ROOT / "deploy" / each).exists() for each in links)
    paths = re.findall(r"\bdeploy/[\w/.@-]+\w", TEXT)
    assert paths and [each for each in paths if not (ROOT / each).exists()] == []
    named = re.findall(r"^\| `([\w.-]+)`", TEXT, re.MULTILINE)
    assert named and all((ROOT / "deploy/policies" / each).exists() for each in named)


def test_the_projects_readme_leads_here() -> None:
    assert "](deploy/README.md)" in (ROOT / "README.md").read_text()


def test_the_stores_of_the_projects_readme_can_be_opened() -> None:
    text = (ROOT / "README.md").read_text()
    urls = re.findall(r"^#?tierlog\.object\.store=(\S+)", text, re.MULTILINE)
    assert {url.partition(":")[0] for url in urls} == {"s3", "gs", "dir"} and len(urls) >= 5
    assert [problem for url in urls if (problem := url_problem(url)) is not None] == []
