"""What a stranger reads before the code: change log, citation, licence; they say the same."""

import re
import tomllib
from hashlib import sha256
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

APACHE_2_WORDS = "0ffddef9e48f8a09aed5caf2d44f7ba1c1be2d9b8e0a6f693b1635b2d5566645"
"""Digest of the licence's words, so that line breaks and indents do not count."""


def test_the_change_log_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    entries = re.findall(r"^## \[(\S+)\] - (Unreleased|\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)
    assert entries and entries[0][0] == PROJECT["version"]
    assert len(entries) == len(re.findall("^## ", text, re.MULTILINE))
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"} and kinds


def test_the_change_log_names_every_command():
    from lorafuse_jax.cli import COMMANDS  # noqa: PLC0415 (the other tests need no jax)

    text = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in COMMANDS if not re.search(rf"`(lorafuse )?{name}`", text)] == []


def test_the_citation_has_what_its_format_asks_for_and_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    assert {"message", "title", "authors"} <= set(cited)
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert cited["authors"] == [{"name": "The lorafuse_jax authors"}]


def test_the_citation_names_the_paper():
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["title"] == "SeedLoRA: A Fusion Approach to Efficient LLM Fine-Tuning"
    where = (paper["year"], paper["volume"], int(paper["start"]), int(paper["end"]))
    assert where == (2025, 267, 38384, 38396)


def test_the_licence_is_apache_2_whole():
    words = " ".join((ROOT / "LICENSE").read_text().split())
    assert sha256(words.encode()).hexdigest() == APACHE_2_WORDS
