"""docs/security.md: each row of the threat model names existing tests, and its example is valid."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from documents import ROOT, TEST, Block, defined, runs, table_of_tests
from tokens import SECRET

from videre.config import load
from videre.engines.histories import MAX_HISTORIES
from videre.transport.bodies import MAX_ADDRESS_BODIES, MAX_BODIES
from videre.transport.manager import MAX_BACKLOGS
from videre.transport.session import MAX_WAITING
from videre.transport.wire import MAX_UNFINISHED

TEXT = (ROOT / "docs/security.md").read_text(encoding="utf-8")
ROWS = table_of_tests("docs/security.md")


def test_the_table_is_read() -> None:
    """Without this check, all tests below would pass if it found no rows."""
    assert len(ROWS) > 30
    assert all(len(row) == 4 and all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_each_row_names_tests_that_exist(row: list[str]) -> None:
    """It names at least one test, and nothing else."""
    named = TEST.findall(row[3])
    assert named and TEST.sub("", row[3]).strip(", ") == ""
    for file, name in named:
        assert (ROOT / file).exists(), file
        assert name.startswith("test_") and name in defined(file), f"{file}::{name}"


@pytest.mark.parametrize(
    ("document", "about", "bound"),
    [
        ("security", "many WebSockets", MAX_UNFINISHED),
        ("security", "request bodies", MAX_BODIES),
        ("security", "request bodies", MAX_ADDRESS_BODIES),
        ("security", "their backlogs", MAX_BACKLOGS),
        ("security", "kept for others to resume", MAX_HISTORIES),
        ("configuration", "VIDERE_MAX_RESUME_BYTES", MAX_HISTORIES),
        ("cluster", "the Valkey hangs", MAX_WAITING),
    ],
)
def test_bounds_that_no_key_sets(document: str, about: str, bound: int) -> None:
    """A row of a table says how much memory all clients together may take of each kind."""
    text = (ROOT / f"docs/{document}.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("|") and about in line]
    assert f" {bound / 2**20:g} MiB " in row


@runs("docs/security.md", "VIDERE_SECRETS")
def test_the_example_is_a_good_configuration(block: Block, tmp_path: Path) -> None:
    """It is valid as written, with a secret in the environment; each key in it has an effect."""
    conf = tmp_path / "conf.json"
    conf.write_text(block.text)
    config = load(conf, environ={"VIDERE_SECRETS": SECRET.replace(" ", "-")})
    assert config.auth.required
    assert "*" not in config.transport.origins
    assert len(config.sources) == len(json.loads(block.text))


def test_no_address_is_invented() -> None:
    """Vulnerabilities are reported in the repository; every host in the text is an example."""
    assert "@" not in TEXT
    hosts = {host.removeprefix("www.") for host in re.findall(r"https?://([\w.-]+)", TEXT)}
    assert hosts <= {"example.com"}
