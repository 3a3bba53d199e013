"""docs/configuration.md: its table is generated from the settings."""

from __future__ import annotations

import re

import pytest
from process import ROOT

from videre.config import reference
from videre.config.environment import VARIABLES
from videre.config.schema import SCHEMA

DOCUMENT = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


def test_the_table_is_up_to_date() -> None:
    """`python -m videre.config.reference` would change nothing."""
    assert reference.written(DOCUMENT) == DOCUMENT


def test_it_has_every_key_and_variable() -> None:
    """A row for each key, with its variable."""
    rows = re.findall(r"^\| <a id=\"\w+\"></a>`(\w+)`<br>`(\w+)` \|", DOCUMENT, re.MULTILINE)
    assert {variable: key for key, variable in rows} == VARIABLES
    assert [key for key, _ in rows] == list(reference.SETTINGS)  # type: ignore[attr-defined]
    assert {key for key, _ in rows} == SCHEMA.keys()


def test_a_document_without_a_place_for_it() -> None:
    """It is refused, and not overwritten."""
    with pytest.raises(ValueError, match="no lines <!-- settings -->"):
        reference.written("# Configuration\n")
